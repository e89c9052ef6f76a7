"""Knative's pod autoscaler: a stable window for calm times and a short panic window that only scales up."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, floor

from forebay.autoscaler.policy.autoscaler.base import Choice, Needs, PerPool, PoolView
from forebay.core.units import US_PER_S

CALM = -1


@dataclass(frozen=True, slots=True)
class _Panic:
    """When the panic threshold was last crossed (CALM: no panic), and the highest wish since the panic began."""

    crossed_us: int = CALM
    highest: int = 0

    @property
    def panicking(self) -> bool:
        return self.crossed_us != CALM


@dataclass(frozen=True, slots=True)
class Kpa(PerPool):
    """With r = max(1, ready), up = ceil(rate_up * r) and down = floor(r / rate_down):

    `stable = clamp(ceil(mean over the stable window / target), down, up)`, `panic` the same over the panic window.
    Panic begins when `ceil(panic mean / target) / r >= panic_threshold` and ends when that has not held for a stable
    window; meanwhile the answer is the highest of both since it began. The answer is the highest over
    `scale_down_delay_s`. Without a memory of its own (a restart) a fleet of more than one begins in panic, so that it
    is not scaled down on too little history. Source: knative/serving, pkg/autoscaler/scaling/autoscaler.go.
    """

    stable_window_s: float = 60.0
    panic_window_s: float = 6.0
    panic_threshold: float = 2.0
    scale_up_rate_max: float = 1000.0
    scale_down_rate_max: float = 2.0
    scale_down_delay_s: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.panic_window_s <= self.stable_window_s:
            raise ValueError("panic_window_s must be positive and not longer than stable_window_s")
        if self.scale_up_rate_max <= 1 or self.scale_down_rate_max <= 1 or self.panic_threshold <= 1:
            raise ValueError("scale_up_rate_max, scale_down_rate_max and panic_threshold must be above 1")
        if self.scale_down_delay_s < 0:
            raise ValueError("scale_down_delay_s must not be negative")

    @property
    def needs(self) -> Needs:
        """The longer of the stable window and the delay."""
        return Needs(history_us=int(max(self.stable_window_s, self.scale_down_delay_s) * US_PER_S))

    def choose(self, view: PoolView) -> Choice:
        """The stable wish, or in panic the highest of both since it began."""
        ready = max(1, view.ready_count)
        stable_mean = view.concurrency_mean(int(self.stable_window_s * US_PER_S))
        panic_mean = view.concurrency_mean(int(self.panic_window_s * US_PER_S))
        pressure = ceil(panic_mean / view.concurrency_target) / ready
        stable = self._clamped(stable_mean / view.concurrency_target, ready)
        panic = self._clamped(panic_mean / view.concurrency_target, ready)
        state = self._state(view, pressure >= self.panic_threshold)
        if state.panicking:
            state = _Panic(state.crossed_us, max(stable, panic, state.highest))
        recommended = state.highest if state.panicking else stable
        wanted = self._delayed(view, recommended)
        inputs = {
            "ready_count": float(view.ready_count),
            "stable_mean": stable_mean,
            "panic_mean": panic_mean,
            "target": view.concurrency_target,
            "stable": float(stable),
            "panic": float(panic),
            "pressure": pressure,
            "panicking": float(state.panicking),
        }
        return Choice(wanted, recommended, self._reason(inputs, recommended, wanted), inputs, _memo(state))

    def _clamped(self, ratio: float, ready: int) -> int:
        most, fewest = ceil(self.scale_up_rate_max * ready), floor(ready / self.scale_down_rate_max)
        return min(max(ceil(ratio), fewest), most)

    def _state(self, view: PoolView, crossed: bool) -> _Panic:
        state = _restored(view)
        if crossed:
            return _Panic(view.now_us, state.highest)
        calm = not state.panicking or view.now_us - state.crossed_us > int(self.stable_window_s * US_PER_S)
        return _Panic() if calm else state

    def _delayed(self, view: PoolView, recommended: int) -> int:
        since_us = view.now_us - int(self.scale_down_delay_s * US_PER_S)
        return max([recommended, *(int(count) for at_us, count in view.recommendations if at_us > since_us)])

    def _reason(self, inputs: Mapping[str, float], recommended: int, wanted: int) -> str:
        text = (
            f"{inputs['stable_mean']:.1f} requests over {self.stable_window_s:g} s and {inputs['panic_mean']:.1f} over "
            f"{self.panic_window_s:g} s at {inputs['target']:g} an instance"
        )
        if inputs["panicking"]:
            text += f"; in panic the highest wish of {recommended} holds"
        if wanted > recommended:
            text += f"; the delay of {self.scale_down_delay_s:g} s keeps {wanted}"
        return text


def _restored(view: PoolView) -> _Panic:
    if view.memo:
        return _Panic(int(view.memo["crossed_us"]), int(view.memo["highest"]))
    return _Panic(view.now_us, view.ready_count) if view.ready_count > 1 else _Panic()


def _memo(state: _Panic) -> Mapping[str, float]:
    return {"crossed_us": float(state.crossed_us), "highest": float(state.highest)}
