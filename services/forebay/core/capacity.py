"""How many requests a second one instance takes before its promises break, for a mix of lengths.

A decoding request is served at a pace that depends on how many others decode beside it, so the number of them is a
birth-death chain: processor sharing with state-dependent speed, whose distribution depends on the lengths by their mean
alone (Kelly, Reversibility and Stochastic Networks, 1979, section 3.3). Prompts wait for each other as in an M/G/1
queue, and slow the decodes that share iterations with them. Arrivals are taken to be Poisson; what is burstier than
that takes more room. All of it is ours; benchmarks/capability.py says how far it is from the simulator.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from forebay.core.instance import EngineProfile, compute_profile, parse_profile_name
from forebay.core.instance.profile import PAIR_SHIFT
from forebay.core.prediction import QUANTILE_LEVELS
from forebay.core.units import PS_PER_S

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Samples: TypeAlias = Sequence[int] | Sequence[float] | Floats | Ints

Z_KV = 1.5
"""Standard deviations of room that the caches of a full batch have: 7 in 100 batches of that size do not fit."""
GRID_COUNTS = (6, 5)
"""Rates tried at once: first between none and the most, then between the last that holds and the next."""
STATES = (0.125, 0.5, 0.8, 0.95, 0.995)
"""Quantiles of the batch at which the pace is looked at, and what share of the time each stands for."""
_STATE_WEIGHTS = np.array((0.3, 0.375, 0.22, 0.085, 0.02))
POWER = 3.0
"""How few requests the tiers at both ends hold: of eight, the last has three in a thousand."""
_LEVELS = 9
_TINY = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class Mix:
    """Requests by length: points of prompt and response tokens, and what share of the requests each stands for.

    `part` is what the points are of all requests, where some were left out.
    """

    prompt_tokens: Floats
    response_tokens: Floats
    shares: Floats
    part: float = 1.0

    @staticmethod
    def of_samples(prompts: Samples, responses: Samples, point_count: int = 64) -> "Mix":
        """The mix of pairs that were seen, in about `point_count` points that keep the tails of both lengths.

        Raises ValueError without any, or for lists of unequal length.
        """
        prompt, response = np.asarray(prompts, dtype=np.float64), np.asarray(responses, dtype=np.float64)
        if not len(prompt) or len(prompt) != len(response):
            raise ValueError("a mix needs as many prompts as responses, and at least one")
        if len(prompt) <= point_count:
            return Mix(prompt, response, np.full(len(prompt), 1.0 / len(prompt)))
        # Prompts have the longer tails, and a few long ones make everybody else late.
        rows = max(1, round(math.sqrt(0.75 * point_count)))
        columns = max(1, point_count // rows)
        by_response = _tiers(response, rows)
        cells = by_response * columns
        for tier in range(rows):
            mine = by_response == tier
            cells[mine] += _tiers(prompt[mine], columns)
        counts = np.bincount(cells)
        used = counts > 0
        means = [np.bincount(cells, column)[used] / counts[used] for column in (prompt, response)]
        return Mix(means[0], means[1], counts[used] / len(prompt))

    @staticmethod
    def of_quantiles(prompt: Sequence[float], response: Sequence[float]) -> "Mix":
        """The mix of two independent lengths given by their p10, p50, p90 and p97, as forecasts tell them."""
        one, other = _curve(prompt), _curve(response)
        grid = np.meshgrid(one, other)
        return Mix(grid[0].ravel(), grid[1].ravel(), np.full(len(one) * len(other), 1.0 / (len(one) * len(other))))

    def up_to(self, tokens: int) -> "Mix | None":
        """Those requests whose prompt and response together are no longer than that; None where there are none."""
        inside = self.prompt_tokens + self.response_tokens <= tokens
        if inside.all():
            return self
        part = float(self.shares[inside].sum())
        if part <= 0:
            return None
        columns = (self.prompt_tokens[inside], self.response_tokens[inside], self.shares[inside] / part)
        return Mix(*columns, self.part * part)

    def draw(self, count: int, seed: int) -> tuple[Ints, Ints]:
        """Prompt and response tokens of so many requests of the mix."""
        picked = np.random.default_rng(seed).choice(len(self.shares), count, p=self.shares / self.shares.sum())
        columns = (self.prompt_tokens[picked], self.response_tokens[picked])
        prompts, responses = (np.maximum(np.rint(one), 1).astype(np.int64) for one in columns)
        return prompts, responses

    @property
    def prompt_mean(self) -> float:
        """Mean prompt in tokens."""
        return float(self.prompt_tokens @ self.shares)

    @property
    def response_mean(self) -> float:
        """Mean response in tokens."""
        return float(self.response_tokens @ self.shares)


@dataclass(frozen=True, slots=True)
class ServiceLevel:
    """What a share `share` of the requests is promised, in seconds; 0: nothing.

    `ttft_s` until the first token, `itl_s` between tokens on average over a response, `e2e_s` until the last token.
    Without any promise an instance may be as busy as `utilisation_max`.
    """

    ttft_s: float = 0.0
    itl_s: float = 0.0
    e2e_s: float = 0.0
    share: float = 0.99
    utilisation_max: float = 0.95


@dataclass(frozen=True, slots=True)
class Load:
    """One instance at a steady rate: tokens a second, expected batch and latencies in seconds, and who keeps promises.

    `limit` is what would break first if more came: "itl" (the pace of a full batch), "kv" (the cache), "seats",
    "compute" (prompts wait for each other, or the engine has no time left), or "ttft" and "e2e" where a promise cannot
    be kept on an idle instance either.
    """

    requests_per_s: float
    prompt_tokens_per_s: float
    response_tokens_per_s: float
    limit: str
    batch_mean: float
    itl_s: float
    ttft_s: float
    attainment: float
    kv_share: float
    utilisation: float

    @property
    def tokens_per_s(self) -> float:
        """Prompt and response together."""
        return self.prompt_tokens_per_s + self.response_tokens_per_s


@lru_cache(maxsize=64)
def engine_of(name: str, seats: int = 0, kv_tokens: int = 0, max_batch_tokens: int = 2_048) -> "Engine":
    """The engine of a profile of the catalog, GPU/MODEL/tpN; 0 takes the usual limits. Kept, so ask as often as needed.

    Raises ValueError for names that are not known.
    """
    parts = parse_profile_name(name)
    profile = compute_profile(*parts, max_seqs=seats or 256, max_batch_tokens=max_batch_tokens)
    return Engine(profile, seats, kv_tokens)


class Engine:
    """What one instance can do, from its profile; `seats` and `kv_tokens` 0 take the profile's."""

    def __init__(self, profile: EngineProfile, seats: int = 0, kv_tokens: int = 0) -> None:
        self.profile = profile
        self.seats = min(seats or profile.max_seqs, profile.max_batch_tokens - 1)
        self.kv_tokens = kv_tokens or profile.block_count * profile.block_size
        self.table_s = np.array(profile.iteration_ps, dtype=np.float64) / PS_PER_S

    def capacity(self, mix: Mix, level: ServiceLevel) -> Load:
        """The highest steady rate at which the promises hold, and what the instance is like at it.

        Requests that never fit the cache are refused and miss. The rate is 0 where the promises cannot be kept at any.
        """
        served = mix.up_to(self.kv_tokens)
        if served is None or served.part < level.share * mix.part:
            return _nothing("kv")
        return self._capacity(served, replace(level, share=level.share * mix.part / served.part))

    def _capacity(self, mix: Mix, level: ServiceLevel) -> Load:
        state = _Steady(self, mix, level)
        if not (level.ttft_s or level.itl_s or level.e2e_s):
            return state.load(level.utilisation_max * state.rate_max)
        low, high = 1e-4 * state.rate_max, state.rate_max
        for count in GRID_COUNTS:
            rates = np.linspace(low, high, count + 1)
            judged = state.judge(rates)
            kept = judged.attainment >= level.share
            if not kept[0]:
                return _nothing(judged.idle_limit)
            if kept.all():
                return state.load(high)
            first = int(kept.argmin())
            low, high = float(rates[first - 1]), float(rates[first])
        more, less = judged.attainment[first - 1], judged.attainment[first]
        return state.load(low + (high - low) * float((more - level.share) / (more - less)))

    def load_at(self, mix: Mix, requests_per_s: float, level: ServiceLevel = ServiceLevel()) -> Load:
        """What the instance is like at a rate; where that is more than it can do, at the most that it can."""
        served = mix.up_to(self.kv_tokens)
        if served is None:
            return _nothing("kv")
        state = _Steady(self, served, level)
        return state.load(min(requests_per_s * served.part, state.rate_max))


