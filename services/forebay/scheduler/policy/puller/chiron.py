"""Chiron's local autoscaler: how many requests an instance may run, from what latency and throughput push back."""

from dataclasses import dataclass
from math import ceil, floor

from forebay.core.values import InstanceRole
from forebay.scheduler.policy.puller.base import UNLIMITED, Measured, PullView


@dataclass(frozen=True, slots=True)
class Chiron:
    """Moves an instance's level, the most requests in flight there, against its back-pressure at each step.

    Latency pushes back with `itl / itl_slo`, the pace of the class with the tightest promise that ran there over that
    promise; throughput with the tokens a second of a level that is clearly smaller over those of this one. The larger
    of the two, BP, moves the level to `level * clip(1 / BP, shrink_min, growth_max)`, of which `smoothing` is done at
    once. A step in which the level was not reached, or that measured nothing, says nothing and changes nothing. The
    level stays between 1 and what engine and cache hold. (Chiron's summary, section 4: the two pressures as reported,
    their form unchecked; `step_s`, `smoothing`, the clip and `start_count` are ours.)

    With `evicts` the cap of a mixed instance is twice its level, half for deferred work that the engine can move to
    the host's memory; router `chiron` must have `evicts` too and tells the halves apart.
    """

    step_s: float = 2.0
    start_count: int = 64
    smoothing: float = 0.5
    shrink_min: float = 0.5
    growth_max: float = 2.0
    evicts: bool = False

    def __post_init__(self) -> None:
        if not 0.1 <= self.step_s <= 3_600:
            raise ValueError("step_s must be 0.1 to 3,600")
        if self.start_count < 1:
            raise ValueError("start_count must be at least 1")
        if not (0 < self.smoothing <= 1 and 0 < self.shrink_min <= 1 <= self.growth_max):
            raise ValueError("smoothing and shrink_min must be above 0 and at most 1, growth_max at least 1")

    def cap(self, view: PullView) -> int:
        """The level, or two of them where deferred work can be evicted."""
        levels = 2 if self.evicts and view.role is InstanceRole.MIXED else 1
        level = view.cap // levels or self.start_count
        seen = view.measured
        if seen is not None and seen.peak_count >= level:
            level = self._moved(level, seen)
        most = min(view.concurrency_max or UNLIMITED, view.kv_count_max or UNLIMITED)
        return levels * max(1, min(level, most))

    def _moved(self, level: int, seen: Measured) -> int:
        pressure = max(seen.latency_pressure, seen.throughput_pressure)
        if pressure <= 0:
            return level
        target = level * min(max(1 / pressure, self.shrink_min), self.growth_max)
        moved = level + self.smoothing * (target - level)
        return ceil(moved) if moved > level else floor(moved)
