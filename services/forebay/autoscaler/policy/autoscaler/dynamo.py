"""Dynamo's planner: a slow loop for what is expected, a quick one for what is seen, or fixed targets."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, expm1, inf, log1p
from typing import NamedTuple

from forebay.autoscaler.policy.autoscaler.base import (
    Choice,
    FleetChoice,
    FleetView,
    InstanceView,
    Needs,
    PoolView,
    kept,
    not_profiled,
)
from forebay.core.promises import Promise
from forebay.core.units import US_PER_S
from forebay.core.values import SloClass

TARGETS = ("sla", "throughput", "latency")
PREDICTORS = ("constant", "kalman", "forecast")
FORMS = ("planner", "v1.0")
BANDS = {"throughput": ((1.0, 0.1), (1.0, 0.6)), "latency": ((0.1, 0.0), (0.4, 0.1))}
"""Of the queue of prompts and of the cache: above the first number one more, at the second and below one fewer."""
TTFT_S, ITL_S = 0.5, 0.05
"""Dynamo's own promises."""
SURVIVES = 0.8
"""What of a promise those that stay may use once one has left."""
MS_PER_S = 1_000.0
SERIES = ("requests", "prompt", "answer")
POINT_COUNT_MIN = 5
LEVEL_NOISE, TREND_NOISE, NOISE, UNSURE = 1.0, 0.1, 10.0, 1_000.0


class _Traffic(NamedTuple):
    """Requests of one window, and their mean lengths."""

    requests: float
    prompt: float
    answer: float


class _Limits(NamedTuple):
    """What the quick loop holds to, in seconds."""

    ttft_s: float
    itl_s: float


class _Times(NamedTuple):
    """Predicted, in seconds: the prompt alone, until the first token, a step."""

    own_s: float
    ttft_s: float
    itl_s: float


class _Engine(NamedTuple):
    """One instance as the quick loop sees it: prompt tokens that wait, and tokens in use and to come in its cache."""

    queue_tokens: float
    kv_tokens: float


