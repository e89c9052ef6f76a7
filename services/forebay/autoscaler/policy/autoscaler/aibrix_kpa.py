"""AIBrix' form of Knative's autoscaler: longer windows, a band around the target, and a test of its own for panic."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, floor

from forebay.autoscaler.policy.autoscaler.base import Choice, Needs, PerPool, PoolView
from forebay.core.units import US_PER_S

CALM = -1.0


@dataclass(frozen=True, slots=True)
class AibrixKpa(PerPool):
    """Panic begins when `panic mean / stable mean > panic_threshold`, and not by instances as Knative's does.

    Both wishes are `ceil(mean / target)` within the rates, or what is wanted now while the mean of an instance is
    within `tolerance` of the target. In panic the highest wish since it began holds, until the test has failed for a
    stable window; a shrink waits until nothing higher was recommended for `scale_down_cooldown_s`. Source:
    vllm-project/aibrix, KPA (windows 180 and 60 s, rates 2, cool-down 300 s). Its code also enters panic where the
    stable mean is 0, which keeps an idle fleet as large as it is: `panics_when_idle` does that.
    """

    stable_window_s: float = 180.0
    panic_window_s: float = 60.0
    panic_threshold: float = 2.0
    tolerance: float = 0.1
    scale_up_rate_max: float = 2.0
    scale_down_rate_max: float = 2.0
    scale_down_cooldown_s: float = 300.0
    panics_when_idle: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.panic_window_s <= self.stable_window_s:
            raise ValueError("panic_window_s must be positive and not longer than stable_window_s")
        if min(self.scale_up_rate_max, self.scale_down_rate_max, self.panic_threshold) <= 1:
            raise ValueError("scale_up_rate_max, scale_down_rate_max and panic_threshold must be above 1")
        if self.tolerance < 0 or self.scale_down_cooldown_s < 0:
            raise ValueError("tolerance and scale_down_cooldown_s must not be negative")

    @property
    def needs(self) -> Needs:
        """The longer of the stable window and the cool-down."""
        return Needs(history_us=int(max(self.stable_window_s, self.scale_down_cooldown_s) * US_PER_S))

    def choose(self, view: PoolView) -> Choice:
        """The stable wish, in panic the highest since it began; never below what the cool-down holds."""
        stable_mean = view.concurrency_mean(int(self.stable_window_s * US_PER_S))
        panic_mean = view.concurrency_mean(int(self.panic_window_s * US_PER_S))
        stable, panic = self._wish(view, stable_mean), self._wish(view, panic_mean)
        memo = self._memo(view, stable_mean, panic_mean, max(stable, panic))
        panicking = memo["crossed_us"] != CALM
        recommended = int(memo["highest"]) if panicking else stable
        wanted = self._cooled(view, recommended)
        inputs = {"stable_mean": stable_mean, "panic_mean": panic_mean, "panicking": float(panicking)}
        reason = (
            f"{stable_mean:.1f} requests over {self.stable_window_s:g} s and {panic_mean:.1f} over "
            f"{self.panic_window_s:g} s{' in panic' if panicking else ''} ask for {recommended}"
        )
        if wanted > recommended:
            reason += f"; the cool-down of {self.scale_down_cooldown_s:g} s keeps {wanted}"
        return Choice(wanted, recommended, reason, inputs, memo)

    def _wish(self, view: PoolView, mean: float) -> int:
        count = view.standing_count
        ratio = mean / (view.concurrency_target * max(1, count))
        if count and 1.0 - self.tolerance <= ratio <= 1.0 + self.tolerance:
            return count
        most, fewest = ceil(self.scale_up_rate_max * max(1, count)), floor(count / self.scale_down_rate_max)
        return min(max(ceil(mean / view.concurrency_target), fewest), most)

    def _memo(self, view: PoolView, stable_mean: float, panic_mean: float, highest: int) -> Mapping[str, float]:
        crossed_us = view.memo.get("crossed_us", CALM)
        if self._crosses(stable_mean, panic_mean):
            return {"crossed_us": float(view.now_us), "highest": max(highest, view.memo.get("highest", 0.0))}
        if crossed_us == CALM or view.now_us - crossed_us > self.stable_window_s * US_PER_S:
            return {"crossed_us": CALM, "highest": 0.0}
        return {"crossed_us": crossed_us, "highest": max(highest, view.memo["highest"])}

    def _crosses(self, stable_mean: float, panic_mean: float) -> bool:
        if stable_mean <= 0:
            return self.panics_when_idle or panic_mean > 0
        return panic_mean / stable_mean > self.panic_threshold

    def _cooled(self, view: PoolView, recommended: int) -> int:
        since_us = view.now_us - int(self.scale_down_cooldown_s * US_PER_S)
        recent = [int(count) for at_us, count in view.recommendations if at_us > since_us]
        return max(recommended, min(view.instances_wanted, max([recommended, *recent])))
