"""Kubernetes' horizontal pod autoscaler: the ratio of observed to target load, calmed by a tolerance and a window."""

from dataclasses import dataclass
from math import ceil

from forebay.autoscaler.policy.autoscaler.base import Choice, Needs, PerPool, PoolView
from forebay.core.units import US_PER_S


@dataclass(frozen=True, slots=True)
class HpaRatio(PerPool):
    """`n' = ceil(n * value / target)`, unchanged while value / target is within `tolerance` of 1.

    The value is the mean concurrency an instance over `window_s`. The highest recommendation of the last
    `stabilization_s` holds a fleet up, never above what it has. Source: Kubernetes documentation, "Horizontal Pod
    Autoscaling", algorithm details (tolerance 0.1, downscale stabilization 300 s).
    """

    tolerance: float = 0.1
    window_s: float = 15.0
    stabilization_s: float = 300.0

    def __post_init__(self) -> None:
        if self.tolerance < 0 or self.window_s <= 0 or self.stabilization_s < 0:
            raise ValueError("tolerance and stabilization_s must not be negative and window_s must be positive")

    @property
    def needs(self) -> Needs:
        """The longer of both windows."""
        return Needs(history_us=int(max(self.window_s, self.stabilization_s) * US_PER_S))

    def choose(self, view: PoolView) -> Choice:
        """The ratio's recommendation, held up by the window."""
        mean = view.concurrency_mean(int(self.window_s * US_PER_S))
        current = view.instances_wanted
        ratio = mean / (view.concurrency_target * max(1, current))
        near = current > 0 and 1.0 - self.tolerance <= ratio <= 1.0 + self.tolerance
        recommended = current if near else ceil(mean / view.concurrency_target)
        wanted = self._stabilized(view, recommended)
        inputs = {
            "concurrency_mean": mean,
            "target": view.concurrency_target,
            "ratio": ratio,
            "recommended": float(recommended),
        }
        return Choice(wanted, recommended, self._reason(mean, ratio, near, recommended, wanted), inputs)

    def _stabilized(self, view: PoolView, recommended: int) -> int:
        since_us = view.now_us - int(self.stabilization_s * US_PER_S)
        recent = [int(count) for at_us, count in view.recommendations if at_us > since_us]
        highest = max([recommended, *recent])
        return max(recommended, min(view.instances_wanted, highest))

    def _reason(self, mean: float, ratio: float, near: bool, recommended: int, wanted: int) -> str:
        text = f"{mean:.1f} requests on average are {ratio:.2f} of the target"
        if near:
            text += f", within the tolerance of {self.tolerance:g}"
        if wanted > recommended:
            text += f"; {recommended} would do, but the last {self.stabilization_s:g} s needed {wanted}"
        return text