@dataclass(frozen=True, slots=True)
class Dynamo:
    """`target` "sla": every `window_s` `replicas = max(ceil(expected requests a second / engine_rps), replicas_min)`,
    engine_rps from the pool's capability at the expected lengths (the least of its three rates over tokens).

    `predictor` "constant" expects what came last. "kalman" filters level and trend of requests, prompt and answer
    length (F = [[1, 1], [0, 1]], Q = diag(1, 0.1), R = 10, P0 = 1000 I, in use from 5 points; `uses_log` in log1p).
    "forecast" takes the predictor's: with its `auto_arima` or `mstl` (for Prophet) these are Dynamo's other two. With
    `has_load_loop` that number is only the least, and every `load_s` one more starts where all instances are predicted
    above a promise, one leaves where each survives N / (N - 1) of its load; nothing while a change is under way.
    `ttft_s` and `itl_s` 0 take the promise of the fast class.
    `form` "v1.0" is the older one: `max(ceil(req isl / s min(1, c) / mu_p), ceil(req osl / s / mu_d))`, c = seen /
    expected time to the first token.

    `target` "throughput" and "latency": every `load_s` one more where any instance is above a fixed share (prompts that
    wait over `context_tokens`, tokens scheduled and queued over the cache), one fewer where all are at the lower one or
    below.

    Source: ai-dynamo/dynamo, components/src/dynamo/planner, as our notes restate it. Ours: one pool for prefill and
    decode, so the most of both; a step's time in proportion to the tokens in the cache, at the promise where the
    capability is reached; the filter's first state (the first value, no trend); answers as long as predicted.
    """

    target: str = "sla"
    predictor: str = "constant"
    form: str = "planner"
    has_load_loop: bool = False
    uses_log: bool = False
    window_s: float = 180.0
    load_s: float = 5.0
    ttft_s: float = 0.0
    itl_s: float = 0.0
    context_tokens: float = 8_192.0
    replicas_min: int = 1

    def __post_init__(self) -> None:
        for name, known in (("target", TARGETS), ("predictor", PREDICTORS), ("form", FORMS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, not {getattr(self, name)!r}")
        if min(self.window_s, self.load_s, self.context_tokens) <= 0:
            raise ValueError("windows and context_tokens must be positive")
        if min(self.ttft_s, self.itl_s, self.replicas_min) < 0:
            raise ValueError("ttft_s, itl_s and replicas_min must not be negative")

    @property
    def needs(self) -> Needs:
        """Arrivals by demand for the slow loop, and a forecast where it takes one."""
        if self.target != "sla":
            return Needs(history_us=int(self.load_s * US_PER_S), by_demand=True)
        window_us = int(self.window_s * US_PER_S)
        if self.predictor != "forecast":
            return Needs(history_us=window_us, by_demand=True)
        return Needs(history_us=window_us, forecast_window_us=window_us, forecast_count=1, by_demand=True)

    def plan(self, view: FleetView) -> FleetChoice:
        """Each pool by itself."""
        if self.target != "sla":
            return FleetChoice({pool.pool: self._static(pool) for pool in view.pools})
        unknown = [pool for pool in view.pools if not pool.capability.is_known]
        chosen = {pool.pool: self._sla(view, pool) for pool in view.pools if pool.capability.is_known}
        chosen |= {pool.pool: kept(pool, "what an instance can do is not known") for pool in unknown}
        return FleetChoice(chosen, warnings=tuple(map(not_profiled, unknown)))

    # The slow loop

    def _sla(self, view: FleetView, pool: PoolView) -> Choice:
        window_us = float(pool.now_us - pool.now_us % int(self.window_s * US_PER_S))
        memo = dict(pool.memo)
        begins = memo.get("window_us") != window_us
        if begins and "window_us" in memo:
            self._observe(view, pool, memo, window_us)
        memo["window_us"] = window_us
        self._remember(view, pool, memo)
        least = int(memo["least"]) if "least" in memo else None
        wanted = pool.standing_count if least is None else max(pool.standing_count, least)
        text = "no window is over yet" if least is None else f"{memo['expected']:.2f} requests/s are expected"
        if not self.has_load_loop:
            wanted = pool.instances_wanted if least is None else least
        elif wanted == pool.standing_count:
            step, why = self._step(view, pool, memo)
            wanted, text = pool.bounded(max(wanted + step, least or 0)), f"{text}; {why}"
        inputs = {name: memo[name] for name in ("expected", "least", *SERIES) if name in memo}
        return Choice(wanted, wanted, text, inputs, memo)

    def _observe(self, view: FleetView, pool: PoolView, memo: dict[str, float], window_us: float) -> None:
        """A window has ended: what is expected of the one that begins gives the least number."""
        seen = self._seen(view, pool, memo)
        if seen is not None:
            for name, value in zip(SERIES, seen, strict=True):
                self._filter(memo, name, value)
            memo |= dict(zip(SERIES, seen, strict=True))
        expected = self._expected(memo, window_us)
        if expected is None:
            return
        memo["expected"] = expected.requests / self.window_s
        prompts, answers = (memo["expected"] * tokens for tokens in (expected.prompt, expected.answer))
        needed = pool.capability.instances_for(prompts, answers)
        if self.form == "v1.0":
            own_s = expected.prompt / pool.capability.prompt_tokens_per_s
            factor = min(1.0, pool.load.ttft_p50_s / own_s) if own_s and pool.load.ttft_p50_s else 1.0
            rates = pool.capability
            needed = max(prompts * factor / rates.prompt_tokens_per_s, answers / rates.response_tokens_per_s)
        memo["least"] = float(max(ceil(needed), self.replicas_min))

    def _seen(self, view: FleetView, pool: PoolView, memo: Mapping[str, float]) -> _Traffic | None:
        """What came to this pool in the window that has ended; lengths of the last one that had any."""
        rates = [
            (view.share(pool, one), one.rate(int(self.window_s * US_PER_S)))
            for one in view.demands
            if one.model == pool.model
        ]
        if not rates:
            return None
        requests = sum(share * rate.request_count for share, rate in rates)
        if not requests:
            return _Traffic(0.0, memo.get("prompt", 0.0), memo.get("answer", 0.0))
        prompt = sum(share * rate.prompt_tokens for share, rate in rates) / requests
        answer = sum(share * rate.response_tokens for share, rate in rates) / requests
        return _Traffic(requests * self.window_s, prompt, answer)

    def _remember(self, view: FleetView, pool: PoolView, memo: dict[str, float]) -> None:
        """Keeps the forecast of the next window for when it begins."""
        if self.predictor != "forecast":
            return
        for window in view.forecast_of(pool)[:1]:
            requests = window.requests[1]
            lengths = (one[1] / requests if requests else 0.0 for one in (window.prompt_tokens, window.response_tokens))
            memo |= dict(zip((f"next:{name}" for name in SERIES), (requests, *lengths), strict=True))
            memo["next_us"] = float(window.start_us)

    def _expected(self, memo: Mapping[str, float], window_us: float) -> _Traffic | None:
        if self.predictor == "forecast":
            known = memo.get("next_us") == window_us
            return _Traffic(*(memo[f"next:{name}"] for name in SERIES)) if known else None
        if "requests" not in memo:
            return None
        if self.predictor == "constant":
            return _Traffic(*(memo[name] for name in SERIES))
        return _Traffic(*(self._filtered(memo, name) for name in SERIES))

    # The filter: level and trend, and the three different numbers of their covariance

    def _filter(self, memo: dict[str, float], name: str, value: float) -> None:
        if self.predictor != "kalman" or (not value and f"{name}:count" not in memo):
            return
        point = log1p(value) if self.uses_log else value
        count = memo.get(f"{name}:count", 0.0)
        level, trend = memo.get(f"{name}:level", point), memo.get(f"{name}:trend", 0.0)
        a, b, d = (memo.get(f"{name}:{part}", start) for part, start in (("a", UNSURE), ("b", 0.0), ("d", UNSURE)))
        if count:
            level, a, b, d = level + trend, a + 2 * b + d + LEVEL_NOISE, b + d, d + TREND_NOISE
        gain, slope, off = a / (a + NOISE), b / (a + NOISE), point - level
        state = (level + gain * off, trend + slope * off, (1 - gain) * a, (1 - gain) * b, d - slope * b, count + 1)
        memo |= dict(zip((f"{name}:{part}" for part in ("level", "trend", "a", "b", "d", "count")), state, strict=True))

    def _filtered(self, memo: Mapping[str, float], name: str) -> float:
        if memo.get(f"{name}:count", 0.0) < POINT_COUNT_MIN:
            return memo[name]
        value = memo[f"{name}:level"] + memo[f"{name}:trend"]
        return max(0.0, expm1(value) if self.uses_log else value)

    # The quick loop

    def _step(self, view: FleetView, pool: PoolView, memo: dict[str, float]) -> tuple[int, str]:
        if pool.now_us - memo.get("load_us", -inf) < self.load_s * US_PER_S or "requests" not in memo:
            return 0, "the load is looked at later"
        memo["load_us"] = float(pool.now_us)
        engines = [_engine(pool, one, memo["prompt"]) for one in pool.instances]
        known = [one for one in engines if one is not None]
        if not known or _is_changing(pool):
            return 0, "nobody tells the load" if not known else "a change is under way"
        limits = self._limits(view)
        if all(self._is_late(pool, one, memo, limits) for one in known):
            return 1, "all instances are predicted above a promise"
        count = len(engines)
        survives = len(known) == count > 1 and all(self._survives(pool, one, memo, limits, count) for one in known)
        return (-1, "one fewer would keep the promises") if survives else (0, "the load keeps the number")

    def _limits(self, view: FleetView) -> _Limits:
        """The promises of the fast class where none are given, and Dynamo's own where there are none."""
        promise = view.promises.get(SloClass.INTERACTIVE_FAST, Promise())
        return _Limits(
            self.ttft_s or promise.ttft_s or TTFT_S,
            self.itl_s or promise.tpot_ms / MS_PER_S or ITL_S,
        )

    def _times(self, pool: PoolView, one: _Engine, memo: Mapping[str, float], itl_max_s: float) -> _Times:
        """What is predicted."""
        own_s = memo["prompt"] / pool.capability.prompt_tokens_per_s
        seats = pool.capability.response_tokens_per_s * itl_max_s
        full = seats * (memo["prompt"] + memo["answer"] / 2)
        itl_s = itl_max_s * one.kv_tokens / full if full else 0.0
        return _Times(own_s, own_s + one.queue_tokens / pool.capability.prompt_tokens_per_s, itl_s)

    def _is_late(self, pool: PoolView, one: _Engine, memo: Mapping[str, float], limits: _Limits) -> bool:
        times = self._times(pool, one, memo, limits.itl_s)
        # Where a prompt alone takes longer than was promised, more instances do not help.
        return times.own_s < limits.ttft_s < times.ttft_s or times.itl_s > limits.itl_s

    def _survives(self, pool: PoolView, one: _Engine, memo: Mapping[str, float], limits: _Limits, count: int) -> bool:
        more = count / (count - 1)
        times = self._times(pool, _Engine(one.queue_tokens * more, one.kv_tokens * more), memo, limits.itl_s)
        fits = not pool.kv_tokens or one.kv_tokens * more < pool.kv_tokens
        room_s = max(0.0, limits.ttft_s - times.own_s) * SURVIVES
        is_early = times.ttft_s - times.own_s < room_s or not one.queue_tokens
        return fits and is_early and times.itl_s < SURVIVES * limits.itl_s

    # Fixed targets

    def _static(self, pool: PoolView) -> Choice:
        if pool.now_us - pool.memo.get("load_us", -inf) < self.load_s * US_PER_S:
            return kept(pool, f"the load is looked at every {self.load_s:g} s")
        ended = pool.load.ended_count
        prompt = pool.load.prompt_tokens / ended if ended else pool.memo.get("prompt", 0.0)
        engines = [_engine(pool, one, prompt) for one in pool.instances]
        known = [one for one in engines if one is not None]
        shares = [(one.queue_tokens / self.context_tokens, one.kv_tokens / (pool.kv_tokens or inf)) for one in known]
        highs, lows = zip(*BANDS[self.target], strict=True)
        is_above = any(share > high for one in shares for share, high in zip(one, highs, strict=True))
        is_below = all(share <= low for one in shares for share, low in zip(one, lows, strict=True))
        wanted, text = pool.standing_count, "between the targets"
        if _is_changing(pool):
            text = "a change is under way"
        elif is_above or (not pool.active_count and pool.load.held_count):
            wanted, text = pool.bounded(wanted + 1), "an instance is above its target"
        elif is_below and 0 < len(known) == len(engines) and wanted > self.replicas_min:
            wanted, text = pool.bounded(wanted - 1), "all instances are below their targets"
        inputs = (
            {"queue_share": max(one[0] for one in shares), "kv_share": max(one[1] for one in shares)} if shares else {}
        )
        return Choice(wanted, wanted, text, inputs, {"load_us": float(pool.now_us), "prompt": prompt})


def _is_changing(pool: PoolView) -> bool:
    return bool(pool.starting_count or pool.draining_count)


def _engine(pool: PoolView, one: InstanceView, prompt: float) -> _Engine | None:
    """What one instance has to do; None where nobody tells."""
    if one.load is None or one.load.kv_utilization is None:
        return None
    waiting = (one.load.waiting_count or 0) * prompt
    queue = float(one.pressure.prefill_tokens) if one.pressure is not None else waiting
    return _Engine(queue, one.load.kv_utilization * pool.kv_tokens + queue)
