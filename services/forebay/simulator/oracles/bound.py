"""The fewest instance-hours with which the promises of a trace can be kept: a proof from below."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from forebay.core.errors import ConfigError
from forebay.core.instance import EngineProfile
from forebay.core.promises import Promise, Promises
from forebay.core.units import US_PER_MS, US_PER_S
from forebay.core.values import SloClass
from forebay.simulator.config import Group, World
from forebay.simulator.oracles.cheapest import cheapest
from forebay.simulator.oracles.fluid import Floats, FluidEngine, demand_of
from forebay.simulator.oracles.forecast import rows_of, served_tokens
from forebay.simulator.profiles import profile_of
from forebay.simulator.shell.starting import mean_phases_s
from forebay.simulator.workload.base import Ints, Workload

WINDOWS_S = (60, 300, 900, 3_600)
"""The lengths of windows that are tried; each gives a bound, and the largest holds too."""
S_PER_HOUR = 3_600.0
NO_LIMIT_US = 2**62


@dataclass(frozen=True, slots=True)
class LowerBound:
    """`hours` of instances in all groups; `busy_hours` of them are iterations that nobody can do without.

    `gpu_hours` and `busy_gpu_hours` are the same times the GPUs of each instance.
    """

    hours: float
    busy_hours: float
    gpu_hours: float
    busy_gpu_hours: float


def lower_hours(workload: Workload, world: World, attainment: float | Mapping[str, float] = 1.0) -> LowerBound:
    """Instance-hours below which no share `attainment` of each model's requests can meet its promises.

    A mapping gives the share by model, 1 where it names none.

    For each model, with f the fluid bound: all kept requests take f of their demand; those that arrive in a window and
    must end in it take it there, or the fewest instances stand through it. Starts are paid beside that: where a window
    needs more instances than there are at first, the rest is started. The requests that may miss are taken to be the
    most expensive ones. Several groups of a model share its requests in any way and at no cost, each part of an
    iteration as fast as on the fastest of them (`oracles.cheapest`): a relaxation. Raises ConfigError for a world that
    has a `refusal`.
    """
    reason = refusal(world)
    if reason:
        raise ConfigError(reason)
    shares = attainment if isinstance(attainment, Mapping) else dict.fromkeys(workload.models, attainment)
    bounds = [_of_model(workload, world, groups, shares.get(model, 1.0)) for model, groups in by_model(world).items()]
    return LowerBound(
        *(sum(getattr(one, name) for one in bounds) for name in ("hours", "busy_hours", "gpu_hours", "busy_gpu_hours"))
    )


def by_model(world: World) -> dict[str, list[Group]]:
    """The groups of each model."""
    found: dict[str, list[Group]] = {}
    for group in world.groups:
        found.setdefault(group.model, []).append(group)
    return found


def scaled_groups(world: World) -> list[Group]:
    """The groups that the autoscaler moves: the first of each model, and those that name a pool."""
    return [group for groups in by_model(world).values() for group in groups if group.pool or group is groups[0]]


def is_relaxed(world: World) -> bool:
    """Whether the bound lets a model's groups share its requests freely, which no real fleet can."""
    return any(len(groups) > 1 for groups in by_model(world).values())


def refusal(world: World) -> str:
    """Why nothing is known of the least hours in this world, and what to do; empty where the bound holds.

    A student answers requests that nobody knows beforehand, and instances that compute prompts for others are a second
    kind of engine.
    """
    if world.student.share:
        return "[student] answers some requests: the oracle cannot know which; set its share to 0"
    if world.prefill:
        return "[[prefill]] splits requests over two kinds of instances; the oracle needs one: leave it out"
    return ""


def engine_profile(world: World, group: Group) -> EngineProfile:
    """The profile of the group's instances."""
    engine = world.engine
    return profile_of(
        group.profile,
        max_seqs=group.concurrency_max or engine.max_seqs,
        max_batch_tokens=engine.max_batch_tokens,
        block_size=engine.block_size,
        kv_tokens=engine.kv_tokens,
    )


def last_end_us(workload: Workload, slo: Promises) -> Ints:
    """By when each row must have ended to meet its promises; NO_LIMIT_US where nothing is promised.

    A row that waits for a parent has no limit here: nobody knows when it arrives.
    """
    gaps = served_tokens(workload) - 1
    spans = np.where(workload.deadline_us > 0, workload.deadline_us, NO_LIMIT_US)
    for slo_class in SloClass:
        promise: Promise = getattr(slo, slo_class.name.lower())
        of_class = workload.slo_class == slo_class
        if promise.e2e_s:
            spans = np.where(of_class, np.minimum(spans, round(promise.e2e_s * US_PER_S)), spans)
        if promise.ttft_s and promise.tpot_ms:
            by_tokens = round(promise.ttft_s * US_PER_S) + gaps * round(promise.tpot_ms * US_PER_MS)
            spans = np.where(of_class, np.minimum(spans, by_tokens), spans)
    known = (spans < NO_LIMIT_US) & ~_waits(workload)
    return np.where(known, workload.arrival_us + spans, NO_LIMIT_US)


def _waits(workload: Workload) -> npt.NDArray[np.bool_]:
    """Which rows wait for a parent."""
    waiting: npt.NDArray[np.bool_] = np.diff(workload.parent_start) > 0
    return waiting


