"""PreServe's scaling as its paper has it: a plan from forecast tokens, corrected by the load anticipator."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

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

CREDITED = "over:"
COUNT = "count:"
MEDIAN = 1


@dataclass(frozen=True, slots=True)
class PreservePaper:
    """Tier 1, as each window of W = `window_s` begins: `N = ceil(max(P / (mu_p W), D / (mu_d W), (P + D) / (mu_t W)))`.

    P and D are the window's forecast prompt and response tokens (medians), forecast while the one before runs; the mu
    are the pool's capability (Algorithm 1). With `ahead_s` the plan is taken so much earlier, so that a start is done
    when the window begins (the paper states nothing, so 0). Tier 2, at every decision: one instance more for each
    whose anticipated load is above 95 % in more than `overload_share` of the next 100 iterations, once per episode;
    where every instance's peak is below `underload_peak` = T_f it keeps `max(1, ceil(sum of peaks / T_f))`, once per
    window. No shrink while an instance is starting or not heard of. At a window's begin Tier 1 sets the number and
    Tier 2 may only add; within it only Tier 2 moves it. Source: PreServe (arXiv 2504.03702), Algorithms 1 and 2 as a
    public re-implementation states them (section 4 of our summary); the composition is that re-implementation's.
    `preserve_artifact` has the constants of the released code.
    """

    window_s: float = 600.0
    overload_share: float = 0.10
    underload_peak: float = 0.30
    ahead_s: float = 0.0

    def __post_init__(self) -> None:
        if self.window_s <= 0 or not 0 <= self.ahead_s < self.window_s:
            raise ValueError("window_s must be positive and ahead_s less than it, and not negative")
        if not (0 <= self.overload_share < 1 and 0 < self.underload_peak <= 1):
            raise ValueError("overload_share and underload_peak must be shares")

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
        """Both tiers for each pool."""
        unknown = [pool for pool in view.pools if not pool.capability.is_known]
        chosen = {pool.pool: self._choose(view, pool) for pool in view.pools if pool.capability.is_known}
        chosen |= {pool.pool: kept(pool, "what an instance can do is not known") for pool in unknown}
        return FleetChoice(chosen, warnings=tuple(map(not_profiled, unknown)))

    def _choose(self, view: FleetView, pool: PoolView) -> Choice:
        planned = self._planned(view, pool)
        window_us = self._window_us(pool.now_us + int(self.ahead_s * US_PER_S))
        is_begin = pool.memo.get("window_us") != window_us
        tier1 = planned.get(f"{COUNT}{window_us}") if is_begin else None
        count = pool.instances_wanted if tier1 is None else int(tier1)
        credited = {one.instance_id for one in pool.instances if f"{CREDITED}{one.instance_id}" in pool.memo}
        over = self._overloaded(pool, credited)
        fresh = len(over - credited)
        kept_count = self._underloaded(pool) if not (is_begin or fresh) else count
        shrinks = kept_count < count and pool.memo.get("shrunk_us") != window_us
        wanted = kept_count if shrinks else count + fresh
        memo = {**planned, "window_us": float(window_us), **{f"{CREDITED}{name}": 1.0 for name in over}}
        if shrinks or "shrunk_us" in pool.memo:
            memo["shrunk_us"] = float(window_us) if shrinks else pool.memo["shrunk_us"]
        inputs = {"overloaded_count": float(len(over)), "fresh_count": float(fresh), **_peaks(pool)}
        inputs |= {} if tier1 is None else {"tier1": tier1}
        return Choice(wanted, wanted, _reason(tier1, fresh, shrinks, wanted), inputs, memo)

    def _window_us(self, at_us: int) -> int:
        return at_us - at_us % int(self.window_s * US_PER_S)

    def _planned(self, view: FleetView, pool: PoolView) -> dict[str, float]:
        """Tier 1's numbers by the begin of their window: that of now as it was forecast before, and the next."""
        now = f"{COUNT}{self._window_us(pool.now_us)}"
        planned = {now: pool.memo[now]} if now in pool.memo else {}
        for window in view.forecast_of(pool)[:1]:
            rates = (window.prompt_tokens[MEDIAN] / self.window_s, window.response_tokens[MEDIAN] / self.window_s)
            planned[f"{COUNT}{window.start_us}"] = float(ceil(pool.capability.instances_for(*rates)))
        return planned

    def _overloaded(self, pool: PoolView, credited: set[str]) -> set[str]:
        """Those in an episode of overload; one that is not heard of goes on with its own."""
        over = {one.instance_id for one in pool.instances if one.pressure is None} & credited
        for one in pool.instances:
            if one.pressure is not None and one.pressure.over_share > self.overload_share:
                over.add(one.instance_id)
        return over

    def _underloaded(self, pool: PoolView) -> int:
        """How many are kept; all that there are while anybody's load is high or not known."""
        peaks = [one.pressure.peak_share for one in pool.instances if one.pressure is not None]
        is_whole = len(peaks) == len(pool.instances) == pool.ready_count and not pool.starting_count
        if not (peaks and is_whole and pool.kv_tokens) or max(peaks) >= self.underload_peak:
            return pool.instances_wanted
        return max(1, ceil(sum(peaks) / self.underload_peak))


def _peaks(pool: PoolView) -> Mapping[str, float]:
    peaks = [one.pressure.peak_share for one in pool.instances if one.pressure is not None]
    return {"peak_highest": max(peaks), "peak_sum": sum(peaks)} if peaks else {}


def _reason(tier1: float | None, fresh: int, shrinks: bool, wanted: int) -> str:
    text = "" if tier1 is None else f"a window begins, whose forecast asks for {tier1:.0f}"
    if fresh:
        return f"{text}{', and ' if text else ''}{fresh} instances are newly overloaded"
    if shrinks:
        return f"every instance's peak is low: {wanted} would carry them"
    return text or "within the window nothing is newly overloaded, and not all are idle"
