"""The saturation analyzers of llm-d's workload variant autoscaler: spare room decides, cost says which pool moves."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor
from typing import NamedTuple, TypeAlias

import numpy as np

from forebay.autoscaler.policy.autoscaler.base import Choice, FleetChoice, FleetView, Needs, PoolView, kept
from forebay.core.units import US_PER_S

LOAD_WINDOW_S = 60.0
"""What `ModelLoad` counts is of the last minute."""
FORMS = ("v1", "v2")
SEEN_COUNT_MAX = 10
"""Newest sightings of a saturated replica that count."""
BUCKETS = (100.0, 500.0)
"""Answers of fewer tokens are of the first bucket, or of the second; sightings are kept apart by it."""
POINT_COUNT_MAX, POINT_COUNT_MIN, POINT_SPREAD_MIN, POINT_AGE_S_MAX = 20, 10, 0.30, 1_800.0
POINT_SHARES = (0.15, 0.85)
SHIFT_MAX = 0.20
"""By how much mean lengths may change before the line is learnt anew."""
STEP_FLOOR_S = 0.006
"""The time of a step without load, until the line is learnt."""


class _Replica(NamedTuple):
    """A ready replica whose server tells its load."""

    pool: PoolView
    share: float
    running: int
    queue: int

    @property
    def tokens(self) -> float:
        """In use in its cache."""
        return self.share * self.pool.kv_tokens


class _Model(NamedTuple):
    """One model as the analyzers see it; mean lengths are 0 while nothing has ended."""

    view: FleetView
    pools: Sequence[PoolView]
    replicas: Sequence[_Replica]
    prompt_mean: float
    answer_mean: float
    memo: dict[str, float]

    @property
    def name(self) -> str:
        """Its name."""
        return self.pools[0].model


Moves: TypeAlias = Mapping[str, int]
"""How many instances more, or fewer where negative, by pool."""
Size: TypeAlias = Callable[[PoolView], float]


class _Balance(NamedTuple):
    """What the model needs and has, in one unit: `up` and `down` are demands over the two target loads."""

    supply: float
    up: float
    down: float


@dataclass(frozen=True, slots=True)
class Wva:
    """Decides for the pools (variants) of one model together, every `period_s`: cheapest up, dearest down.

    `v1`: a replica is saturated at a cache share of `kv_max` or `queue_max` waiting. Of the others a mean spare share
    below `kv_spare` or a mean spare queue below `queue_spare` asks for one more; one leaves where their load on one
    fewer keeps both. What starts blocks a second step up.

    `v2` in tokens: a replica supplies `min(k1, k2)`, k1 = cache * kv_max, k2 = tokens in use seen when its queue was
    saturated (the mean of the last ten such, by length of answers; before that what batch budget and seats allow).
    Demand = tokens in use + waiting * (I + O). Up by demand / `load_up` - supply (what starts counts), down by supply -
    demand / `load_down`, in replicas. `learns_steps` adds the throughput analyzer: ITL(k) = A k + B by least squares,
    supply `0.85 cache / (I + O/2) / ITL(0.85)`, demand `arrivals * O + queue / (2 ITL(0.85))`; any may scale up, all
    must agree to scale down. Source: llm-d-incubation/workload-variant-autoscaler as our notes restate it. Ours: ITL =
    running / tokens a second, since servers do not tell it; both target loads in the throughput part; a model keeps one
    replica; no server's word means no change, and no shrink while one replica does not tell.
    """

    form: str = "v2"
    learns_steps: bool = False
    period_s: float = 30.0
    kv_max: float = 0.80
    queue_max: float = 5.0
    kv_spare: float = 0.10
    queue_spare: float = 3.0
    load_up: float = 0.85
    load_down: float = 0.70
    batch_tokens: float = 8_192.0
    seqs_max: float = 256.0

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise ValueError(f"form must be one of {', '.join(FORMS)}, not {self.form!r}")
        # A threshold that reads as zero would scale up for ever.
        if not (0 < self.kv_spare < self.kv_max <= 1 and 0 < self.queue_spare < self.queue_max):
            raise ValueError("needs 0 < kv_spare < kv_max <= 1 and 0 < queue_spare < queue_max")
        if not 0 < self.load_down < self.load_up <= 1 or min(self.period_s, self.batch_tokens, self.seqs_max) <= 0:
            raise ValueError("needs 0 < load_down < load_up <= 1, and positive period_s, batch_tokens and seqs_max")

    @property
    def needs(self) -> Needs:
        """Fresh figures of the servers; arrivals where throughput counts."""
        return Needs(history_us=int(LOAD_WINDOW_S * US_PER_S), by_demand=self.learns_steps)

    def plan(self, view: FleetView) -> FleetChoice:
        """Each model by itself."""
        memo = dict(view.memo)
        chosen: dict[str, Choice] = {}
        for name in sorted({pool.model for pool in view.pools}):
            chosen |= self._plan_model(view, [pool for pool in view.pools if pool.model == name], memo)
        return FleetChoice(chosen, memo)

    def _plan_model(self, view: FleetView, pools: list[PoolView], memo: dict[str, float]) -> dict[str, Choice]:
        key = f"{pools[0].model}|at"
        active = sum(pool.active_count for pool in pools)
        if active and view.now_us - memo.get(key, -1e18) < self.period_s * US_PER_S:
            return {pool.pool: kept(pool, f"saturation is looked at every {self.period_s:g} s") for pool in pools}
        memo[key] = float(view.now_us)
        seen = self._seen(view, pools, memo)
        ready = sum(pool.ready_count for pool in pools)
        if not seen.replicas and ready:
            return {pool.pool: kept(pool, "no server tells how full its cache is") for pool in pools}
        is_whole = len(seen.replicas) == ready
        if not active:
            moves = _up(pools, 1.0, _one) if pools[0].load.held_count else {}
            return _moved(pools, moves, "none is there", {})
        if self.form == "v1":
            return self._v1(seen, is_whole)
        return self._v2(seen, is_whole)

    def _seen(self, view: FleetView, pools: list[PoolView], memo: dict[str, float]) -> _Model:
        replicas = [
            _Replica(pool, one.load.kv_utilization, one.load.running_count or 0, one.load.waiting_count or 0)
            for pool in pools
            for one in pool.instances
            if one.load is not None and one.load.kv_utilization is not None and pool.kv_tokens
        ]
        load, keys = pools[0].load, (f"{pools[0].model}|prompt", f"{pools[0].model}|answer")
        if load.ended_count:
            sums = (load.prompt_tokens, load.response_tokens)
            memo |= {key: total / load.ended_count for key, total in zip(keys, sums, strict=True)}
        return _Model(view, pools, replicas, memo.get(keys[0], 0.0), memo.get(keys[1], 0.0), memo)

    # Version 1: shares

    def _v1(self, seen: _Model, is_whole: bool) -> dict[str, Choice]:
        rest = [one for one in seen.replicas if one.share < self.kv_max and one.queue < self.queue_max]
        used, queued = sum(one.share for one in rest), sum(one.queue for one in rest)
        inputs = {"saturated_count": float(len(seen.replicas) - len(rest))}
        inputs |= {"kv_mean": used / len(rest), "queue_mean": queued / len(rest)} if rest else {}
        starting = any(pool.starting_count for pool in seen.pools)
        if not self._keeps_spare(used, queued, len(rest)):
            moves = {} if starting else _up(seen.pools, 1.0, _one)
            return _moved(seen.pools, moves, "too little is spare on those that are not saturated", inputs)
        can_leave = is_whole and not starting and len(rest) > 1 and self._keeps_spare(used, queued, len(rest) - 1)
        moves = _down(seen.pools, 1.0, _one) if can_leave else {}
        text = (
            "one fewer would still have enough to spare" if can_leave else "enough is spare, and one fewer is too few"
        )
        return _moved(seen.pools, moves, text, inputs)

    def _keeps_spare(self, used: float, queued: float, count: int) -> bool:
        if not count:
            return False
        return self.kv_max - used / count >= self.kv_spare and self.queue_max - queued / count >= self.queue_spare

    # Version 2: tokens

    def _v2(self, seen: _Model, is_whole: bool) -> dict[str, Choice]:
        sizes = {pool.pool: self._size(seen, pool) for pool in seen.pools}
        balances = [self._saturation(seen, sizes)]
        if self.learns_steps:
            balances += self._throughput(seen)
        supply = balances[0].supply
        up = max(one.up / one.supply for one in balances if one.supply) - 1.0 if supply else 0.0
        down = 1.0 - max(one.down / one.supply for one in balances if one.supply) if supply else 0.0
        inputs = {"supply_tokens": supply, "missing_tokens": up * supply, "spare_tokens": down * supply}
        inputs |= {"throughput_supply": balances[1].supply, "throughput_demand": balances[1].up} if balances[1:] else {}
        if up > 0:
            moves = _up(seen.pools, up * supply, lambda pool: sizes[pool.pool])
            return _moved(seen.pools, moves, f"{up * supply:.0f} tokens are missing", inputs)
        can_leave = is_whole and down > 0 and not any(pool.starting_count for pool in seen.pools)
        moves = _down(seen.pools, down * supply, lambda pool: sizes[pool.pool]) if can_leave else {}
        return _moved(seen.pools, moves, f"{max(0.0, down * supply):.0f} tokens are to spare", inputs)

    def _saturation(self, seen: _Model, sizes: dict[str, float]) -> _Balance:
        supply = sum(pool.active_count * sizes[pool.pool] for pool in seen.pools)
        waiting = sum(one.queue for one in seen.replicas) + seen.pools[0].load.held_count
        demand = sum(one.tokens for one in seen.replicas) + waiting * (seen.prompt_mean + seen.answer_mean)
        return _Balance(supply, demand / self.load_up, demand / self.load_down)

    def _size(self, seen: _Model, pool: PoolView) -> float:
        """What a replica of the pool supplies, in tokens."""
        bucket = sum(seen.answer_mean >= edge for edge in BUCKETS)
        key = f"{pool.pool}|k2:{bucket}"
        for one in seen.replicas:
            if one.pool is pool and one.queue >= self.queue_max:
                number = int(seen.memo.get(f"{key}:count", 0.0))
                seen.memo.update({f"{key}:{number % SEEN_COUNT_MAX}": one.tokens, f"{key}:count": number + 1.0})
        sightings = [seen.memo[f"{key}:{n}"] for n in range(SEEN_COUNT_MAX) if f"{key}:{n}" in seen.memo]
        k1 = pool.kv_tokens * self.kv_max
        if sightings:
            return min(k1, sum(sightings) / len(sightings))
        if not seen.answer_mean:
            return k1
        whole = seen.prompt_mean + seen.answer_mean
        seats = min(self.batch_tokens * seen.answer_mean / whole, self.seqs_max)
        return min(k1, seats * (seen.prompt_mean + seen.answer_mean / 2))

    # The throughput analyzer

    def _throughput(self, seen: _Model) -> list[_Balance]:
        """Tokens a second; nothing while too little is known."""
        line = _line(seen)
        if line is None or not seen.answer_mean:
            return []
        slope, floor_s = line
        step_s = slope * POINT_SHARES[1] + floor_s
        request = seen.prompt_mean + seen.answer_mean / 2
        each = POINT_SHARES[1] / request / step_s
        supply = sum(pool.active_count * pool.kv_tokens * each for pool in seen.pools)
        queue = sum(one.queue for one in seen.replicas) + seen.pools[0].load.held_count
        demand = _arrivals(seen) * seen.answer_mean + queue / (2 * step_s)
        # The supply is at 85 % of the cache already, as `load_up` is.
        return [_Balance(supply, demand, demand * self.load_up / self.load_down)]


def _one(_: PoolView) -> float:
    return 1.0


def _up(pools: Sequence[PoolView], amount: float, size: Size) -> Moves:
    """As many as supply the amount, of the cheapest pools that have room; none of a pool of unknown size."""
    moves = {}
    for pool in sorted((one for one in pools if size(one) > 0), key=lambda pool: pool.price_rank):
        room = max(0, pool.instances_max - pool.standing_count)
        moves[pool.pool] = min(room, ceil(max(0.0, amount) / size(pool)))
        amount -= moves[pool.pool] * size(pool)
    return moves


def _down(pools: Sequence[PoolView], amount: float, size: Size) -> Moves:
    """As many as supply no more than the amount, of the dearest pools; one of the model stays."""
    moves = {}
    left = sum(pool.standing_count for pool in pools) - 1
    for pool in sorted((one for one in pools if size(one) > 0), key=lambda pool: pool.price_rank, reverse=True):
        can = min(left, max(0, pool.standing_count - pool.instances_min))
        moves[pool.pool] = -min(can, floor(max(0.0, amount) / size(pool)))
        amount += moves[pool.pool] * size(pool)
        left += moves[pool.pool]
    return moves


def _moved(pools: Sequence[PoolView], moves: Moves, reason: str, inputs: Mapping[str, float]) -> dict[str, Choice]:
    counts = {pool.pool: pool.standing_count + moves.get(pool.pool, 0) for pool in pools}
    return {name: Choice(count, count, reason, inputs) for name, count in counts.items()}


def _arrivals(seen: _Model) -> float:
    """Requests a second: as the scheduler counts them, or as they end."""
    mine = [demand for demand in seen.view.demands if demand.model == seen.name]
    if mine:
        return sum(demand.rate(int(LOAD_WINDOW_S * US_PER_S)).request_count for demand in mine)
    return seen.pools[0].load.ended_count / LOAD_WINDOW_S


def _line(seen: _Model) -> tuple[float, float] | None:
    """Slope and floor of the time of a step over the share of the cache in use, by the newest points."""
    points = _points(seen)
    if not points:
        return None
    shares, steps = np.array([one[0] for one in points]), np.array([one[1] for one in points])
    if len(points) >= POINT_COUNT_MIN and shares.max() - shares.min() >= POINT_SPREAD_MIN:
        slope, floor_s = np.polyfit(shares, steps, 1)
        if slope > 0 and floor_s > 0:
            return float(slope), float(floor_s)
    return float(np.mean(np.maximum(0.0, steps - STEP_FLOOR_S) / shares)), STEP_FLOOR_S


def _points(seen: _Model) -> list[tuple[float, float]]:
    """The points that are remembered, with the one of now; none of times with other lengths."""
    key, memo, now_s = f"{seen.name}|step", seen.memo, seen.view.now_us / US_PER_S
    lengths = (seen.prompt_mean, seen.answer_mean)
    known = (memo.get(f"{key}:prompt", lengths[0]), memo.get(f"{key}:answer", lengths[1]))
    shifted = any(abs(now - then) > SHIFT_MAX * then for now, then in zip(lengths, known, strict=True))
    numbers = [n for n in range(POINT_COUNT_MAX) if f"{key}:{n}:at_s" in memo]
    for number in numbers:
        if shifted or now_s - memo[f"{key}:{number}:at_s"] > POINT_AGE_S_MAX:
            for part in ("share", "s", "at_s"):
                del memo[f"{key}:{number}:{part}"]
    if shifted or f"{key}:prompt" not in memo:
        memo |= {f"{key}:prompt": lengths[0], f"{key}:answer": lengths[1]}
    running, told = sum(one.running for one in seen.replicas), len(seen.replicas)
    share = sum(one.share for one in seen.replicas) / told if told else 0.0
    # What ended in the last minute tells little until it is a whole one.
    since_s = memo.setdefault(f"{key}:since_s", now_s)
    tokens = seen.pools[0].load.response_tokens if now_s - since_s >= LOAD_WINDOW_S else 0
    if running and tokens and POINT_SHARES[0] <= share <= POINT_SHARES[1]:
        number = int(memo.get(f"{key}:count", 0.0))
        place = f"{key}:{number % POINT_COUNT_MAX}"
        step_s = running * LOAD_WINDOW_S / tokens
        memo |= {f"{place}:share": share, f"{place}:s": step_s, f"{place}:at_s": now_s, f"{key}:count": number + 1.0}
    numbers = [n for n in range(POINT_COUNT_MAX) if f"{key}:{n}:at_s" in memo]
    return [(memo[f"{key}:{n}:share"], memo[f"{key}:{n}:s"]) for n in numbers]
