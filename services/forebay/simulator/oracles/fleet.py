"""An autoscaler that follows a schedule made by somebody who knows the trace."""

from dataclasses import dataclass

from forebay.autoscaler.policy.autoscaler.base import Choice, Needs, PerPool, PoolView
from forebay.core.units import US_PER_S


@dataclass(frozen=True, slots=True)
class Step:
    """From `at_s` on, the pool of the model has `instances`; without a `pool` it is the one named as the model."""

    model: str = ""
    at_s: float = 0.0
    instances: int = 0
    pool: str = ""

    @property
    def place(self) -> str:
        """The name of the pool."""
        return self.pool or self.model


@dataclass(frozen=True, slots=True)
class ScheduledFleet(PerPool):
    """Wants what the schedule says, and what it will say within `lead_s`, so that instances are ready in time.

    Before the first step of a pool, and without any, it wants the initial number.
    """

    steps: tuple[Step, ...] = ()
    lead_s: float = 0.0

    def __post_init__(self) -> None:
        times = [(one.place, one.at_s) for one in self.steps]
        if times != sorted(times):
            raise ValueError("steps must stand by pool and time")

    @property
    def needs(self) -> Needs:
        """Nothing: it knows."""
        return Needs()

    def choose(self, view: PoolView) -> Choice:
        """The most that the schedule asks for from now until `lead_s` later."""
        now_s = view.now_us / US_PER_S
        mine = [one for one in self.steps if one.place == (view.pool or view.model)]
        known = [one.instances for one in mine if one.at_s <= now_s][-1:] or [view.instances_initial]
        ahead = [one.instances for one in mine if now_s < one.at_s <= now_s + self.lead_s]
        wanted = max(known + ahead)
        inputs = {"scheduled": float(known[0]), "ahead": float(max(ahead, default=known[0]))}
        return Choice(wanted, wanted, f"the schedule has {known[0]} now and {wanted} within {self.lead_s:g} s", inputs)
