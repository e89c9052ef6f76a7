"""AIBrix' pod autoscaler: the ratio of observed to target load with a band in which nothing changes."""

from dataclasses import dataclass
from math import ceil, floor

from forebay.autoscaler.policy.autoscaler.base import Choice, Needs, PerPool, PoolView
from forebay.core.units import US_PER_S


@dataclass(frozen=True, slots=True)
class AibrixApa(PerPool):
    """With q = load of an instance / target and n instances wanted now:

    `q > 1 + up_tolerance -> min(ceil(n q), ceil(rate_up n))`, `q < 1 - down_tolerance -> max(ceil(n q), floor(n /
    rate_down))`, otherwise n. From none it takes `ceil(load / target)`. Source: vllm-project/aibrix, APA (bands 0.1 and
    rates 2 are its defaults; the mean over `window_s` is ours).
    """

    up_tolerance: float = 0.1
    down_tolerance: float = 0.1
    scale_up_rate_max: float = 2.0
    scale_down_rate_max: float = 2.0
    window_s: float = 60.0

    def __post_init__(self) -> None:
        if min(self.up_tolerance, self.down_tolerance) < 0 or self.window_s <= 0:
            raise ValueError("tolerances must not be negative and window_s must be positive")
        if min(self.scale_up_rate_max, self.scale_down_rate_max) <= 1:
            raise ValueError("scale_up_rate_max and scale_down_rate_max must be above 1")

    @property
    def needs(self) -> Needs:
        """The window."""
        return Needs(history_us=int(self.window_s * US_PER_S))

    def choose(self, view: PoolView) -> Choice:
        """The ratio, held to the band and the rates."""
        count = view.standing_count
        mean = view.concurrency_mean(int(self.window_s * US_PER_S))
        ratio = mean / (view.concurrency_target * max(1, count))
        wanted = self._wanted(count, ratio, ceil(mean / view.concurrency_target))
        reason = f"{mean:.1f} requests on average are {ratio:.2f} of the target of {count} instances"
        inputs = {"concurrency_mean": mean, "ratio": ratio, "target": view.concurrency_target}
        return Choice(wanted, wanted, reason, inputs)

    def _wanted(self, count: int, ratio: float, needed: int) -> int:
        if count == 0:
            return needed
        if ratio > 1 + self.up_tolerance:
            return min(needed, ceil(self.scale_up_rate_max * count))
        if ratio < 1 - self.down_tolerance:
            return max(needed, floor(count / self.scale_down_rate_max))
        return count
