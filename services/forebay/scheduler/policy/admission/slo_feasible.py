"""Admits what can still be in time."""

from dataclasses import dataclass
from typing import ClassVar

from forebay.scheduler.policy.admission.base import AdmissionView, Admitted, Later, in_time


@dataclass(frozen=True, slots=True)
class SloFeasible:
    """Refuses an arrival that would wait longer than it has time until its first token is due, or its whole answer.

    The wait is that in the order which the active orderer keeps: a gate that takes all held work for work ahead refuses
    urgent requests that would have passed it (section 4 of the summary of related work). `margin` multiplies the wait:
    above 1 more are refused. Who is refused comes back when the wait has shrunk to its time, if nobody else comes.
    """

    looks_ahead: ClassVar[bool] = True

    margin: float = 1.0

    def __post_init__(self) -> None:
        if self.margin < 0:
            raise ValueError("margin must not be negative")

    def admit(self, view: AdmissionView) -> Admitted | Later:
        """Now, or when it would be in time."""
        return in_time(view, self.margin)
