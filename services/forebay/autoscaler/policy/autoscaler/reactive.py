"""SageServe's reactive baseline: one instance more when the caches are full, one less when they are empty."""

from dataclasses import dataclass

from forebay.autoscaler.planning.utilization import utilization
from forebay.autoscaler.policy.autoscaler.base import Choice, Needs, PerPool, PoolView
from forebay.core.units import US_PER_S

HISTORY_US = 60 * US_PER_S
"""Without metrics for so long the plan holds."""


@dataclass(frozen=True, slots=True)
class Reactive(PerPool):
    """Every `step_s`: one more above `out_above`, one less below `in_below`, by the share of the caches in use.

    After an instance was added the next action waits `wait_share` of what a start takes (65 or 155 s in the published
    code). Pools by role (`interactive`, `batch`) are the siloed arm, one mixed pool the unified one. SageServe's
    summary, section 6; the published code has 0.50 and 0.25.
    """

    out_above: float = 0.70
    in_below: float = 0.30
    step_s: float = 15.0
    wait_share: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.in_below < self.out_above:
            raise ValueError("in_below must be from 0 to less than out_above")
        if self.step_s <= 0 or self.wait_share < 0:
            raise ValueError("step_s must be positive and wait_share not negative")

    @property
    def needs(self) -> Needs:
        """Fresh metrics."""
        return Needs(history_us=HISTORY_US)

    def choose(self, view: PoolView) -> Choice:
        """What is there, one more or one less."""
        wanted, memo = view.instances_wanted, dict(view.memo)
        used = utilization((one.load, view.kv_tokens) for one in view.instances)
        if not view.active_count and view.concurrency and view.concurrency[-1][1] > 0:
            # Somebody waits for a pool that is empty.
            used = 1.0
        inputs = {"utilization": -1.0 if used is None else used, "active_count": float(view.active_count)}
        if used is None:
            return Choice(wanted, wanted, "no server tells how full its cache is", inputs, memo)
        # What was just begun is empty for other reasons.
        due_us = memo.setdefault("due_us", view.now_us + self.step_s * US_PER_S)
        change = int(used > self.out_above) - int(used < self.in_below)
        text = f"{used:.0%} of the caches are in use"
        # What a limit keeps from being there must not keep the pool from shrinking.
        settled = view.active_count == wanted or (change < 0 and view.active_count < wanted)
        if not change or not settled or view.now_us < due_us:
            text += f", from {self.in_below:.0%} to {self.out_above:.0%}" if not change else "; the next step waits"
            return Choice(wanted, wanted, text, inputs, memo, self._flip(used))
        wait_us = self.step_s * US_PER_S + (self.wait_share * view.lead.p50_us if change > 0 else 0.0)
        memo["due_us"] = view.now_us + wait_us
        return Choice(max(0, wanted + change), wanted + change, text, inputs, memo, self._flip(used))

    def _flip(self, used: float) -> str:
        return f"one more above {self.out_above:.0%}, one less below {self.in_below:.0%}; now {used:.0%}"
