"""The best fleet that somebody who knows the trace finds with the simulator itself, beside the bound from below."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from forebay.core.units import US_PER_S
from forebay.simulator.config import Group, PolicyConfig, World
from forebay.simulator.oracles.bound import engine_profile, lower_hours
from forebay.simulator.oracles.fluid import Floats, FluidEngine, demand_of
from forebay.simulator.oracles.forecast import rows_of
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
SCHEDULER: Mapping[str, object] = {"router": "join_shortest_tokens"}

Counts = dict[str, list[int]]


@dataclass(frozen=True, slots=True)
class Bound:
    """No schedule needs fewer than `lower_hours`; one with `achieved_hours` was found and run.

    `achieved_hours` is None where no fleet within the bounds of its groups kept the promises; `attainment` is the
    lowest share of any model, and `schedule` gives the instances by window of `window_s`. `static_counts` is the
    smallest fleet of constant size, by model. `run_count` is how many runs the search took.
    """

    lower_hours: float
    achieved_hours: float | None
    attainment: float
    window_s: float
    static_counts: Mapping[str, int] = field(default_factory=dict)
    schedule: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    run_count: int = 0


class Trial(NamedTuple):
    """What one run of a schedule gave."""

    attainment: float
    hours: float


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
    """Searches the fewest instance-hours that keep the promises to a share `attainment` of each model's requests.

    First the smallest constant fleet, then counts by window in proportion to the fluid bound of what arrives in each,
    then single windows with one less, for as long as runs are left. Every trial is a run of the simulator with known
    lengths and a fleet that is ready in time; `watch` hears how many rows all of them have ended so far. Raises
    ConfigError for what `lower_hours` refuses.
    """
    lower = lower_hours(workload, world, attainment)
    run = _Runs(workload, world, scheduler, seed, kernel)
    search = _Search(run, attainment, window_s, run_count_max, watch or (lambda _: None))
    search.constant()
    if search.best is None:
        return Bound(lower.hours, None, search.reached, window_s, run_count=search.run_count)
    static = {model: counts[0] for model, counts in search.best_counts.items()}
    search.proportional()
    search.trim()
    schedule = {model: tuple(counts) for model, counts in search.best_counts.items()}
    return Bound(lower.hours, search.best.hours, search.best.attainment, window_s, static, schedule, search.run_count)


def best_policy(
    schedule: Mapping[str, Sequence[int]], window_s: float, world: World, scheduler: Mapping[str, object] = SCHEDULER
) -> PolicyConfig:
    """The policy that follows a schedule and knows the lengths: what every trial of the search runs."""
    return PolicyConfig(BEST_FLEET, scheduler, autoscaler_table(schedule, window_s, world), {"length": "clairvoyant"})


def autoscaler_table(schedule: Mapping[str, Sequence[int]], window_s: float, world: World) -> dict[str, object]:
    """The [autoscaler] of an arm that follows a schedule of instances by model and window, such as `Bound.schedule`."""
    return {
        "policy": "clairvoyant",
        "parameters": {
            "steps": [step for model in sorted(schedule) for step in _steps(model, schedule[model], window_s)],
            "lead_s": _start_s(world) + TICK_S + NOTICE_S,
        },
        "tick_s": TICK_S,
        "step_instances_max": 1_000_000,
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
        shares = [float(kept[mine].mean()) for model in counts if (mine := rows_of(self.workload, model)).any()]
        return Trial(min(shares, default=1.0), fleet_usage(result, self.world).instance_hours)

    def busy(self, group: Group, window_s: float, window_count: int) -> Floats:
        """How many instances the arrivals of each window keep busy at the very least."""
        mine = rows_of(self.workload, group.model)
        windows = (self.workload.arrival_us[mine] / US_PER_S // window_s).astype(np.int64)
        demand = demand_of(self.workload, self.world.engine.prefix_cache_tokens > 0).of(mine)
        busy_s = FluidEngine(engine_profile(self.world, group)).busy_s(demand.summed(windows, window_count))
        return busy_s / window_s


class _Search:
    """Keeps the cheapest schedule that suffices and tries others until its runs are spent."""

    def __init__(
        self, runs: _Runs, attainment: float, window_s: float, run_count_max: int, watch: Callable[[int], None]
    ) -> None:
        self.best: Trial | None = None
        self.best_counts: Counts = {}
        self.reached = 0.0
        self.run_count = 0
        self._runs = runs
        self._groups = runs.world.groups
        self._attainment = attainment
        self._window_s = window_s
        self._run_count_max = run_count_max
        self._watch = watch
        last_us = int(runs.workload.arrival_us[-1]) if len(runs.workload) else 0
        self._window_count = 1 + int(last_us / US_PER_S // window_s)
        self._known: dict[str, Trial] = {}

    def constant(self) -> None:
        """Finds the smallest constant fleet that suffices, one model after another."""
        counts = {group.model: [group.instances_max] * self._window_count for group in self._groups}
        if not self._suffices(counts):
            return
        for group in self._groups:
            fewest, most = max(1, group.instances_min), group.instances_max
            while fewest < most:
                middle = (fewest + most) // 2
                if self._suffices({**counts, group.model: [middle] * self._window_count}):
                    most = middle
                else:
                    fewest = middle + 1
            counts[group.model] = [most] * self._window_count

    def proportional(self) -> None:
        """Finds the smallest scale at which counts in proportion to the fluid bound of each window suffice."""
        tops = {model: max(counts) for model, counts in self.best_counts.items()}
        shares = {one.model: _spread(self._runs.busy(one, self._window_s, self._window_count)) for one in self._groups}
        high = max((top / max(float(shares[model].max()), 1e-9) for model, top in tops.items()), default=1.0)
        low = 0.0
        for _ in range(min(SCALES, self._run_count_max - self.run_count)):
            scale = (low + high) / 2
            counts = {
                group.model: [
                    min(tops[group.model], max(group.instances_min, int(np.ceil(scale * share))))
                    for share in shares[group.model].tolist()
                ]
                for group in self._groups
            }
            if self._suffices(counts):
                high = scale
            else:
                low = scale

    def trim(self) -> None:
        """Takes one instance from many windows at once, from fewer where that is too much, until nothing gives."""
        fewest = {group.model: group.instances_min for group in self._groups}
        for model in sorted(self.best_counts):
            before = -1.0
            while self.best is not None and self.best.hours != before and self.run_count < self._run_count_max:
                before = self.best.hours
                self._trim(model, 0, self._window_count, fewest[model])

    def _trim(self, model: str, start: int, end: int, fewest: int) -> None:
        counts = self.best_counts[model]
        less = [max(fewest, count - 1) if start <= index < end else count for index, count in enumerate(counts)]
        if less == counts or self.run_count >= self._run_count_max:
            return
        if not self._suffices({**self.best_counts, model: less}) and end - start > 1:
            middle = (start + end) // 2
            self._trim(model, start, middle, fewest)
            self._trim(model, middle, end, fewest)

    def _suffices(self, counts: Counts) -> bool:
        """Runs a schedule, keeps it if it is the best yet that suffices, and says whether it does."""
        trial = self._try(counts)
        enough = trial.attainment >= self._attainment
        self.reached = max(self.reached, trial.attainment)
        if enough and (self.best is None or trial.hours < self.best.hours):
            self.best, self.best_counts = trial, {model: list(one) for model, one in counts.items()}
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


def _steps(model: str, counts: Sequence[int], window_s: float) -> list[dict[str, object]]:
    """The windows in which the count changes."""
    return [
        {"model": model, "at_s": index * window_s, "instances": count}
        for index, count in enumerate(counts)
        if index == 0 or count != counts[index - 1]
    ]