def may_miss(count: int, attainment: float) -> int:
    """How many of so many requests may miss their promises."""
    # A share such as 0.9 is not exact: 0.9 * 10 must not become more than 9.
    return count - ceil(attainment * count - 1e-9)


def _of_model(workload: Workload, world: World, groups: Sequence[Group], attainment: float) -> LowerBound:
    profiles = [engine_profile(world, group) for group in groups]
    gpus = [profile.gpu_count for profile in profiles]
    count = _Instances(workload, world, groups, profiles, [1] * len(groups)).bound(attainment)
    if len(set(gpus)) == 1:
        return LowerBound(*count, *(gpus[0] * hours for hours in count))
    return LowerBound(*count, *_Instances(workload, world, groups, profiles, gpus).bound(attainment))


@dataclass(frozen=True, slots=True)
class _Instances:
    """The instances of one model, each of which counts as its group's weight: 1, or its GPUs."""

    workload: Workload
    world: World
    groups: Sequence[Group]
    profiles: Sequence[EngineProfile]
    weights: Sequence[int]

    def bound(self, attainment: float) -> tuple[float, float]:
        """The least hours, and those of them that are iterations."""
        workload, world = self.workload, self.world
        mine = rows_of(workload, self.groups[0].model)
        chosen = mine & (workload.arrival_us <= world.horizon_s * US_PER_S) if world.horizon_s else mine
        engine = FluidEngine(_at_best(cheapest(self.profiles, self.weights), world))
        demand = demand_of(workload, world.engine.prefix_cache_tokens > 0).of(chosen)
        together = demand.summed(np.zeros(int(chosen.sum()), dtype=np.int64), 1)
        spared_s = _largest(engine.busy_s(demand), may_miss(int(mine.sum()), attainment))
        busy_s = max(0.0, float(engine.busy_s(together)[0]) - spared_s)
        # When a request that waits for another one arrives, nobody knows; the others surely arrive.
        span_us = int(workload.arrival_us[chosen & ~_waits(workload)].max(initial=0))
        arrival_us, end_us = workload.arrival_us[chosen], last_end_us(workload, world.slo)[chosen]
        best_s = busy_s
        for window_s in WINDOWS_S:
            windows = _Windows.of(window_s, arrival_us, end_us, span_us)
            inside = windows.inside
            need_s = engine.busy_s(demand.of(inside).summed(windows.numbers[inside], len(windows.lengths_s)))
            started = max(0, ceil((need_s.max() - spared_s) / window_s) - self._at_first)
            standing_s = self._fewest * windows.lengths_s
            best_s = max(
                best_s,
                busy_s + started * self._start_s,
                float(np.maximum(need_s, standing_s).sum()) - spared_s,
                float(standing_s.sum()),
            )
        return best_s / S_PER_HOUR, busy_s / S_PER_HOUR

    @property
    def _at_first(self) -> int:
        return sum(weight * one.instances_initial for one, weight in zip(self.groups, self.weights, strict=True))

    @property
    def _fewest(self) -> int:
        """What surely stands all the time."""
        scaled = scaled_groups(self.world)
        pairs = zip(self.groups, self.weights, strict=True)
        return sum(weight * _fewest(self.world, one, any(one is other for other in scaled)) for one, weight in pairs)

    @property
    def _start_s(self) -> float:
        return min(_start_s(self.world, profile) for profile in self.profiles)


class _Windows(NamedTuple):
    """The window of each request, whether it must end there too, and how long each window is."""

    numbers: Ints
    inside: npt.NDArray[np.bool_]
    lengths_s: Floats

    @staticmethod
    def of(window_s: int, arrival_us: Ints, end_us: Ints, span_us: int) -> "_Windows":
        window_us = window_s * US_PER_S
        starts_us = window_us * np.arange(1 + span_us // window_us)
        numbers = np.minimum(arrival_us // window_us, len(starts_us) - 1)
        lengths_s = np.clip(span_us - starts_us, 0, window_us) / US_PER_S
        return _Windows(numbers, end_us < (numbers + 1) * window_us, lengths_s)


def _at_best(profile: EngineProfile, world: World) -> EngineProfile:
    """The profile at the highest speed that knobs and faults ever allow."""
    fastest = max([1.0, *(one.frequency for one in world.knobs)])
    fastest *= max([1.0, *(1 / one.factor for one in world.faults if one.kind == "slow" and one.factor > 0)])
    return profile.slowed(1 / fastest) if fastest > 1 else profile


def _fewest(world: World, group: Group, is_scaled: bool) -> int:
    """Instances that surely stand all the time: none where they may be lost."""
    may_vanish = world.faults or (group.spot and world.spot.reclaims_per_hour)
    return 0 if may_vanish else group.instances_min if is_scaled else group.instances_initial


def _largest(values: Floats, count: int) -> float:
    return float(np.sort(values)[max(0, len(values) - count) :].sum())


def _start_s(world: World, profile: EngineProfile) -> float:
    """What every start takes at least: nothing that is sure where starts vary."""
    return 0.0 if world.start.variation else float(sum(mean_phases_s(world.start, profile)))
