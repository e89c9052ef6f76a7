"""Priority first: every request of a tighter class before any of a looser one."""

from dataclasses import dataclass

from forebay.scheduler.policy.orderer.base import Keys, OrderView, banded


@dataclass(frozen=True, slots=True)
class Pf:
    """Ranks by class, inside a class by arrival (SageServe, section 10 of its summary); deferred work may starve."""

    def rank(self, view: OrderView) -> Keys:
        """The class as a band, arrival relative to now inside it."""
        return banded(view.slo_class, view.arrived_us - view.now_us)