@dataclass(frozen=True, slots=True, eq=False)
class _Queue:
    """Prompts that wait for each other, an entry a rate: the share of time that they take, the mean wait of those that
    wait, and each point's own seconds to its first token."""

    busy: Floats
    wait_s: Floats
    alone_s: Floats


@dataclass(frozen=True, slots=True, eq=False)
class _Judged:
    """One entry a rate."""

    attainment: Floats
    batch: Floats
    itl_s: Floats
    ttft_s: Floats
    slow: Floats
    late_prompt: Floats
    late_seat: Floats
    idle_limit: str


class _Steady:
    """The steady state of an engine under a mix, at any rates."""

    def __init__(self, engine: Engine, mix: Mix, level: ServiceLevel) -> None:
        self._engine, self._mix, self._level = engine, mix, level
        self._gaps = np.maximum(mix.response_tokens - 1.0, 0.0)
        self._gap_mean = max(float(self._gaps @ mix.shares), 1e-9)
        self._caches()
        self.seat_count = int(min(engine.seats, self._kv_seats))
        self._paces()

    def _caches(self) -> None:
        """Context that decodes read on average, and how many caches fit beside each other."""
        prompt, gaps, shares = self._mix.prompt_tokens, self._gaps, self._mix.shares
        self.context = float(((gaps * prompt + gaps * np.maximum(gaps - 1, 0) / 2) @ shares) / self._gap_mean)
        rounding = self._engine.profile.block_size / 2
        mean = self.context + 1 + rounding
        square = float(((gaps * prompt**2 + prompt * gaps**2 + gaps**3 / 3) @ shares) / self._gap_mean)
        deviation = math.sqrt(max(square - self.context**2, 0.0))
        # A prompt that is being computed holds its cache too, and long ones do so for longer.
        room = max(self._engine.kv_tokens - 0.5 * float(prompt**2 @ shares / (prompt @ shares)), mean)
        # n * mean + Z * sqrt(n) * deviation = room, solved for the root of n.
        root = (-Z_KV * deviation + math.sqrt((Z_KV * deviation) ** 2 + 4 * mean * room)) / (2 * mean)
        self._kv_mean = mean
        self._kv_seats = max(1, math.floor(root * root))

    def _paces(self) -> None:
        """Seconds of an iteration without prompts, and what a request's prompt adds, by how many decode.

        Alone, the last chunk of a prompt is an iteration of its own; in a queue, all iterations are full. What is in
        between goes by the share of time that prompts take.
        """
        profile, shares = self._engine.profile, self._mix.shares
        counts = np.arange(1, self.seat_count + 1, dtype=np.float64)
        per_decode = (profile.decode_ps + profile.context_token_ps * self.context) / PS_PER_S
        self._counts = counts
        self._decode_s = self._engine.table_s[1 : self.seat_count + 1] + per_decode * counts
        steps = np.unique(np.round(np.geomspace(1, self.seat_count, 14)).astype(np.int64))
        self._grid = np.concatenate(([0], steps))
        plain_s = np.where(self._grid > 0, self._engine.table_s[self._grid] + per_decode * self._grid, 0.0)
        extra_s, chunks, whole, queued_s = self._prompts(self._grid, plain_s)
        self._alone_s, self._queued_s, self._plain_s = extra_s + whole * plain_s[:, None], queued_s, plain_s
        in_queue_s = queued_s - chunks * plain_s[:, None]
        self._work_s, self._square = queued_s @ shares, queued_s**2 @ shares
        self._longest_s = in_queue_s @ shares / (chunks @ shares)
        points = (extra_s @ shares, in_queue_s @ shares, self._work_s, self._square, self._longest_s)
        self._slope_s = np.gradient(self._decode_s) if self.seat_count > 1 else np.zeros(1)
        self._by_count = [np.interp(counts, self._grid, one) for one in points]

    def _prompts(self, decodes: Ints, plain_s: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        """For each count of decodes and each point of the mix: the seconds that the prompt adds alone, its share of
        full iterations and its iterations alone, and the seconds of its full iterations, decodes included."""
        profile, table_s = self._engine.profile, self._engine.table_s
        prompt = self._mix.prompt_tokens[None, :]
        count = decodes[:, None].astype(np.float64)
        budget = profile.max_batch_tokens - count
        full = np.floor(prompt / budget)
        rest = prompt - full * budget
        place = np.minimum(np.rint(rest) + count, profile.max_batch_tokens).astype(np.int64)
        bare_s = table_s[decodes][:, None]
        linear_s = full * (table_s[-1] - bare_s) + (rest > 0) * (table_s[place] - bare_s)
        fixed = profile.half_pair_fixed * prompt * (prompt + 1) + profile.prefill_token_fixed * prompt
        own_s = (fixed / (1 << PAIR_SHIFT) + profile.mixed_pair_ps * count * prompt) / PS_PER_S
        each_s = (profile.prefill_ps + profile.mixed_context_token_ps * self.context * count) / PS_PER_S
        whole, chunks = full + (rest > 0), prompt / budget
        queued_s = chunks * (table_s[-1] - bare_s + plain_s[:, None] + each_s) + own_s
        return linear_s + whole * each_s + own_s, chunks, whole, queued_s

    @cached_property
    def rate_max(self) -> float:
        """Above it requests pile up without end: a full batch ends fewer than arrive, or prompts take all the time."""
        _, extra_s, work_s, _, _ = self._by_count
        ends = self._counts / (self._decode_s * self._gap_mean + self._counts * extra_s)
        both = np.minimum(ends, 1.0 / work_s)
        self._prompts_bind = bool(both.argmax() < self.seat_count - 1)
        return float(both.max()) * 0.9999 if self._gap_mean > 1e-6 else 0.9999 / float(self._work_s[0])

    def judge(self, rates: Floats) -> _Judged:
        """What each rate does."""
        alone_s, queued_s, work_s, *_ = self._by_count
        busy = np.minimum(rates[:, None] * work_s, 1.0)
        extra_s = alone_s + busy * (queued_s - alone_s)
        free = np.maximum(1.0 - rates[:, None] * extra_s, 1e-6)
        shares, ends = self._batches(rates, free)
        batch = shares[:, 1:] @ self._counts
        queue = self._queue(rates, batch)
        late_prompt, late_seat, ttft_s = self._late(rates, queue, shares[:, -1], ends)
        slow, itl_s = self._slow(rates, shares, free, queue, ttft_s)
        weights, level = self._mix.shares, self._level
        late = np.minimum(1.0, late_prompt + late_seat)
        attained = ((1.0 - late) * (1.0 - slow)) @ weights
        hopeless = level.ttft_s and float((queue.alone_s[0] > level.ttft_s) @ weights) > 1 - level.share
        alone = "ttft" if hopeless else "e2e" if not level.itl_s else "itl"
        means = [one @ weights for one in (ttft_s, slow, late_prompt, late_seat)]
        return _Judged(attained, batch, itl_s, means[0], means[1], means[2], means[3], alone)

    def _batches(self, rates: Floats, free: Floats) -> tuple[Floats, Floats]:
        """The share of time with each number of decodes, a row a rate; and the rate of ends of a full batch."""
        ends = self._counts * free / (self._decode_s * self._gap_mean)
        logs = np.cumsum(np.log(rates)[:, None] - np.log(ends), axis=1)
        logs = np.concatenate((np.zeros((len(rates), 1)), logs), axis=1)
        weights = np.exp(logs - logs.max(axis=1, keepdims=True))
        full = np.maximum(ends[:, -1], rates * (1 + 1e-9))
        # Who waits for a seat: a geometric tail behind the full batch.
        weights[:, -1] /= np.maximum(1.0 - rates / full, 1e-9)
        return weights / weights.sum(axis=1, keepdims=True), full

    def _queue(self, rates: Floats, batch: Floats) -> "_Queue":
        """How prompts wait for each other at mean batches, by Pollaczek and Khinchine; rows are rates."""
        upper = np.clip(np.searchsorted(self._grid, batch), 1, len(self._grid) - 1)
        low, high = self._grid[upper - 1], self._grid[upper]
        part = np.clip((batch - low) / (high - low), 0.0, 1.0)

        def at(table: Floats) -> Floats:
            share = part.reshape(-1, *(1,) * (table.ndim - 1))
            mixed: Floats = table[upper - 1] * (1 - share) + table[upper] * share
            return mixed

        work = at(self._work_s)
        busy = np.minimum(rates * work, 0.9999)
        # An iteration that runs already has to end, and one that ends a prompt is full where others wait.
        half_s = 0.5 * (at(self._plain_s) * (1.0 - np.exp(-batch)) + busy * at(self._longest_s))
        return _Queue(busy, at(self._square) / (2 * work * (1 - busy)), at(self._alone_s) + half_s[:, None])

    def _late(self, rates: Floats, queue: "_Queue", full: Floats, ends: Floats) -> tuple[Floats, Floats, Floats]:
        """The chance that each point's first token is late: for other prompts, or for a seat; and its mean time."""
        drain = np.maximum(ends - rates, 1e-9)
        ttft_s = queue.alone_s + (queue.busy * queue.wait_s + full / drain)[:, None]
        if not self._level.ttft_s:
            nobody = np.zeros_like(ttft_s)
            return nobody, nobody, ttft_s
        left_s = self._level.ttft_s - queue.alone_s
        possible = np.maximum(left_s, 0.0)
        waits = queue.busy[:, None] * np.exp(-possible / queue.wait_s[:, None])
        # Behind a very long prompt all wait, which no exponential tells (Pakes 1975).
        longer = np.maximum(queue.alone_s[:, None, :] - possible[:, :, None], 0.0) @ self._mix.shares
        waits = np.maximum(waits, np.minimum(1.0, (rates / (1.0 - queue.busy))[:, None] * longer))
        return np.where(left_s < 0, 1.0, waits), full[:, None] * np.exp(-possible * drain[:, None]), ttft_s

    def _slow(
        self, rates: Floats, shares: Floats, free: Floats, queue: "_Queue", ttft_s: Floats
    ) -> tuple[Floats, Floats]:
        """The chance that each point's tokens come too slowly, and the mean time between tokens.

        Between two tokens prompts take what those take that came in the meantime and, at the beginning, those that
        wait when the first token comes. An iteration is never longer than a full one.
        """
        seen = shares[:, 1:] * self._counts
        seen = seen / np.maximum(seen.sum(axis=1, keepdims=True), 1e-300)
        itl_s = (seen * (self._decode_s / free)).sum(axis=1)
        if not (self._level.itl_s or self._level.e2e_s):
            return np.zeros((len(rates), len(self._gaps))), itl_s
        below = np.cumsum(seen, axis=1)
        places = np.stack([(below < level).sum(axis=1) for level in STATES], axis=1)
        places = np.minimum(places, self.seat_count - 1)[:, :, None]
        row = np.arange(len(rates))[:, None, None]
        plain_s, idle = self._decode_s[places], free[row, places]
        _, _, work_s, square, longest_s = (np.maximum(one[places], _TINY) for one in self._by_count)
        slope_s = self._slope_s[places]
        gaps, rate = np.maximum(self._gaps, 1.0), rates[:, None, None]
        span_s = plain_s / idle * gaps
        room = self._limit_s(ttft_s)[:, None, :] - plain_s
        # What is left in the queue costs decodes only what full iterations take beyond plain ones.
        slowing = longest_s / (longest_s + plain_s) / idle
        mean_s = work_s * slowing
        busy = queue.busy[:, None, None]
        left_s = busy * queue.wait_s[:, None, None] * slowing + mean_s
        # A prompt that comes late in a short response does not slow enough of it.
        late = np.clip(room / longest_s, 0.0, 1.0) * np.minimum(1.0, square / work_s / (gaps * longest_s))
        count = rate * span_s * (1.0 - late)
        mean = count * mean_s + busy * left_s
        # Who comes in the meantime slows twice: by its prompt, and as one more in the batch for half the time.
        beside = slope_s * gaps / idle
        variance = count * (square * slowing**2 + mean_s * beside) + busy * (2 - busy) * left_s**2
        some = 1.0 - (1.0 - busy) * np.exp(-count)
        slow = _tail(room * gaps, mean, variance, some)
        slow = np.where(room >= longest_s, 0.0, slow)
        return np.where(self._gaps > 0, np.einsum("rsp,s->rp", slow, _STATE_WEIGHTS), 0.0), itl_s

    def _limit_s(self, ttft_s: Floats) -> Floats:
        """The longest mean time between tokens of each point: promised, or what its end leaves."""
        level = self._level
        limit = np.full_like(ttft_s, level.itl_s or math.inf)
        if not level.e2e_s:
            return limit
        return np.minimum(limit, (level.e2e_s - ttft_s) / np.maximum(self._gaps, 1.0))

    def load(self, rate: float) -> Load:
        """What the instance is like at one rate below `rate_max`."""
        if rate <= 0:
            return _nothing("compute")
        judged = self.judge(np.array([rate]))
        batch = float(judged.batch[0])
        return Load(
            rate / self._mix.part,
            rate * self._mix.prompt_mean,
            rate * self._mix.response_mean,
            self._limit(judged, rate),
            batch,
            float(judged.itl_s[0]),
            float(judged.ttft_s[0]),
            float(judged.attainment[0]) * self._mix.part,
            min(1.0, batch * self._kv_mean / self._engine.kv_tokens),
            rate / self.rate_max,
        )

    def _limit(self, judged: _Judged, rate: float) -> str:
        """What breaks first."""
        full = "kv" if self._kv_seats < self._engine.seats else "seats"
        known = {
            "itl": float(judged.slow[0]),
            "compute": float(judged.late_prompt[0]),
            full: float(judged.late_seat[0]),
        }
        worst = max(known, key=lambda name: known[name])
        if known[worst] > (1 - self._level.share) / 4:
            return worst
        return "compute" if self._prompts_bind else full


def _tail(limit: Floats, mean: Floats, variance: Floats, some: Floats) -> Floats:
    """The chance that a sum exceeds the limit that is 0 but for a share `some` of the time.

    Where it is not, it is taken for a gamma variable, whose cube root is nearly normal (Wilson and Hilferty 1931).
    """
    mean = np.maximum(mean / some, _TINY)
    ninth = np.maximum((variance + (mean * some) ** 2) / some / mean**2 - 1.0, 1e-9) / 9.0
    z = (np.cbrt(np.maximum(limit, 0.0) / mean) - (1.0 - ninth)) / np.sqrt(ninth)
    return np.where(limit < 0, 1.0, some * (1.0 - _phi(z)))


def _phi(z: Floats) -> Floats:
    """The normal distribution within 3e-4 (Page 1977)."""
    z = np.clip(z, -9.0, 9.0)
    result: Floats = 0.5 * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (z + 0.044715 * z**3)))
    return result


def _tiers(values: Floats, count: int) -> npt.NDArray[np.int64]:
    """The tier of each value; the first and last hold few, so that both tails stay apart."""
    order = np.argsort(np.argsort(values, kind="stable"), kind="stable")
    parts = np.arange(1, count) / count
    bounds = parts**POWER / (parts**POWER + (1.0 - parts) ** POWER)
    return np.searchsorted(bounds, order / len(values), side="right")


def _curve(values: Sequence[float]) -> Floats:
    """Points of equal weight of a distribution given by its quantiles, straight between them (core/prediction.py)."""
    p10, p50, p90, p97 = values
    levels = (0.0, *QUANTILE_LEVELS, 1.0)
    ends = (0.5 * p10, p10, p50, p90, p97, p97 + (p97 - p90) * 3 / 7)
    middles = (np.arange(_LEVELS) + 0.5) / _LEVELS
    points: Floats = np.maximum(1.0, np.interp(middles, levels, ends))
    return points


def _nothing(limit: str) -> Load:
    return Load(0.0, 0.0, 0.0, limit, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
