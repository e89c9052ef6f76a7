"""PreServe's scaling as its released code has it: other constants, freezes, an emergency, the higher of two wishes."""

from dataclasses import dataclass, replace
from math import ceil, floor

from forebay.autoscaler.policy.autoscaler.base import (
    Choice,
    FleetChoice,
    FleetView,
    Needs,
    PoolView,
    kept,
    not_profiled,
)
from forebay.core.units import US_PER_S

MEDIAN = 1


@dataclass(frozen=True, slots=True)
class _State:
    """What is remembered: both wishes, and until when who is frozen."""

    workload: float = 0.0
    lookahead: float = 0.0
    window_us: float = -1.0
    period_us: float = -1.0
    workload_frozen_us: float = 0.0
    lookahead_frozen_us: float = 0.0
    locked_us: float = 0.0
    emergency_us: float = 0.0


@dataclass(frozen=True, slots=True)
class PreserveArtifact:
    """Two wishes, and `N* = ceil(max(workload, lookahead))` of them.

    Workload, every `window_s`, with n = max(p / mu_p, d / mu_d, (p + d) / mu_t) of the forecast and N instances:
    `ceil(n + pad_up)` where that is above N, `ceil(n + pad_down)` where that is below, then frozen. Look-ahead, every
    `period_s`, with rho the mean over instances of the anticipated peak: +1 above `high`, +2 above `higher`, -1 below
    `low`, then frozen. Emergency: above `emergency` and not within `emergency_periods` periods of the last one it jumps
    to `floor(rho N / emergency_target)`, N those that are ready, whatever is frozen. After each change nothing else
    changes for `freeze_s`: what is wished meanwhile is dropped. Where it differs from the paper's rules it is as
    the code (sections 4 and 8 of our summary of arXiv 2504.03702): W 20 s of a trace that runs 24 times as fast,
    forecast two windows ahead (the window after the one that runs), mean peaks instead of an overload share,
    padding, freezes. `low` is 0.20 for code and 0.15 for chat. Ours: no shrink while an instance is starting or not
    heard of; the scheduler's horizon of 100 iterations stands for the code's 200.
    """

    window_s: float = 20.0
    period_s: float = 5.0
    pad_up: float = 0.2
    pad_down: float = 0.3
    high: float = 0.70
    higher: float = 0.85
    low: float = 0.15
    emergency: float = 0.80
    emergency_target: float = 0.40
    emergency_periods: int = 3
    freeze_s: float = 60.0

    def __post_init__(self) -> None:
        if not 0 < self.period_s <= self.window_s or self.freeze_s < 0 or self.emergency_periods < 0:
            raise ValueError("needs 0 < period_s <= window_s, and freeze_s and emergency_periods not negative")
        if not (0 <= self.low < self.high <= self.higher and 0 < self.emergency_target <= self.emergency):
            raise ValueError("needs low < high <= higher, and emergency_target up to emergency")

    @property
    def needs(self) -> Needs:
        """The next window's forecast, and what the scheduler anticipates."""
        return Needs(
            history_us=US_PER_S,
            forecast_window_us=int(self.window_s * US_PER_S),
            forecast_count=1,
            by_demand=True,
            pressure=True,
        )

    def plan(self, view: FleetView) -> FleetChoice:
        """Both wishes for each pool."""
        unknown = [pool for pool in view.pools if not pool.capability.is_known]
        chosen = {pool.pool: self._choose(view, pool) for pool in view.pools if pool.capability.is_known}
        chosen |= {pool.pool: kept(pool, "what an instance can do is not known") for pool in unknown}
        return FleetChoice(chosen, warnings=tuple(map(not_profiled, unknown)))

    def _choose(self, view: FleetView, pool: PoolView) -> Choice:
        count, now_us = pool.standing_count, pool.now_us
        before = _State(**pool.memo) if pool.memo else _State(float(count), float(count))
        peaks = [one.pressure.peak_share for one in pool.instances if one.pressure is not None]
        rho = sum(peaks) / len(peaks) if peaks else None
        needed = self._needed(view, pool)
        state = self._workload(before, pool, needed)
        is_whole = len(peaks) == len(pool.instances) and bool(pool.kv_tokens) and not pool.starting_count
        state = self._lookahead(state, pool, rho, is_whole)
        wanted = ceil(max(state.workload, state.lookahead))
        if rho is not None and rho > self.emergency and now_us >= state.emergency_us:
            wanted = pool.bounded(max(wanted, floor(rho * len(peaks) / self.emergency_target)))
            again_us = now_us + self.emergency_periods * self.period_s * US_PER_S
            state = replace(state, emergency_us=again_us, lookahead=float(wanted))
        elif now_us < state.locked_us or (wanted < count and not is_whole):
            # Dropped, not kept for later: what is wished is told anew from what is there.
            wanted = count
            state = replace(state, lookahead=float(count))
        if wanted != count:
            state = replace(state, locked_us=now_us + self.freeze_s * US_PER_S)
        inputs = {"workload": state.workload, "lookahead": state.lookahead}
        inputs |= {"rho": rho} if rho is not None else {}
        inputs |= {"needed": needed} if needed is not None else {}
        memo = {name: float(getattr(state, name)) for name in _State.__dataclass_fields__}
        return Choice(wanted, wanted, _reason(state, rho, wanted, count, now_us), inputs, memo)

    def _needed(self, view: FleetView, pool: PoolView) -> float | None:
        for window in view.forecast_of(pool)[:1]:
            rates = (window.prompt_tokens[MEDIAN] / self.window_s, window.response_tokens[MEDIAN] / self.window_s)
            return pool.capability.instances_for(*rates)
        return None

    def _workload(self, state: _State, pool: PoolView, needed: float | None) -> _State:
        window_us = float(pool.now_us - pool.now_us % int(self.window_s * US_PER_S))
        if needed is None or window_us == state.window_us or pool.now_us < state.workload_frozen_us:
            return state
        count, wish = pool.standing_count, None
        if ceil(needed + self.pad_up) > count:
            wish = ceil(needed + self.pad_up)
        elif ceil(needed + self.pad_down) < count:
            wish = ceil(needed + self.pad_down)
        state = replace(state, window_us=window_us)
        if wish is None:
            return replace(state, workload=float(count))
        frozen_us = pool.now_us + self.freeze_s * US_PER_S
        return replace(state, workload=float(wish), workload_frozen_us=frozen_us)

    def _lookahead(self, state: _State, pool: PoolView, rho: float | None, is_whole: bool) -> _State:
        period_us = float(pool.now_us - pool.now_us % int(self.period_s * US_PER_S))
        if rho is None or period_us == state.period_us or pool.now_us < state.lookahead_frozen_us:
            return state
        step = 2 if rho > self.higher else 1 if rho > self.high else -1 if rho < self.low and is_whole else 0
        state = replace(state, period_us=period_us, lookahead=float(max(0, pool.standing_count + step)))
        if not step:
            return state
        return replace(state, lookahead_frozen_us=pool.now_us + self.freeze_s * US_PER_S)


def _reason(state: _State, rho: float | None, wanted: int, count: int, now_us: int) -> str:
    text = f"the forecast wants {state.workload:.0f}, and the look-ahead {state.lookahead:.0f}"
    if rho is not None:
        text += f" at a mean peak of {rho:.2f}"
    if wanted == count and now_us < state.locked_us:
        text += "; frozen since the last change"
    return text
