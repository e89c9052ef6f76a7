"""Plans nothing."""

from dataclasses import dataclass

from forebay.scheduler.policy.planner.base import Grouping, PlanView


@dataclass(frozen=True, slots=True)
class NoPlan:
    """Is never asked: orderer and router decide alone."""

    @property
    def grouping(self) -> Grouping:
        """Never."""
        return Grouping()

    def plan(self, view: PlanView) -> None:
        """No plan."""
