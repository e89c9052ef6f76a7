"""Admits everything."""

from dataclasses import dataclass
from typing import ClassVar

from forebay.scheduler.policy.admission.base import ADMITTED, AdmissionView, Admitted


@dataclass(frozen=True, slots=True)
class Open:
    """Admits every arrival; only the bound of the queue limits what is held."""

    looks: ClassVar[bool] = False

    def admit(self, view: AdmissionView) -> Admitted:
        """Always now."""
        return ADMITTED
