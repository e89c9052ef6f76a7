"""The best fleet that somebody who knows the trace finds with the simulator itself, beside the bound from below."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from forebay.core.units import US_PER_S
from forebay.simulator.config import Group, PolicyConfig, World
from forebay.simulator.oracles.bound import engine_profile, lower_hours, scaled_groups
from forebay.simulator.oracles.fluid import Floats, FluidEngine, demand_of
from forebay.simulator.oracles.planned import home_rows, planned, scaled
from forebay.simulator.run import Scenario, simulate
from forebay.simulator.shell.starting import mean_phases_s
from forebay.simulator.summary import met
from forebay.simulator.usage import fleet_usage
from forebay.simulator.workload.base import Workload

TICK_S = 1.0
BEST_FLEET = "best fleet found"
NOTICE_S = 3.0
"""What passes besides the start itself until the scheduler places on a new instance: probes and snapshots."""
SCALES = 6
"""How often the scale of the schedule is halved between what suffices and what does not."""
POOLS_APART_MAX = 3
"""Up to so many pools, each gets its own smallest constant number; where there are more, the search starts from a plan
(`oracles.planned`) and tries it at one scale for all."""
MORE, LESS = (1.0, 1.15, 1.3, 1.6, 2.0), (0.9, 0.8, 0.7)
"""The scales at which a plan is tried until it suffices, and if it does at once, until it does not."""
SCHEDULER: Mapping[str, object] = {"router": "join_shortest_tokens"}

Counts = dict[str, list[int]]


@dataclass(frozen=True, slots=True)
class Bound:
    """No schedule needs fewer than `lower_hours`; one with `achieved_hours` was found and run.

    `achieved_hours` is None where no fleet within the bounds of its groups kept the promises; `attainment` is the
    lowest share of any class of any model, and `schedule` gives the instances by pool and window of `window_s`.
    `static_counts` is the smallest fleet of constant size, by pool, where it was sought. `run_count` is how many runs
    the search took.
    """

    lower_hours: float
    achieved_hours: float | None
    attainment: float
    window_s: float
    static_counts: Mapping[str, int] = field(default_factory=dict)
    schedule: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    run_count: int = 0


class Trial(NamedTuple):
    """What one run of a schedule gave; fewer GPU-hours are better."""

    attainment: float
    hours: float
    gpu_hours: float


def oracle_hours(
    workload: Workload,
    world: World,
    *,
    attainment: float = 0.99,
    window_s: float = 300.0,
    run_count_max: int = 60,
    scheduler: Mapping[str, object] = SCHEDULER,
    seed: int = 0,
    kernel: str = "fast",
    watch: Callable[[int], None] | None = None,
) -> Bound:
    """Searches the fewest GPU-hours that keep the promises to a share `attainment` of the requests of each class
    of each model.

    First the smallest constant fleet, then counts by window in proportion to the fluid bound of what arrives in each
    (of many pools: a plan, at several scales), then single windows with one less, for as long as runs are left. Every
    trial is a run of the simulator with known lengths and a fleet that is ready in time; `watch` hears how many rows
    all of them have ended so far. What is found was run, and is no bound: nobody proves that less would not do. Raises
    ConfigError for what `lower_hours` refuses.
    """
    lower = lower_hours(workload, world, attainment)
    run = _Runs(workload, world, scheduler, seed, kernel)
    search = _Search(run, attainment, window_s, run_count_max, watch or (lambda _: None))
    if len(scaled_groups(world)) > POOLS_APART_MAX:
        search.planned(planned(workload, world, window_s, attainment))
    else:
        search.constant()
    if search.best is None:
        return Bound(lower.hours, None, search.reached, window_s, run_count=search.run_count)
    static = {pool: counts[0] for pool, counts in search.best_counts.items()} if search.is_constant else {}
    if search.is_constant:
        search.proportional()
    search.trim()
    schedule = {pool: tuple(counts) for pool, counts in search.best_counts.items()}
    return Bound(lower.hours, search.best.hours, search.best.attainment, window_s, static, schedule, search.run_count)


def best_policy(
    schedule: Mapping[str, Sequence[int]], window_s: float, world: World, scheduler: Mapping[str, object] = SCHEDULER
) -> PolicyConfig:
    """The policy that follows a schedule and knows the lengths: what every trial of the search runs."""
    return PolicyConfig(BEST_FLEET, scheduler, autoscaler_table(schedule, window_s, world), {"length": "clairvoyant"})


def autoscaler_table(schedule: Mapping[str, Sequence[int]], window_s: float, world: World) -> dict[str, object]:
    """The [autoscaler] of an arm that follows a schedule of instances by pool and window, such as `Bound.schedule`.

    Limits against policies that change their mind do not hold it back: it knows.
    """
    models = {group.pool_name: group.model for group in scaled_groups(world)}
    return {
        "policy": "clairvoyant",
        "parameters": {
            "steps": [step for pool in sorted(schedule) for step in _steps(models, pool, schedule[pool], window_s)],
            "lead_s": _start_s(world) + TICK_S + NOTICE_S,
        },
        "tick_s": TICK_S,
        "step_instances_max": 1_000_000,
        "dwell_s": 0.0,
        "survivors_load_max": 0.0,
    }


@dataclass(frozen=True, slots=True)
class _Runs:
    """Runs the trace with a schedule."""

    workload: Workload
    world: World
    scheduler: Mapping[str, object]
    seed: int
    kernel: str

    def trial(self, counts: Counts, window_s: float, watch: Callable[[int], None]) -> Trial:
        """What the schedule gives."""
        policy = best_policy(counts, window_s, self.world, self.scheduler)
        result = simulate(Scenario(self.workload, self.world, policy, self.seed), kernel=self.kernel, watch=watch)
        kept = met(result.requests, self.world.slo)
        usage = fleet_usage(result, self.world)
        return Trial(lowest_share(self.workload, kept), usage.instance_hours, usage.gpu_hours)

    def busy(self, group: Group, window_s: float, window_count: int) -> Floats:
        """How many instances of a pool the arrivals of each window keep busy at the very least.

        Pools of a region share what comes there evenly, and all pools what comes from regions that have none.
        """
        engine = FluidEngine(engine_profile(self.world, group))
        demand = demand_of(self.workload, self.world.engine.prefix_cache_tokens > 0)
        busy_s = np.zeros(window_count)
        for rows, sharers in home_rows(self.workload, self.world, group):
            windows = (self.workload.arrival_us[rows] / US_PER_S // window_s).astype(np.int64)
            busy_s += engine.busy_s(demand.of(rows).summed(windows, window_count)) / sharers
        return busy_s / window_s


def lowest_share(workload: Workload, kept: npt.NDArray[np.bool_]) -> float:
    """The lowest share of kept promises of any class of any model; 1 without requests."""
    number = workload.model * (int(workload.slo_class.max(initial=0)) + 1) + workload.slo_class
    came = np.bincount(number)
    met_count = np.bincount(number, weights=kept)
    return float((met_count[came > 0] / came[came > 0]).min(initial=1.0))


class _Search:
    """Keeps the cheapest schedule that suffices and tries others until its runs are spent."""

    def __init__(
        self, runs: _Runs, attainment: float, window_s: float, run_count_max: int, watch: Callable[[int], None]
    ) -> None:
        self.best: Trial | None = None
        self.best_counts: Counts = {}
        self.reached = 0.0
        self.run_count = 0
        self.is_constant = True
        self._runs = runs
        self._groups = scaled_groups(runs.world)
        self._attainment = attainment
        self._window_s = window_s
        self._run_count_max = run_count_max
        self._watch = watch
        last_us = int(runs.workload.arrival_us[-1]) if len(runs.workload) else 0
        self._window_count = 1 + int(last_us / US_PER_S // window_s)
        self._known: dict[str, Trial] = {}

    def constant(self) -> None:
        """Finds the smallest constant fleet that suffices, one pool after another."""
        counts = {group.pool_name: [group.instances_max] * self._window_count for group in self._groups}
        if not self._suffices(counts):
            return
        for group in self._groups:
            fewest, most = max(1, group.instances_min), group.instances_max
            while fewest < most:
                middle = (fewest + most) // 2
                if self._suffices({**counts, group.pool_name: [middle] * self._window_count}):
                    most = middle
                else:
                    fewest = middle + 1
            counts[group.pool_name] = [most] * self._window_count

    def proportional(self) -> None:
        """Finds the smallest scale at which counts in proportion to the fluid bound of each window suffice."""
        self._scale({group.pool_name: share for group, share in self._shares()})

    def planned(self, counts: Counts) -> None:
        """Tries a plan at larger scales until it suffices and, where it does as it is, at smaller ones."""
        self.is_constant = False
        enough = (scale for scale in MORE if self._may_run() and self._suffices(scaled(counts, scale, self._groups)))
        if next(enough, None) == 1.0:
            for scale in LESS:
                if not (self._may_run() and self._suffices(scaled(counts, scale, self._groups))):
                    break

    def _may_run(self) -> bool:
        return self.run_count < self._run_count_max

    def _shares(self) -> list[tuple[Group, Floats]]:
        """How many instances of each pool each window keeps busy."""
        return [(one, _spread(self._runs.busy(one, self._window_s, self._window_count))) for one in self._groups]

    def _scale(self, shares: Mapping[str, Floats]) -> None:
        """Halves the scale of the shares for as long as the numbers suffice that they make, none above the best yet."""
        tops = {pool: max(counts) for pool, counts in self.best_counts.items()}
        high = max((top / max(float(shares[pool].max()), 1e-9) for pool, top in tops.items()), default=1.0)
        low = 0.0

        def times(group: Group, scale: float) -> list[int]:
            least, top = group.instances_min, tops[group.pool_name]
            return [min(top, max(least, int(np.ceil(scale * one)))) for one in shares[group.pool_name].tolist()]

        for _ in range(min(SCALES, self._run_count_max - self.run_count)):
            scale = (low + high) / 2
            if self._suffices({group.pool_name: times(group, scale) for group in self._groups}):
                high = scale
            else:
                low = scale

    def trim(self) -> None:
        """Takes one instance from many windows at once, from fewer where that is too much, until nothing gives."""
        fewest = {group.pool_name: group.instances_min for group in self._groups}
        for pool in sorted(self.best_counts):
            before = -1.0
            while self.best is not None and self.best.gpu_hours != before and self.run_count < self._run_count_max:
                before = self.best.gpu_hours
                self._trim(pool, 0, self._window_count, fewest[pool])

    def _trim(self, pool: str, start: int, end: int, fewest: int) -> None:
        counts = self.best_counts[pool]
        less = [max(fewest, count - 1) if start <= index < end else count for index, count in enumerate(counts)]
        if less == counts or self.run_count >= self._run_count_max:
            return
        if not self._suffices({**self.best_counts, pool: less}) and end - start > 1:
            middle = (start + end) // 2
            self._trim(pool, start, middle, fewest)
            self._trim(pool, middle, end, fewest)

    def _suffices(self, counts: Counts) -> bool:
        """Runs a schedule, keeps it if it is the best yet that suffices, and says whether it does."""
        trial = self._try(counts)
        enough = trial.attainment >= self._attainment
        self.reached = max(self.reached, trial.attainment)
        if enough and (self.best is None or trial.gpu_hours < self.best.gpu_hours):
            self.best, self.best_counts = trial, {pool: list(one) for pool, one in counts.items()}
        return enough

    def _try(self, counts: Counts) -> Trial:
        key = repr(sorted(counts.items()))
        if key not in self._known:
            before = self.run_count * len(self._runs.workload)
            self.run_count += 1
            self._known[key] = self._runs.trial(counts, self._window_s, lambda done: self._watch(before + done))
        return self._known[key]


def _spread(busy: Floats) -> Floats:
    """What arrives late in a window is served in the next one."""
    busy[1:] = np.maximum(busy[1:], busy[:-1] / 2)
    return busy


def _start_s(world: World) -> float:
    """How long a start takes; twice the mean where starts vary much."""
    means = [sum(mean_phases_s(world.start, engine_profile(world, group))) for group in world.groups]
    return max(means) * (1.0 + min(1.0, world.start.variation))


def _steps(models: Mapping[str, str], pool: str, counts: Sequence[int], window_s: float) -> list[dict[str, object]]:
    """The windows in which the count changes."""
    named = {"model": models[pool]} if models[pool] == pool else {"model": models[pool], "pool": pool}
    return [
        {**named, "at_s": index * window_s, "instances": count}
        for index, count in enumerate(counts)
        if index == 0 or count != counts[index - 1]
    ]
