"""What a run's fleet was used for: GPU-hours by state, waste, cost, and how often it was changed."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from forebay.simulator.config import Group, World
from forebay.simulator.results import STATUSES, UNKNOWN, FleetChange, RequestColumns, RunResult

US_PER_HOUR = 3_600_000_000
STARTING = ("PROVISIONING", "LOADING")
ENDED = ("STOPPED", "LOST")

Ints: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class FleetUsage:
    """GPU-hours are GPUs times time in every state but spot: loading, idle and draining count.

    "Wasted" is loading, and the whole stay of an instance that is removed before it has been busy for as long as it
    loaded ("undone"). A scaling action is one instance added or removed; a reversal is an opposite action on the same
    model and region within one load time. Loading is all that comes before an instance is ready, of which provisioning
    is the time until it has its machine. An instance serves while it holds a request and idles otherwise. `energy_kwh`
    is of GPUs whose groups have watts; at another frequency f of their clock, what they draw above idle is times f**3,
    as voltage follows the clock.
    """

    gpu_hours: float = 0.0
    serving_gpu_hours: float = 0.0
    idle_gpu_hours: float = 0.0
    loading_gpu_hours: float = 0.0
    draining_gpu_hours: float = 0.0
    spot_gpu_hours: float = 0.0
    wasted_gpu_hours: float = 0.0
    undone_count: int = 0
    cost: float = 0.0
    instance_hours: float = 0.0
    instances_mean: float = 0.0
    instances_peak: int = 0
    scaling_count: int = 0
    reversal_count: int = 0
    lost_count: int = 0
    energy_kwh: float = 0.0
    gpu_hours_by_model: Mapping[str, float] = field(default_factory=dict)
    provisioning_gpu_hours: float = 0.0


@dataclass(frozen=True, slots=True)
class Stay:
    """One life of an instance: the times at which it entered its states, the last of which may be an end."""

    instance_id: str
    model: str
    region: str
    gpu: str
    gpu_count: int
    steps: tuple[tuple[int, str], ...]
    spot: bool = False

    def spans(self, end_us: int) -> Iterator[tuple[str, int, int]]:
        """Each state with its start and end; what has not ended, ends with the run."""
        after = [*self.steps[1:], (end_us, "")]
        for (start_us, state), (next_us, _) in zip(self.steps, after, strict=True):
            if state not in ENDED:
                yield state, start_us, max(start_us, min(next_us, end_us))

    @property
    def added_us(self) -> int | None:
        """When it was asked for; None where it was there from the beginning."""
        at_us, state = self.steps[0]
        return at_us if state in STARTING else None

    @property
    def removed_us(self) -> int | None:
        """When it was taken away on purpose; None where it stayed or was lost."""
        for at_us, state in self.steps:
            if state in ("DRAINING", "STOPPED"):
                return at_us
        return None

    @property
    def lost(self) -> bool:
        """Whether it ended without being asked to."""
        return self.removed_us is None and self.steps[-1][1] == "LOST"


def fleet_usage(result: RunResult, world: World) -> FleetUsage:
    """The usage of a run's whole fleet; GPUs have the prices of `world`."""
    stays = list(find_stays(result.changes))
    busy = _Busy(result)
    bills = [_bill(stay, busy, result.end_us) for stay in stays]
    actions = _actions(stays)
    mean, peak = _instances(stays, result.end_us)
    return FleetUsage(
        gpu_hours=sum(bill.paid for bill in bills),
        serving_gpu_hours=sum(bill.serving for bill in bills),
        idle_gpu_hours=sum(bill.idle for bill in bills),
        loading_gpu_hours=sum(bill.loading for bill in bills),
        draining_gpu_hours=sum(bill.draining for bill in bills),
        spot_gpu_hours=sum(bill.spot for bill in bills),
        wasted_gpu_hours=sum(bill.paid if bill.undone else bill.loading for bill in bills),
        undone_count=sum(bill.undone for bill in bills),
        cost=sum(bill.paid * price(world, stay) for stay, bill in zip(stays, bills, strict=True)),
        instance_hours=sum(bill.paid / max(1, stay.gpu_count) for stay, bill in zip(stays, bills, strict=True)),
        instances_mean=mean,
        instances_peak=peak,
        scaling_count=len(actions),
        reversal_count=count_reversals(actions, mean_loading_us(stays, result.end_us)),
        lost_count=sum(stay.lost for stay in stays),
        energy_kwh=sum(_energy_kwh(stay, busy, result, group_of(world, stay)) for stay in stays),
        gpu_hours_by_model=_by_model(stays, bills),
        provisioning_gpu_hours=sum(bill.provisioning for bill in bills),
    )


