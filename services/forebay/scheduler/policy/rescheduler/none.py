"""Moves nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

from forebay.scheduler.policy.rescheduler.base import Move, RescheduleView


@dataclass(frozen=True, slots=True)
class NoMoves:
    """Is never asked: requests stay where they were put."""

    @property
    def period_s(self) -> float:
        """Never."""
        return 0.0

    def moves(self, view: RescheduleView) -> Sequence[Move]:
        """None."""
        return ()
