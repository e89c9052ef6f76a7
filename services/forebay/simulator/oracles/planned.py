"""A fleet planned by somebody who knows every arrival and length, without running it: where a search starts that cannot
try one pool after another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from forebay.core.capacity import Engine, Mix, ServiceLevel
from forebay.core.promises import Promise
from forebay.core.units import US_PER_MS, US_PER_S
from forebay.core.values import SloClass
from forebay.simulator.config import Group, World
from forebay.simulator.oracles.bound import engine_profile, scaled_groups
from forebay.simulator.oracles.fluid import Demand, Floats, FluidEngine, demand_of
from forebay.simulator.oracles.forecast import rows_of, served_tokens
from forebay.simulator.workload.base import Bools, Workload

PEAK_S = 60.0
"""The shortest time over which interactive load is averaged: what is shorter, instances swallow."""
RAISES_MAX = 50_000


def planned(workload: Workload, world: World, window_s: float, attainment: float) -> dict[str, list[int]]:
    """Instances by pool and window.

    A request takes its fluid time, times what its class takes longer at the rate that one instance serves of it within
    its promises (`core.capacity`). Interactive work needs its busiest minute of the window at once; deferred work fills
    what is free of it until its deadline, and where that is too little, the window with the fewest instances gets one
    more. Pools of a region share what comes there evenly, and all pools what comes from regions that have none.
    """
    count = 1 + int(int(workload.arrival_us.max(initial=0)) / US_PER_S // window_s)
    demand = demand_of(workload, world.engine.prefix_cache_tokens > 0)
    found = {}
    for group in scaled_groups(world):
        pool = _Pool(workload, world, group, demand, attainment)
        counts = np.clip(np.ceil(pool.peaks(window_s, count) - 1e-9), group.instances_min, group.instances_max)
        free_s = counts * window_s - pool.means(window_s, count) * window_s
        filled = fill(counts.astype(np.int64), free_s, pool.deferred(window_s, count), window_s, group.instances_max)
        found[group.pool_name] = filled.tolist()
    return found


def home_rows(workload: Workload, world: World, group: Group) -> list[tuple[Bools, int]]:
    """The rows that come to a pool, each set with how many pools share it."""
    rivals = [one for one in scaled_groups(world) if one.model == group.model]
    names = [one.region for one in rivals]
    at_home = np.array([name == group.region for name in workload.regions], dtype=np.bool_)
    homeless = np.array([name not in names for name in workload.regions], dtype=np.bool_)
    mine = rows_of(workload, group.model)
    pairs = ((at_home, names.count(group.region)), (homeless, len(rivals)))
    return [(mine & regions[workload.region], sharers) for regions, sharers in pairs]


@dataclass(frozen=True, slots=True)
class _Pool:
    """What comes to one pool, in seconds of its instances."""

    workload: Workload
    world: World
    group: Group
    demand: Demand
    attainment: float

    def peaks(self, window_s: float, count: int) -> Floats:
        """Instances that the busiest part of each window needs for interactive work."""
        parts = max(1, round(window_s / PEAK_S))
        load = self._load(window_s / parts, count * parts, interactive=True)
        busiest: Floats = load.reshape(count, parts).max(axis=1)
        return busiest

    def means(self, window_s: float, count: int) -> Floats:
        """Instances that interactive work keeps busy over each window."""
        return self._load(window_s, count, interactive=True)

    def deferred(self, window_s: float, count: int) -> tuple[Floats, Floats]:
        """Seconds of deferred work that come in each window, and are due in each: at the end without a deadline."""
        come = self._load(window_s, count, interactive=False) * window_s
        due = self._load(window_s, count, interactive=False, due=True) * window_s
        return come, due

    def _load(self, window_s: float, count: int, *, interactive: bool, due: bool = False) -> Floats:
        workload = self.workload
        total = np.zeros(count)
        for rows, sharers in home_rows(workload, self.world, self.group):
            for slo_class in SloClass:
                chosen = rows & (workload.slo_class == slo_class)
                if (slo_class is SloClass.DEFERRED) == interactive or not chosen.any():
                    continue
                at_us = workload.arrival_us[chosen]
                if due:
                    deadline_us = workload.deadline_us[chosen]
                    at_us = np.where(deadline_us > 0, at_us + deadline_us, np.iinfo(np.int64).max // 4)
                windows = np.minimum(at_us / US_PER_S // window_s, count - 1).astype(np.int64)
                engine = FluidEngine(engine_profile(self.world, self.group))
                busy_s = engine.busy_s(self.demand.of(chosen).summed(windows, count))
                total += busy_s * self._slowness(engine, slo_class) / sharers / window_s
        return total

    def _slowness(self, engine: FluidEngine, slo_class: SloClass) -> float:
        """What requests of the class take of an instance within their promises, over their fluid time."""
        workload = self.workload
        rows = rows_of(workload, self.group.model) & (workload.slo_class == slo_class)
        mix = Mix.of_samples(workload.prompt_tokens[rows], served_tokens(workload)[rows])
        promise: Promise = self.world.slo.by_class()[slo_class]
        level = ServiceLevel(promise.ttft_s, promise.tpot_ms * US_PER_MS / US_PER_S, promise.e2e_s, self.attainment)
        one = Engine(engine_profile(self.world, self.group))
        rate = one.capacity(mix, level).requests_per_s or one.capacity(mix, ServiceLevel()).requests_per_s
        fluid_s = engine.busy_s(self.demand.of(rows).summed(np.zeros(int(rows.sum()), dtype=np.int64), 1))[0]
        return max(1.0, int(rows.sum()) / max(rate, 1e-9) / max(float(fluid_s), 1e-9))


def fill(
    counts: npt.NDArray[np.int64],
    free_s: Floats,
    deferred: tuple[Floats, Floats],
    window_s: float,
    most: int,
) -> npt.NDArray[np.int64]:
    """The counts with as few more as it takes that deferred work, which comes and is due by window, is done in time.

    What is free serves it as it comes. Where work is due that is not done, one instance is added in the window with the
    fewest, the latest of them, in which some of it waits; none where all of those have `most`.
    """
    counts, free_s = counts.copy(), np.maximum(free_s, 0.0)
    come, due = (np.cumsum(one) for one in deferred)
    for _ in range(RAISES_MAX):
        done = _served(come, free_s)
        late = np.flatnonzero(done < due - 1e-6 * max(1.0, float(due[-1])))
        if not len(late):
            break
        at = int(late[0])
        idle = np.flatnonzero(done[:at] >= come[:at] - 1e-9)
        first = int(idle[-1]) + 1 if len(idle) else 0
        choice = np.arange(first, at + 1)[counts[first : at + 1] < most]
        if not len(choice):
            due[at:] -= due[at] - done[at]
            due = np.maximum.accumulate(np.maximum(due, 0.0))
            continue
        fewest = choice[counts[choice] == counts[choice].min()][-1]
        counts[fewest] += 1
        free_s[fewest] += window_s
    return counts


def _served(come: Floats, free_s: Floats) -> Floats:
    """How much is done by the end of each window: at most what came, and what was free since nothing was left."""
    free = np.cumsum(free_s)
    # A queue that is served at once where it can be: Lindley's recursion, solved.
    spare = np.maximum.accumulate(np.maximum(free - come, 0.0))
    done: Floats = free - spare
    return done


def scaled(counts: Mapping[str, Sequence[int]], factor: float, groups: Sequence[Group]) -> dict[str, list[int]]:
    """All counts times a factor, rounded up, within the bounds of their groups."""
    found = {}
    for group in groups:
        own = np.ceil(factor * np.array(counts[group.pool_name]) - 1e-9)
        found[group.pool_name] = np.clip(own, group.instances_min, group.instances_max).astype(int).tolist()
    return found