def find_stays(changes: Sequence[FleetChange]) -> Iterator[Stay]:
    """The lives of all instances, in order of their first change; an id that comes back begins a new one."""
    open_changes: dict[str, list[FleetChange]] = {}
    order: list[list[FleetChange]] = []
    for change in changes:
        steps = open_changes.get(change.instance_id)
        if steps is None:
            if change.state in ENDED:
                continue
            steps = open_changes[change.instance_id] = []
            order.append(steps)
        steps.append(change)
        if change.state in ENDED:
            del open_changes[change.instance_id]
    for steps in order:
        one = steps[0]
        yield Stay(
            one.instance_id,
            one.model,
            one.region,
            one.gpu,
            one.gpu_count,
            tuple((change.at_us, change.state) for change in steps),
            one.spot,
        )


def price(world: World, stay: Stay) -> float:
    """The price of a GPU-hour of the instance's group; 1 where it has none."""
    group = group_of(world, stay)
    return 1.0 if group is None else group.gpu_hour_price


def group_of(world: World, stay: Stay) -> Group | None:
    """The group that has most in common with the instance: its model and GPU, its region, and whether it is spot."""
    best, best_score = None, -1
    for group in world.groups:
        if group.model != stay.model:
            continue
        same_gpu, same_region = group.profile.split("/")[0] == stay.gpu, group.region == stay.region
        score = 4 * same_gpu + 2 * same_region + (group.spot == stay.spot)
        if score > best_score:
            best, best_score = group, score
    return best


def _energy_kwh(stay: Stay, busy: "_Busy", result: RunResult, group: Group | None) -> float:
    """What the instance's GPUs drew in every state but spot."""
    if group is None or not group.busy_watts:
        return 0.0
    turns = [(turn.at_us, turn.frequency) for turn in result.turns if turn.instance_id == stay.instance_id]
    watt_us = 0.0
    for state, start_us, stop_us in stay.spans(result.end_us):
        if state == "SPOT":
            continue
        watt_us += group.idle_watts * (stop_us - start_us)
        for frequency, from_us, to_us in _pieces(turns, start_us, stop_us):
            above = (group.busy_watts - group.idle_watts) * frequency**3
            watt_us += above * busy.within_us(stay.instance_id, from_us, to_us)
    return stay.gpu_count * watt_us / US_PER_HOUR / 1_000


def _pieces(turns: Sequence[tuple[int, float]], start_us: int, stop_us: int) -> Iterator[tuple[float, int, int]]:
    """The span in pieces of one frequency each."""
    steps = [(0, 1.0), *turns, (stop_us, 1.0)]
    for (from_us, frequency), (to_us, _) in pairwise(steps):
        low, high = max(start_us, from_us), min(stop_us, to_us)
        if high > low:
            yield frequency, low, high


@dataclass(frozen=True, slots=True)
class _Bill:
    """GPU-hours of one stay."""

    serving: float
    idle: float
    loading: float
    draining: float
    spot: float
    undone: bool
    provisioning: float

    @property
    def paid(self) -> float:
        return self.serving + self.idle + self.loading + self.draining


def _bill(stay: Stay, busy: "_Busy", end_us: int) -> _Bill:
    spent_us: dict[str, int] = defaultdict(int)
    busy_us = ready_busy_us = 0
    for state, start_us, stop_us in stay.spans(end_us):
        served_us = busy.within_us(stay.instance_id, start_us, stop_us)
        busy_us += served_us
        ready_busy_us += served_us if state == "READY" else 0
        spent_us[state] += stop_us - start_us
    loading_us = sum(spent_us[state] for state in STARTING)
    hours = stay.gpu_count / US_PER_HOUR
    return _Bill(
        serving=ready_busy_us * hours,
        idle=(spent_us["READY"] - ready_busy_us) * hours,
        loading=loading_us * hours,
        draining=spent_us["DRAINING"] * hours,
        spot=spent_us["SPOT"] * hours,
        undone=stay.removed_us is not None and busy_us < loading_us,
        provisioning=spent_us["PROVISIONING"] * hours,
    )


