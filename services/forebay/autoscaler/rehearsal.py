"""One decision on a copy of all that is known: what would be done, without doing it."""

from typing import TYPE_CHECKING

from forebay.autoscaler.forecasts import Forecasts
from forebay.core.fleet import PoolAdvice
from forebay.core.pressure import Pressure

if TYPE_CHECKING:
    from forebay.autoscaler.plan import Plan
    from forebay.autoscaler.sizing import Sizing


class Rehearsal:
    """Owns the copy `sizing`, so that it may run in another thread than the engine that it is from.

    The decision is made by the same code that makes it in earnest: limits, budget and the pools' claims on each other
    are those of the next tick.
    """

    def __init__(self, sizing: "Sizing") -> None:
        self._sizing = sizing

    def hear(self, pressure: Pressure, at_us: int) -> None:
        """What the scheduler said at a time, before the decision; the engine was not told."""
        self._sizing.feel(pressure, at_us)

    def run(self, forecasts: Forecasts, now_us: int) -> tuple[tuple[PoolAdvice, ...], tuple[str, ...]]:
        """What would be done to each pool, by name, and the policy's warnings. To be called once."""
        sizing = self._sizing
        before = {name: self._count(plan) for name, plan in sizing.plans.items()}
        sizing.choose(forecasts, now_us)
        sizing.resize(now_us)
        advice = tuple(self._advice(plan, before[name]) for name, plan in sorted(sizing.plans.items()))
        return advice, sizing.warnings

    def _count(self, plan: "Plan") -> int:
        """The instances of a pool, or how many its starters are told to have."""
        return self._sizing.counts(plan.config.pool_name).active if plan.told is None else plan.told

    def _advice(self, plan: "Plan", before: int) -> PoolAdvice:
        return PoolAdvice(
            model=plan.config.name,
            pool=plan.config.pool,
            instances_before=before,
            instances_wanted=plan.wish,
            instances_after=self._count(plan),
            bound_by=plan.bound_by,
            reason=plan.reason,
            flip=plan.flip,
            inputs=dict(plan.inputs),
        )
