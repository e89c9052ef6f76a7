"""What the autoscaler is told of the load that is on its way: by instance, by demand and by deadline."""

from collections.abc import Iterator

import numpy as np

from forebay.core.anticipation import CONDITIONAL
from forebay.core.pressure import (
    Anticipation,
    Demand,
    InstanceAnticipation,
    InstancePressure,
    Pressure,
    WaitingGroup,
)
from forebay.core.values import Instance, SloClass
from forebay.core.waiting import works_of
from forebay.scheduler.fleet import Fleet
from forebay.scheduler.lanes import Lanes
from forebay.scheduler.policy.puller.base import UNLIMITED
from forebay.scheduler.queue import Held, HeldBook, HeldQueue

HORIZON = 100
"""Iterations ahead that instances are looked at (PreServe, section 4 of its summary: l = 100)."""
OVER_SHARE = 0.95
"""Of the cache: an iteration in which more is held counts as overload (PreServe, section 4 of its summary)."""
REMEMBERED_COUNT = 65_536
"""The newest requests that are known again, at least."""


class Arrivals:
    """Counts what arrives by model, region and class; a request that comes again, by its id, counts once."""

    def __init__(self) -> None:
        self._totals: dict[tuple[str, str, int], list[float]] = {}
        self._young: set[str] = set()
        self._old: set[str] = set()

    def add(self, held: Held) -> None:
        """Takes a request that has arrived."""
        request = held.request
        if request.request_id in self._young or request.request_id in self._old:
            return
        if len(self._young) >= REMEMBERED_COUNT:
            self._young, self._old = set(), self._young
        self._young.add(request.request_id)
        # A plain number hashes in a fraction of the time that an enum takes.
        key = (request.model, request.region, +request.slo_class)
        total = self._totals.get(key)
        if total is None:
            total = self._totals[key] = [0, 0, 0.0]
        total[0] += 1
        total[1] += request.prompt_tokens
        total[2] += held.mean_tokens

    def demands(self) -> tuple[Demand, ...]:
        """All totals, by model, region and class."""
        return tuple(
            Demand(model, region, SloClass(slo_class), int(count), int(prompts), answers)
            for (model, region, slo_class), (count, prompts, answers) in sorted(self._totals.items())
        )


def pressure(fleet: Fleet, held: HeldBook, arrivals: Arrivals, quantum_us: int, now_us: int) -> Pressure:
    """What is known now; held requests that are due within the same `quantum_us` are one group."""
    instances = [one for model in sorted(fleet.models) for one in _instances(fleet.models[model])]
    waiting = [group for model in sorted(held.queues) for group in _waiting(model, held.queues[model], quantum_us)]
    return Pressure(now_us, HORIZON, tuple(instances), arrivals.demands(), tuple(waiting))


def anticipation(fleet: Fleet, step: int, count: int, now_us: int) -> Anticipation:
    """What each instance is expected to hold, at `count` times that are `step` iterations apart."""
    instances = tuple(
        InstanceAnticipation(one.instance_id, model, tuple(tokens), one.kv_tokens_max)
        for model in sorted(fleet.models)
        for one, tokens in _held(fleet.models[model], step, count)
    )
    return Anticipation(now_us, step, instances)


def _held(lanes: Lanes, step: int, count: int) -> Iterator[tuple[Instance, list[int]]]:
    tokens: list[list[int]] = lanes.anticipations.by(CONDITIONAL).held(step, count).tolist()
    return zip(lanes.instances, tokens, strict=True)


def _instances(lanes: Lanes) -> Iterator[InstancePressure]:
    if not lanes.ids:
        return
    expected, counts = lanes.anticipations.by(CONDITIONAL), lanes.counts()
    room = np.array([float(one.kv_tokens_max or np.inf) for one in lanes.instances])
    prompts, generated = lanes.held_tokens()
    in_flight, pending, deferred, caps = counts[0], counts[3], counts[6], lanes.standing.concurrency_cap
    columns = (
        in_flight - deferred,
        deferred,
        expected.peak(HORIZON) / room,
        expected.over_count(OVER_SHARE * room, HORIZON) / HORIZON,
        pending,
        np.maximum(0.0, expected.footprint_tokens - prompts - generated),
        caps * (caps < UNLIMITED),
    )
    for row in zip(lanes.ids, *(column.tolist() for column in columns), strict=True):
        yield InstancePressure(*row)


def _waiting(model: str, queue: HeldQueue, quantum_us: int) -> Iterator[WaitingGroup]:
    work = queue.work()
    key = (work.due_us // quantum_us, work.slo_class, work.region_code)
    order = np.lexsort(key[::-1])
    sorted_key = np.stack(key)[:, order]
    starts = np.flatnonzero(np.append(True, (sorted_key[:, 1:] != sorted_key[:, :-1]).any(axis=0)))
    means, variances = works_of(work.lengths)
    columns = (
        np.minimum.reduceat(work.due_us[order], starts),
        np.minimum.reduceat(work.arrived_us[order], starts),
        np.diff(np.append(starts, len(order))),
        np.add.reduceat(work.prompt_tokens[order], starts),
        np.add.reduceat(means[order], starts),
        np.add.reduceat(variances[order], starts),
    )
    firsts = order[starts]
    classes, regions = work.slo_class[firsts].tolist(), work.region_code[firsts].tolist()
    for slo_class, region, *rest in zip(classes, regions, *(column.tolist() for column in columns), strict=True):
        yield WaitingGroup(model, work.regions[region], SloClass(slo_class), *rest)