def _by_model(stays: Sequence[Stay], bills: Sequence[_Bill]) -> dict[str, float]:
    found: dict[str, float] = defaultdict(float)
    for stay, bill in zip(stays, bills, strict=True):
        found[stay.model] += bill.paid
    return dict(sorted(found.items()))


def mean_loading_us(stays: Sequence[Stay], end_us: int) -> float:
    """How long an instance took on average from being asked for to being ready, over those that became it."""
    spent = []
    for stay in stays:
        states = [state for _, state in stay.steps]
        if stay.added_us is not None and "READY" in states:
            spent.append(sum(stop - start for state, start, stop in stay.spans(end_us) if state in STARTING))
    return float(np.mean(spent)) if spent else 0.0


def _actions(stays: Sequence[Stay]) -> list[tuple[int, int, str, str]]:
    """Every instance added (+1) or removed (-1): time, direction, model, region."""
    found = []
    for stay in stays:
        for at_us, sign in ((stay.added_us, 1), (stay.removed_us, -1)):
            if at_us is not None:
                found.append((at_us, sign, stay.model, stay.region))
    return sorted(found)


def count_reversals(actions: Sequence[tuple[int, int, str, str]], loading_us: float) -> int:
    """Actions that come within one load time after an opposite one on the same model and region."""
    last: dict[tuple[str, str, int], int] = {}
    count = 0
    for at_us, sign, model, region in actions:
        opposite_us = last.get((model, region, -sign))
        count += opposite_us is not None and at_us - opposite_us <= loading_us
        last[model, region, sign] = at_us
    return count


def _instances(stays: Sequence[Stay], end_us: int) -> tuple[float, int]:
    """How many instances were paid for, on average and at most."""
    edges: list[tuple[int, int]] = []
    for stay in stays:
        for state, start_us, stop_us in stay.spans(end_us):
            if state != "SPOT" and stop_us > start_us:
                edges += [(start_us, 1), (stop_us, -1)]
    level = peak = area = at_us = 0
    for next_us, change in sorted(edges):
        area += level * (next_us - at_us)
        level, at_us = level + change, next_us
        peak = max(peak, level)
    return (area / end_us if end_us else 0.0), peak


class _Busy:
    """When each instance held at least one request: from the placement to the last token."""

    def __init__(self, result: RunResult) -> None:
        rows = result.requests
        self._numbers: dict[str, list[int]] = defaultdict(list)
        for number, name in enumerate(result.instances):
            self._numbers[name].append(number)
        starts, ends, instance = _residences(rows, result.end_us)
        order = np.lexsort((starts, instance))
        starts, ends, instance = starts[order], ends[order], instance[order]
        bounds = np.searchsorted(instance, np.arange(len(result.instances) + 1))
        self._merged = [_merge(starts[low:high], ends[low:high]) for low, high in pairwise(bounds)]

    def within_us(self, instance_id: str, start_us: int, stop_us: int) -> int:
        """How long the instance held requests between the two times."""
        return sum(
            _overlap_us(*self._merged[number], start_us, stop_us) for number in self._numbers.get(instance_id, ())
        )


def _overlap_us(starts: Ints, ends: Ints, start_us: int, stop_us: int) -> int:
    held = np.minimum(ends, stop_us) - np.maximum(starts, start_us)
    return int(np.maximum(held, 0).sum())


def _residences(rows: RequestColumns, end_us: int) -> tuple[Ints, Ints, Ints]:
    """Start, end and instance of each request's time on its last instance."""
    unfinished = rows.status == STATUSES.index("unfinished")
    ends = np.where(unfinished, end_us, rows.finish_us)
    starts = rows.arrival_us + np.maximum(rows.held_us, 0)
    known = (rows.instance != UNKNOWN) & (ends > starts)
    return starts[known], ends[known], rows.instance[known]


def _merge(starts: Ints, ends: Ints) -> tuple[Ints, Ints]:
    """The union of intervals that are sorted by start, as intervals that do not touch."""
    if not len(starts):
        return starts, ends
    reach = np.maximum.accumulate(ends)
    first = np.ones(len(starts), dtype=np.bool_)
    first[1:] = starts[1:] > reach[:-1]
    last = np.append(first[1:], True)
    return starts[first], reach[last]
