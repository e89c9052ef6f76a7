"""QLM's assignment of request groups to the virtual queues of instances, as a program that is correct."""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from forebay.scheduler.policy.planner.base import Assignment, Grouping, PlanView

Row: TypeAlias = npt.NDArray[np.float64]

WAIT_WEIGHT = 1e-3
"""What a second until a group is done counts beside a second that it is late: ties go to the shorter wait."""
SPARE_SLOTS = 1
"""Slots of each instance beyond an even share of the groups."""


@dataclass(frozen=True, slots=True)
class Qlm:
    """Each group gets one slot of one instance so that groups miss their promises by the fewest seconds in all.

    x[g, i, s] is 1 where group g takes slot s of instance i. Every group has one slot, every slot one group at most,
    and none is empty before a full one. A full slot is done at C[i, s] = busy[i] + the work of slots 0 to s, and late
    by at least C[i, s] - sum over g of slack[g] x[g, i, s]; the sum of late + done / 1,000 over full slots is least.
    (Section 2.2 of the summary of related work. As printed, the program demands a group in every slot of every worker,
    which more than one worker makes impossible, and has no slack. Models are never swapped here, so there is no swap
    time; late by slot instead of by group says the same with fewer bounds.)

    Solved by HiGHS (scipy). At most `cells_max` pairs of group and slot are looked at, and `nodes_max` relaxations;
    what was found until then counts. `step_s`, `size_max`, `groups_max` and these two are ours, the width of 100 s is
    that of QLM's code.
    """

    step_s: float = 2.0
    width_s: float = 100.0
    size_max: int = 20
    groups_max: int = 5
    cells_max: int = 30
    nodes_max: int = 100

    def __post_init__(self) -> None:
        if not 0.1 <= self.step_s <= 3_600 or self.width_s <= 0:
            raise ValueError("step_s must be 0.1 to 3,600 and width_s positive")
        if min(self.size_max, self.groups_max, self.nodes_max) < 1 or self.cells_max < self.groups_max:
            raise ValueError("size_max, groups_max and nodes_max must be at least 1, cells_max at least groups_max")

    @property
    def grouping(self) -> Grouping:
        """As its parameters say."""
        return Grouping(self.step_s, self.width_s, self.size_max, self.groups_max)

    def plan(self, view: PlanView) -> Assignment | None:
        """The best plan that is found; None where there is none."""
        groups, instances = len(view.groups), len(view.busy_s)
        if not groups or not instances:
            return None
        share = -(-groups // instances)
        slots = max(share, min(groups, share + SPARE_SLOTS, self.cells_max // groups))
        chosen = _solved(_Program(view, slots), self.nodes_max)
        if chosen is None:
            return None
        queues = ([chosen[:, i, s] for s in range(slots)] for i in range(instances))
        return tuple(tuple(int(slot.argmax()) for slot in queue if slot.any()) for queue in queues)


class _Program:
    """Costs and constraints over x[g, i, s], then late[i, s], then done[i, s]."""

    def __init__(self, view: PlanView, slots: int) -> None:
        groups, instances = len(view.groups), len(view.busy_s)
        self.shape = groups, instances, slots
        cells, places = groups * instances * slots, instances * slots
        self.costs = np.concatenate((np.zeros(cells), np.ones(places), np.full(places, WAIT_WEIGHT)))
        self.is_integer = np.concatenate((np.ones(cells), np.zeros(2 * places)))
        self.most = np.concatenate((np.ones(cells), np.full(2 * places, np.inf)))
        self.rows: list[Row] = []
        self.low: list[float] = []
        self.high: list[float] = []
        self._take_slots()
        self._keep_promises(view)

    def _take_slots(self) -> None:
        groups, instances, slots = self.shape
        for group in range(groups):
            self._add(self._cells(group=group), low=1.0, high=1.0)
        for i in range(instances):
            for s in range(slots):
                full = self._cells(place=(i, s))
                self._add(full, high=1.0)
                if s:
                    self._add(full - self._cells(place=(i, s - 1)), high=0.0)

    def _keep_promises(self, view: PlanView) -> None:
        groups, instances, slots = self.shape
        work = np.array([group.work_s for group in view.groups])
        slack = np.array([group.slack_s for group in view.groups])
        # An empty slot is early enough by this: whatever is before it, nothing there is late.
        most = max(view.busy_s) + float(work.sum()) + float(np.abs(slack).max())
        for i in range(instances):
            ahead = np.zeros(len(self.costs))
            for s in range(slots):
                ahead = ahead + self._cells(work, place=(i, s))
                full, place = self._cells(place=(i, s)), groups * instances * slots + i * slots + s
                late = ahead - self._cells(slack, place=(i, s)) + most * full
                late[place] = -1.0
                self._add(late, high=most - view.busy_s[i])
                done = ahead + most * full
                done[place + instances * slots] = -1.0
                self._add(done, high=most - view.busy_s[i])

    def _cells(self, weights: Row | float = 1.0, group: int | None = None, place: tuple[int, int] | None = None) -> Row:
        """Weights by group of the x of one group, or of one place."""
        cells, spare = np.zeros(self.shape), 2 * self.shape[1] * self.shape[2]
        if group is not None:
            cells[group] = weights
        if place is not None:
            cells[:, place[0], place[1]] = weights
        return np.concatenate((cells.ravel(), np.zeros(spare)))

    def _add(self, row: Row, low: float = -np.inf, high: float = np.inf) -> None:
        self.rows.append(row)
        self.low.append(low)
        self.high.append(high)


def _solved(program: _Program, nodes_max: int) -> npt.NDArray[np.bool_] | None:
    # Not at the top: it takes a third of a second, which only those who plan should wait for.
    from scipy.optimize import Bounds, LinearConstraint, milp

    found: Any = milp(
        program.costs,
        integrality=program.is_integer,
        bounds=Bounds(0.0, program.most),
        constraints=LinearConstraint(np.array(program.rows), program.low, program.high),
        options={"node_limit": nodes_max},
    )
    if found.x is None:
        return None
    groups, instances, slots = program.shape
    chosen: npt.NDArray[np.bool_] = found.x[: groups * instances * slots].reshape(program.shape) > 0.5
    return chosen
