"""Chiron's global autoscaler: the share of busy instances for interactive traffic, deadlines in danger for the rest."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from math import ceil, exp2
from typing import NamedTuple

from forebay.autoscaler.policy.autoscaler.base import (
    Choice,
    FleetChoice,
    FleetView,
    InstanceView,
    Needs,
    PoolView,
    not_profiled,
)
from forebay.core.pressure import WaitingGroup
from forebay.core.units import US_PER_S
from forebay.core.values import InstanceRole, SloClass
from forebay.core.waiting import Queue, Work, Z, instances_to_add, wait_s

MIXED, INTERACTIVE, BATCH = InstanceRole.MIXED, InstanceRole.INTERACTIVE, InstanceRole.BATCH
LOAD_WINDOW_S = 60.0
"""What `ModelLoad` counts is of the last minute."""
PACE_HALVES_S = 300.0
"""A pace that was measured counts half after this, so that a quiet hour does not hide what an instance can do."""
EPSILON = 1e-9


@dataclass(slots=True)
class _Plan:
    """The numbers of one model's pools while they are being chosen, and what led to them."""

    pools: Sequence[PoolView]
    counts: dict[str, int]
    inputs: dict[str, dict[str, float]]
    reasons: dict[str, list[str]]
    room: dict[tuple[str, str], int]
    memo: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def of(self, pools: Iterable[PoolView]) -> int:
        """How many instances these pools are to have together."""
        return sum(self.counts[pool.pool] for pool in pools)

    def add(self, pools: Sequence[PoolView], count: int) -> int:
        """As many more, the cheapest first, where there is room; how many that were."""
        left = count
        for pool in sorted(pools, key=lambda pool: pool.price_rank):
            place = (pool.region, pool.gpu)
            room = pool.instances_max - self.counts[pool.pool]
            if place in self.room:
                room = min(room, self.room[place] // pool.gpu_count)
            more = max(0, min(left, room))
            self.counts[pool.pool] += more
            if place in self.room:
                self.room[place] -= more * pool.gpu_count
            left -= more
        return count - left

    def remove(self, pools: Sequence[PoolView], count: int) -> int:
        """As many fewer, the dearest first; how many that were."""
        left = count
        for pool in sorted(pools, key=lambda pool: pool.price_rank, reverse=True):
            fewer = max(0, min(left, self.counts[pool.pool] - pool.instances_min))
            self.counts[pool.pool] -= fewer
            left -= fewer
        return count - left

    def note(self, pools: Iterable[PoolView], text: str, **inputs: float) -> None:
        """What is said of these pools."""
        for pool in pools:
            self.reasons[pool.pool].append(text)
            self.inputs[pool.pool] |= inputs


class _Deferred(NamedTuple):
    """The deferred work of one model: its groups by deadline, what one instance does, and how long a start takes."""

    queue: Queue
    pace: float
    load_s: float
    spare: float
    needed: float
    """Instances with which every group that is not lost keeps its slack; endless where one cannot."""


@dataclass(frozen=True, slots=True)
class Chiron:
    """Interactive: `IBP = instances running an interactive request / instances` of interactive and mixed pools.

    Above `theta` it adds up to `target = max(least, ceil(running / theta))`, mixed ones first, and below `theta (1 -
    dead_band)` it removes down to the same target; 1 / theta is the head-room for a spike. What starts counts. With
    none at all a request that waits asks for ceil(1 / theta).

    Batch: groups of deferred work by deadline. As many more as `core/waiting.instances_to_add` says, on batch pools
    (on mixed ones where there are none), beside the spare room of mixed instances; a group that nothing can save is
    reported and never drives the number. They leave when nothing is queued or runs, or when every group has more slack
    than `slack_loads` start times, down to the number with which that stays so.

    Between opposite actions of one kind there is at least a start time. The pace of an instance is its pool's
    capability, or the most that was measured lately. Source: Chiron (arXiv 2501.08090) as summaries tell it (section 5,
    7 and 8 of ours): it has no public code, theta 1/3 is from memory (0.6 in a port of others), the closed forms, dead
    band, dwell and slack are ours.
    """

    theta: float = 1.0 / 3.0
    dead_band: float = 0.25
    z: float = Z
    slack_loads: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.theta <= 1 or not 0 <= self.dead_band < 1:
            raise ValueError("theta must be above 0 and up to 1, and dead_band from 0 to below 1")
        if self.z < 0 or self.slack_loads < 0:
            raise ValueError("z and slack_loads must not be negative")

    @property
    def needs(self) -> Needs:
        """What runs and what waits, as the scheduler tells."""
        return Needs(history_us=US_PER_S, pressure=True)

    def plan(self, view: FleetView) -> FleetChoice:
        """Both parts for each model."""
        plans = [self._model(view, model) for model in sorted({pool.model for pool in view.pools})]
        chosen = {pool.pool: _choice(plan, pool) for plan in plans for pool in plan.pools}
        memo = dict(chain.from_iterable(plan.memo.items() for plan in plans))
        return FleetChoice(chosen, memo, tuple(chain.from_iterable(plan.warnings for plan in plans)))

    def _model(self, view: FleetView, model: str) -> _Plan:
        pools = [pool for pool in view.pools if pool.model == model]
        names = [pool.pool for pool in pools]
        plan = _Plan(
            pools,
            {pool.pool: pool.standing_count for pool in pools},
            {name: {} for name in names},
            {name: [] for name in names},
            {
                (stock.region, stock.gpu): stock.gpu_count - _taken(view, stock.region, stock.gpu)
                for stock in view.stocks
            },
            {key: value for key, value in view.memo.items() if key.startswith(f"{model}|")},
        )
        work = self._deferred(view, plan)
        for region in sorted({pool.region for pool in pools if pool.role is not BATCH}):
            here = [pool for pool in pools if pool.region == region and pool.role is not BATCH]
            self._interactive(view, plan, here, work)
        if work is not None:
            self._batch(view, plan, work)
        return plan

    def _interactive(self, view: FleetView, plan: _Plan, pools: list[PoolView], work: _Deferred | None) -> None:
        instances = [one for pool in pools for one in pool.instances]
        running = sum(one.pressure is not None and one.pressure.interactive_count > 0 for one in instances)
        count, least = plan.of(pools), sum(pool.instances_min for pool in pools)
        target = max(least, ceil(running / self.theta - EPSILON))
        if count == 0 and _is_awaited(view, pools):
            target = max(least, ceil(1 / self.theta - EPSILON))
        share = running / count if count else float(target > 0)
        clock = _Clock(plan.memo, f"{pools[0].model}|{pools[0].region}", pools)
        mixed, own = (
            [pool for pool in pools if pool.role is MIXED],
            [pool for pool in pools if pool.role is INTERACTIVE],
        )
        if share > self.theta and target > count and clock.may("up"):
            added = plan.add(mixed, target - count)
            clock.note("up", bool(added + plan.add(own, target - count - added)))
        elif share < self.theta * (1 - self.dead_band) and _is_whole(pools) and clock.may("down"):
            # Spare room of mixed instances may be what deferred work needs.
            keep = max(target, _kept_for(work, plan, pools)) if mixed else target
            removed = plan.remove(mixed, count - keep)
            clock.note("down", bool(removed + plan.remove(own, count - keep - removed)))
        text = f"{running} of {count} instances run interactive requests, where {self.theta:.2f} of them may"
        plan.note(pools, text, back_pressure=share, running_count=float(running), target=float(target))

    def _deferred(self, view: FleetView, plan: _Plan) -> _Deferred | None:
        """None where nobody knows what an instance does."""
        model = plan.pools[0].model
        hosts = _hosts(plan.pools)
        pace = _pace(view, plan, hosts)
        groups = [one for one in view.waiting if one.model == model and one.slo_class is SloClass.DEFERRED]
        if not groups:
            return _Deferred(Queue((), ()), pace, 0.0, 0.0, 0.0)
        if not pace:
            plan.warnings.append(not_profiled(hosts[0]))
            return None
        queue = _queue(view, sorted(groups, key=lambda group: group.due_us), hosts)
        load_s = max(pool.lead.p90_us for pool in hosts) / US_PER_S
        spare = sum(_spare(pool, one) for pool in plan.pools if pool.role is MIXED for one in pool.instances)
        return _Deferred(queue, pace, load_s, spare, self._needed(queue, pace, load_s))

    def _needed(self, queue: Queue, pace: float, load_s: float) -> float:
        ahead, needed = Work(), 0.0
        for work, left_s in zip(queue.work, queue.left_s, strict=True):
            ahead = ahead.plus(work)
            room_s = left_s - self.slack_loads * load_s
            needed = max(needed, wait_s(ahead, pace, self.z) / room_s if room_s > 0 else float("inf"))
        return needed

    def _batch(self, view: FleetView, plan: _Plan, work: _Deferred) -> None:
        hosts = _hosts(plan.pools)
        is_apart = hosts[0].role is BATCH
        ready, count = sum(pool.ready_count for pool in hosts), plan.of(hosts)
        serving = work.spare + (ready if is_apart else 0)
        add, lost = instances_to_add(work.queue, work.pace, serving, work.load_s, self.z)
        clock = _Clock(plan.memo, f"{hosts[0].model}|batch", hosts)
        if ready + add > count and add and clock.may("up"):
            clock.note("up", bool(plan.add(hosts, ready + add - count)))
        elif is_apart and not add and _is_whole(hosts) and clock.may("down"):
            clock.note("down", bool(plan.remove(hosts, count - _kept(hosts, work, count))))
        if lost:
            plan.warnings.append(
                f"deferred work of {hosts[0].model} is due sooner than a start takes: only more instances beforehand "
                "or later deadlines would have helped"
            )
        groups = len(work.queue.work)
        text = (
            f"{groups} groups of deferred work need {add} more, and {lost} are lost"
            if groups
            else "nothing deferred waits"
        )
        inputs = {"group_count": float(groups), "add": float(add), "lost": float(lost)}
        plan.note(hosts, text, pace=work.pace, spare=work.spare, **inputs)


class _Clock(NamedTuple):
    """When one kind of fleet went up and down last; opposite actions are at least a start apart."""

    memo: dict[str, float]
    key: str
    pools: Sequence[PoolView]

    def may(self, way: str) -> bool:
        """Whether the last action the other way is long enough ago."""
        other = self.memo.get(f"{self.key}|{'down' if way == 'up' else 'up'}")
        dwell_us = max(pool.lead.p90_us for pool in self.pools)
        return other is None or self.pools[0].now_us - other >= dwell_us

    def note(self, way: str, happens: bool) -> None:
        """Writes it down."""
        if happens:
            self.memo[f"{self.key}|{way}"] = float(self.pools[0].now_us)


def _hosts(pools: Sequence[PoolView]) -> list[PoolView]:
    """The pools that grow for deferred work: those of batch, else mixed ones, else all."""
    apart = [pool for pool in pools if pool.role is BATCH] or [pool for pool in pools if pool.role is MIXED]
    return apart or list(pools)


def _pace(view: FleetView, plan: _Plan, hosts: Sequence[PoolView]) -> float:
    """Response tokens a second of one instance: the slowest host's capability, or what was measured."""
    known = [pool.capability.response_tokens_per_s for pool in hosts]
    if min(known) > 0:
        return min(known)
    key, model = f"{plan.pools[0].model}|pace", plan.pools[0]
    ready = sum(pool.ready_count for pool in plan.pools)
    measured = model.load.response_tokens / LOAD_WINDOW_S / ready if ready else 0.0
    since_s = (view.now_us - plan.memo.get(f"{key}_us", view.now_us)) / US_PER_S
    pace = max(measured, plan.memo.get(key, 0.0) * exp2(-since_s / PACE_HALVES_S))
    if pace:
        plan.memo |= {key: pace, f"{key}_us": float(view.now_us)}
    return pace


def _queue(view: FleetView, groups: Sequence[WaitingGroup], hosts: Sequence[PoolView]) -> Queue:
    """The groups as the estimator takes them; what batch instances have left is ahead of all."""
    running = [one.pressure for pool in hosts if pool.role is BATCH for one in pool.instances if one.pressure]
    ahead = Work(sum(one.remaining_tokens for one in running))
    works = [Work(group.mean_tokens, group.variance) for group in groups]
    prompt_pace = hosts[0].capability.prompt_tokens_per_s
    prefills = [group.prompt_tokens / max(1, group.request_count) / (prompt_pace or float("inf")) for group in groups]
    left = [(group.due_us - view.now_us) / US_PER_S - own for group, own in zip(groups, prefills, strict=True)]
    return Queue((works[0].plus(ahead), *works[1:]), tuple(left))


def _spare(pool: PoolView, one: InstanceView) -> float:
    """The part of a mixed instance that interactive requests leave; none of one that is not heard of."""
    if one.pressure is None:
        return 0.0
    return max(0.0, 1.0 - one.pressure.interactive_count / (one.pressure.cap or pool.concurrency_target))


def _kept_for(work: _Deferred | None, plan: _Plan, pools: Sequence[PoolView]) -> int:
    """How many interactive and mixed instances stay for what is deferred, where no batch pool serves it."""
    hosts = _hosts(plan.pools)
    count = plan.of(pools)
    if hosts[0].role is BATCH:
        return 0
    if work is None:
        return count
    if not work.queue.work:
        return 0
    used = sum(1.0 - _spare(pool, one) for pool in hosts for one in pool.instances)
    others = plan.of(hosts) - plan.of(pool for pool in hosts if pool in pools)
    return ceil(min(float(count), used + work.needed - others))


def _kept(hosts: Sequence[PoolView], work: _Deferred, count: int) -> int:
    """How many batch instances stay: those that run something, or those with which every group keeps its slack."""
    if work.queue.work:
        return ceil(min(float(count), max(0.0, work.needed - work.spare) - EPSILON))
    return sum(one.pressure is not None and one.pressure.deferred_count > 0 for pool in hosts for one in pool.instances)


def _is_whole(pools: Sequence[PoolView]) -> bool:
    """Whether all of them are there and heard of."""
    heard = all(one.pressure is not None for pool in pools for one in pool.instances)
    return heard and not any(pool.starting_count for pool in pools)


def _is_awaited(view: FleetView, pools: Sequence[PoolView]) -> bool:
    """Whether interactive requests wait for this region, or for one that has no pool."""
    model, region = pools[0].model, pools[0].region
    others = {pool.region for pool in view.pools if pool.model == model and pool.role is not BATCH} - {region}
    waiting = [one for one in view.waiting if one.model == model and one.region not in others]
    return any(one.slo_class is not SloClass.DEFERRED for one in waiting)


def _taken(view: FleetView, region: str, gpu: str) -> int:
    return sum(
        pool.instances_wanted * pool.gpu_count for pool in view.pools if (pool.region, pool.gpu) == (region, gpu)
    )


def _choice(plan: _Plan, pool: PoolView) -> Choice:
    count = plan.counts[pool.pool]
    reason = "; ".join(plan.reasons[pool.pool]) or "its pace is not known, so deferred work cannot be planned for"
    inputs: Mapping[str, float] = plan.inputs[pool.pool]
    return Choice(count, count, reason, inputs)
