"""The clients: they send what the trace says, go on where a closed loop says so, and come back when told to."""

import heapq
from functools import partial

import numpy as np

from forebay.core.errors import ForebayError
from forebay.core.units import PS_PER_US, US_PER_S
from forebay.simulator.shell.agenda import NEVER_PS
from forebay.simulator.shell.context import Context
from forebay.simulator.shell.ports import Entry
from forebay.simulator.shell.requests import Requests
from forebay.simulator.shell.rows import FAILED, FINISHED, REJECTED


class Clients:
    """Who sends requests. `next_ps` is when the next one comes; rows with parents wait for them.

    `outside_count` rows are with no gateway and have not ended: they are to come, or to come back.
    """

    def __init__(self, context: Context, requests: Requests) -> None:
        self._context = context
        self._requests = requests
        self._attempts_max = context.world.clients.attempts_max
        self._loop = _ClosedLoop(context)
        self._student = _Student(context)
        self._arrivals_us: list[int] = context.workload.arrival_us.tolist()
        self._row = -1
        self._count = len(self._arrivals_us)
        self._released: list[tuple[int, int]] = []
        self._tries = [0] * self._count
        self.outside_count = self._count
        self._step()

    def connect(self, gateway: Entry) -> None:
        """Whom requests go to."""
        self._gateway = gateway

    def send(self) -> None:
        """The next request leaves its client; the clock stands at `next_ps`."""
        row = self._next_row
        if row == self._row:
            self._step()
        else:
            heapq.heappop(self._released)
            self._look()
        self._context.rows.arrival_us[row] = self._context.now_us
        if self._student.takes(row):
            self._context.agenda.at(self._context.now_ps + self._student.latency_ps, partial(self._answered_early, row))
        else:
            self._try(row)

    def finished(self, row: int) -> None:
        """The answer is complete."""
        self._context.rows.ended(row, FINISHED)
        for child, think_us in self._loop.released_by(row):
            at_ps = self._context.now_ps + think_us * PS_PER_US
            heapq.heappush(self._released, (at_ps, child))
            self._look()

    def refused(self, row: int, error: ForebayError, is_rejected: bool) -> None:
        """An error came instead of an answer: come back where it says when, else give up."""
        if is_rejected and error.retry_after_us and self._tries[row] < self._attempts_max:
            self._context.counters["client_retries"] += 1
            self.outside_count += 1
            self._context.after_us(error.retry_after_us, partial(self._try, row))
            return
        self._context.rejections[error.code] += 1
        self._context.rows.ended(row, REJECTED if is_rejected else FAILED)
        for child in self._loop.lost_with(row):
            self._context.rows.arrival_us[child] = self._context.now_us
            self._context.rejections["PARENT_FAILED"] += 1
            self.outside_count -= 1
            self._context.rows.ended(child, FAILED)

    def _try(self, row: int) -> None:
        self._tries[row] += 1
        self.outside_count -= 1
        number = self._tries[row]
        name = f"r{row}" if number == 1 else f"r{row}.{number}"
        self._gateway.arrive(row, self._requests.request(row, name))

    def _answered_early(self, row: int) -> None:
        rows = self._context.rows
        self._context.counters["student_answers"] += 1
        self.outside_count -= 1
        rows.first_us[row] = rows.finish_us[row] = self._context.now_us
        self.finished(row)

    def _step(self) -> None:
        """Goes on to the next row of the trace that waits for nobody."""
        self._row += 1
        while self._row < self._count and self._loop.waits(self._row):
            self._row += 1
        self._look()

    def _look(self) -> None:
        """Which request is next: the trace's or one that a finish released; of equal times the lower row."""
        traced_ps = self._arrivals_us[self._row] * PS_PER_US if self._row < self._count else NEVER_PS
        self.next_ps, self._next_row = traced_ps, self._row
        if self._released and self._released[0] < (traced_ps, self._row):
            self.next_ps, self._next_row = self._released[0]


class _Student:
    """The smaller model of the world, which answers some requests before anybody else hears of them."""

    def __init__(self, context: Context) -> None:
        config = context.world.student
        self.latency_ps = round(config.latency_s * US_PER_S) * PS_PER_US
        drawn = context.rng("student").random(len(context.workload)) if config.share else np.ones(0)
        self._taken = frozenset(np.flatnonzero(drawn < config.share).tolist())

    def takes(self, row: int) -> bool:
        """Whether it answers the row."""
        return row in self._taken


class _ClosedLoop:
    """Which rows wait for which: children by parent, and how many parents each row still waits for."""

    def __init__(self, context: Context) -> None:
        workload = context.workload
        self._think_us: list[int] = workload.think_us.tolist()
        self._open: list[int] = (workload.parent_start[1:] - workload.parent_start[:-1]).tolist()
        self._waits: list[bool] = [count > 0 for count in self._open]
        self._children: dict[int, list[int]] = {}
        self._lost: set[int] = set()
        starts: list[int] = workload.parent_start.tolist()
        parents: list[int] = workload.parents.tolist()
        for child, count in enumerate(self._open):
            for parent in parents[starts[child] : starts[child] + count]:
                self._children.setdefault(parent, []).append(child)

    def waits(self, row: int) -> bool:
        """Whether the row comes after others instead of at a time."""
        return self._waits[row]

    def released_by(self, row: int) -> list[tuple[int, int]]:
        """The rows whose last parent this was, with the time that their clients think."""
        released = []
        for child in self._children.get(row, ()):
            self._open[child] -= 1
            if not self._open[child] and child not in self._lost:
                released.append((child, self._think_us[child]))
        return released

    def lost_with(self, row: int) -> list[int]:
        """The rows that can never come now, in their order."""
        found: set[int] = set()
        queue = [row]
        while queue:
            for child in self._children.get(queue.pop(), ()):
                if child not in self._lost:
                    self._lost.add(child)
                    found.add(child)
                    queue.append(child)
        return sorted(found)
