"""The steady state of one engine under a mix of requests: batches, waits, and who keeps its promises, at any rate."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from forebay.core.instance import EngineProfile
from forebay.core.instance.profile import PAIR_SHIFT
from forebay.core.mix import Floats, Ints, Mix
from forebay.core.units import PS_PER_S

Z_KV = 1.5
"""Standard deviations of room that the caches of a full batch have: 7 in 100 batches of that size do not fit."""
STATES = (0.125, 0.5, 0.8, 0.95, 0.995)
"""Quantiles of the batch at which the pace is looked at, and what share of the time each stands for."""
_STATE_WEIGHTS = np.array((0.3, 0.375, 0.22, 0.085, 0.02))
_TINY = 1e-12


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


@dataclass(frozen=True, slots=True, eq=False)
class Limits:
    """What an engine is: its profile, seconds of an iteration by its tokens, its seats, and what its cache holds."""

    profile: EngineProfile
    table_s: Floats
    seats: int
    kv_tokens: int


@dataclass(frozen=True, slots=True, eq=False)
class _Queue:
    """Prompts that wait for each other, an entry a rate: the share of time that they take, the mean wait of those that
    wait, and each point's own seconds to its first token."""

    busy: Floats
    wait_s: Floats
    alone_s: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """One entry a rate."""

    attainment: Floats
    batch: Floats
    itl_s: Floats
    ttft_s: Floats
    slow: Floats
    late_prompt: Floats
    late_seat: Floats
    idle_limit: str


class Steady:
    """The steady state of an engine under a mix, at any rates."""

    def __init__(self, engine: Limits, mix: Mix, level: ServiceLevel) -> None:
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

    def judge(self, rates: Floats) -> Judged:
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
        return Judged(attained, batch, itl_s, means[0], means[1], means[2], means[3], alone)

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
            return nothing("compute")
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

    def _limit(self, judged: Judged, rate: float) -> str:
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


def nothing(limit: str) -> Load:
    """An instance that serves nothing, and why."""
    return Load(0.0, 0.0, 0.0, limit, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
