"""The fast kernel: all instances in flat columns, whole stretches of iterations at once."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from forebay.core.instance import ALONE, Batch, EngineFlags, EngineProfile, EngineRequest, EngineView, InstanceModel
from forebay.core.instance.hints import NO_HINTS, Hints
from forebay.core.instance.profile import STRETCH_ITERATIONS_MAX
from forebay.simulator.kernel import columns as at
from forebay.simulator.kernel import sweep
from forebay.simulator.kernel.backend import Backend, best
from forebay.simulator.kernel.base import Loads, Numbers
from forebay.simulator.kernel.columns import Ints
from forebay.simulator.kernel.draws import Pairs
from forebay.simulator.kernel.storage import Storage

ROUTES = {
    "join_shortest_tokens": sweep.JOIN_SHORTEST_TOKENS,
    "least_predicted_tokens": sweep.LEAST_PREDICTED_TOKENS,
    "least_requests": sweep.LEAST_REQUESTS,
    "power_of_two": sweep.POWER_OF_TWO,
    "round_robin": sweep.ROUND_ROBIN,
}
"""What `sweep` can route by: the scheduler's routers of these names where all instances are open."""

SWEEP_ROWS = 65_536

OBJECTIONS = {
    at.EARLY: "time runs backwards: {now_ps} ps after {clock_ps} ps",
    at.SKIPPED: "advance to {now_ps} ps first: a boundary is due",
    at.CRASHED: "instance {instance} has crashed",
    at.PRESENT: "row {row} is on an instance already",
}


def covers(flags: EngineFlags, batcher: str) -> bool:
    """Whether the fast kernel knows such an engine."""
    plain = (
        flags.order == "fcfs" and flags.preemption == "recompute" and not (flags.batch_delay_ps or flags.admits_ahead)
    )
    return plain and batcher == "chunked_prefill"


class FastKernel:
    """Chunked prefill, first come first served, on any number of instances; see `base.Kernel` and `base.OpenLoop`.

    `stretch_iterations_max` cuts stretches short, which changes nothing but the time that a run takes.
    """

    def __init__(
        self, row_count: int, backend: Backend | None = None, stretch_iterations_max: int = STRETCH_ITERATIONS_MAX
    ) -> None:
        self._backend = best() if backend is None else backend
        self._do: Any = self._backend.functions
        self._cells = Storage(self._backend, row_count, stretch_iterations_max)
        self._models: list[InstanceModel] = []

    @property
    def now_ps(self) -> int:
        """Where the clock stands."""
        return self._cells.see_head[at.NOW]

    def add(self, profile: EngineProfile, flags: EngineFlags, batcher: str = "chunked_prefill") -> int:
        """A new, empty instance and its number."""
        if not covers(flags, batcher):
            raise ValueError(f"the fast kernel cannot do {batcher!r} with {flags}; the reference kernel can")
        self._models.append(InstanceModel(profile, flags))
        return self._cells.add_instance(profile, flags)

    def refusal(self, instance: int, prompt_tokens: int, output_tokens: int, output_tokens_max: int) -> str | None:
        """Why such a request could never run on the instance, or None."""
        self._check(instance)
        return self._models[instance].refusal(EngineRequest("", prompt_tokens, output_tokens, 0, output_tokens_max))

    def arrive(
        self,
        instance: int,
        row: int,
        prompt_tokens: int,
        output_tokens: int,
        hit_tokens: int,
        output_tokens_max: int,
        now_ps: int,
        priority: int = 0,
        batch: Batch = ALONE,
        hints: Hints = NO_HINTS,
    ) -> bool:
        """Queues a request; False where it can never fit. No engine here heeds a priority, a batch or hints."""
        numbers = (prompt_tokens, output_tokens, hit_tokens, output_tokens_max, 0, now_ps)
        code = self._do.arrive(*self._cells.step, instance * at.INST_WIDTH, row, *numbers)
        while code < 0:
            self._object(code, instance, row, now_ps)
            code = self._do.arrive(*self._cells.step, instance * at.INST_WIDTH, row, *numbers)
        return bool(code)

    def cancel(self, row: int, now_ps: int) -> bool:
        """Drops a request; False where it is not on any instance."""
        self._reach(now_ps)
        cells = self._cells
        s = cells.see_rows[row * at.ROW_WIDTH + at.SEQ]
        if s < 0:
            return False
        self._do.cancel(cells.head, cells.inst, cells.seq, cells.tree, cells.rows, s, now_ps)
        return True

    def advance(self, until_ps: int) -> Sequence[int]:
        """Passes boundaries up to `until_ps`, but not beyond the first instant at which a request finishes."""
        cells = self._cells
        count = self._do.advance(*cells.every, until_ps)
        if count <= 0:
            if count < 0:
                self._object(at.EARLY, -1, -1, until_ps)
            return ()
        return [cells.see_done[k] for k in range(count)]

    def holds(self, row: int) -> bool:
        """Whether the row is on an instance."""
        return self._cells.see_rows[row * at.ROW_WIDTH + at.SEQ] >= 0

    def first_ps(self, row: int) -> int:
        """When the first token of the row's present residence appeared; -1 before."""
        return self._cells.see_rows[row * at.ROW_WIDTH + at.FIRST_PS]

    def finish_ps(self, row: int) -> int:
        """When the row's last token appeared; -1 before."""
        return self._cells.see_rows[row * at.ROW_WIDTH + at.FINISH_PS]

    def preemption_count(self, row: int) -> int:
        """How often the row was evicted in its present residence."""
        return max(0, self._cells.see_rows[row * at.ROW_WIDTH + at.EVICTIONS])

    def lost_tokens(self, row: int) -> int:
        """Tokens of the row's cache that evictions dropped in its present residence; a swapped cache is not lost."""
        return max(0, self._cells.see_rows[row * at.ROW_WIDTH + at.LOST])

    def gap_ps(self, row: int) -> int:
        """The longest time between two tokens of the row's answer; -1 before it finished."""
        return self._cells.see_rows[row * at.ROW_WIDTH + at.GAP_PS]

    def generated_tokens(self, row: int) -> int:
        """Tokens that the row has produced by now in its present residence."""
        cells = self._cells
        s = cells.see_rows[row * at.ROW_WIDTH + at.SEQ]
        if s < 0:
            return -1 - s
        return int(self._do.answered(cells.inst, cells.seq, s, cells.see_head[at.NOW]))

    def view(self, instance: int) -> EngineView:
        """The instance as of now."""
        self._check(instance)
        cells = self._cells
        i, now_ps = instance * at.INST_WIDTH, cells.see_head[at.NOW]
        *counts, next_ps = self._do.look(cells.inst, cells.room, cells.seq, i, now_ps)
        return EngineView(*(*counts, None if next_ps < 0 else next_ps))

    def retime(self, instance: int, profile: EngineProfile, now_ps: int) -> None:
        """Uses another profile of equal memory and limits from the next iteration on."""
        self._act(instance, now_ps)
        self._models[instance].retime(profile)
        cells = self._cells
        place = cells.profile(profile)
        self._do.retime(cells.head, cells.inst, cells.tree, instance * at.INST_WIDTH, place, now_ps)

    def limit(self, instance: int, max_seqs: int, max_batch_tokens: int, now_ps: int) -> None:
        """Plans with fewer seats and tokens than the engine has, from the next iteration on."""
        self._act(instance, now_ps)
        self._models[instance].limit(max_seqs, max_batch_tokens)
        cells = self._cells
        self._do.limit(cells.head, cells.inst, cells.tree, instance * at.INST_WIDTH, max_seqs, max_batch_tokens, now_ps)

    def hang(self, instance: int, now_ps: int) -> None:
        """The instance stops making progress."""
        self._act(instance, now_ps)
        cells = self._cells
        self._do.hang(cells.head, cells.inst, cells.tree, instance * at.INST_WIDTH, now_ps)

    def resume(self, instance: int, now_ps: int) -> None:
        """The instance goes on after `hang`."""
        self._act(instance, now_ps)
        self._do.resume(*self._cells.step, instance * at.INST_WIDTH, now_ps)

    def crash(self, instance: int, now_ps: int) -> Sequence[int]:
        """The instance is gone; gives the rows that were lost."""
        self._act(instance, now_ps)
        cells, lost = self._cells, []
        for queue in (at.RUNNING, at.WAITING):
            s = cells.see_inst[instance * at.INST_WIDTH + queue]
            while s >= 0:
                after = cells.see_seq[s + at.NEXT]
                lost += self._lose(s, now_ps)
                s = after
        cells.clear_instance(instance)
        return lost

    # Open loop

    def load(
        self,
        prompt_tokens: npt.ArrayLike,
        output_tokens: npt.ArrayLike,
        hit_tokens: npt.ArrayLike | None = None,
        weights: npt.ArrayLike | None = None,
    ) -> None:
        """The lengths of all rows for `place`, and what each adds to its instance's weight."""
        given = np.zeros((len(np.asarray(prompt_tokens)), at.GIVEN_WIDTH), dtype=np.int64)
        for field, numbers in enumerate((prompt_tokens, output_tokens, hit_tokens, weights)):
            given[:, field] = 0 if numbers is None else numbers
        self._cells.give(given.ravel())

    def place(self, instance: int, row: int, now_ps: int, until_ps: int) -> bool:
        """`arrive` of a loaded row at `now_ps`, then all boundaries up to and including `until_ps`."""
        i = instance * at.INST_WIDTH
        code = self._do.place(*self._cells.every, self._cells.given, i, row, now_ps, until_ps)
        while code < 0:
            self._object(code, instance, row, now_ps)
            code = self._do.place(*self._cells.every, self._cells.given, i, row, now_ps, until_ps)
        return bool(code)

    def run(self, until_ps: int) -> None:
        """Passes all boundaries up to and including `until_ps`."""
        if until_ps < self.now_ps:
            self._object(at.EARLY, -1, -1, until_ps)
        self._do.run(*self._cells.every, until_ps)

    def drain(self) -> None:
        """Passes all boundaries until nothing moves any more."""
        self._do.drain(*self._cells.every)

    def loads(self) -> Loads:
        """What is on each instance."""
        return self._cells.loads()

    def times(self) -> tuple[Numbers, Numbers, Numbers, Numbers, Numbers]:
        """`first_ps`, `finish_ps`, `preemption_count`, `lost_tokens` and `gap_ps` of all rows."""
        rows = np.asarray(self._cells.rows, dtype=np.int64).reshape(-1, at.ROW_WIDTH)
        evictions, lost = np.maximum(rows[:, at.EVICTIONS], 0), np.maximum(rows[:, at.LOST], 0)
        return rows[:, at.FIRST_PS].copy(), rows[:, at.FINISH_PS].copy(), evictions, lost, rows[:, at.GAP_PS].copy()

    def sweep(self, arrivals_ps: npt.ArrayLike, router: str, seed: int = 0) -> Numbers:
        """All loaded rows through a router that is compiled with the kernel; the instances that they went to, or -1.

        The last boundary is passed. `ROUTES` has the routers; `seed` is that of power_of_two. Raises ValueError for
        other names, and where there is no instance.
        """
        if router not in ROUTES or not self._models:
            raise ValueError(f"cannot route {router!r} to {len(self._models)} instances; known: {', '.join(ROUTES)}")
        arrivals = self._backend.taken(np.asarray(arrivals_ps, dtype=np.int64))
        chosen = self._backend.column(len(arrivals), at.NONE)
        pairs = Pairs(seed, len(self._models), self._backend)
        for first in range(0, len(arrivals), SWEEP_ROWS):
            last = min(first + SWEEP_ROWS, len(arrivals))
            drawn = pairs.draw(last - first if router == "power_of_two" else 0)
            self._sweep(arrivals, chosen, ROUTES[router], drawn, first, last)
        self.drain()
        return np.asarray(chosen, dtype=np.int64)

    def _sweep(self, arrivals: Ints, chosen: Ints, router: int, drawn: Ints, first: int, last: int) -> None:
        row = first
        while row < last:
            cells = self._cells
            code = self._do.sweep(*cells.every, cells.given, arrivals, chosen, router, drawn, first, row, last)
            if code < 0:
                self._object(code, -1, row, int(arrivals[row]))
            row = max(row, code)
            if row < last:
                cells.grow_records()

    def _lose(self, s: int, now_ps: int) -> list[int]:
        """Gives back the record of a request whose instance crashed; its row, unless it was dropped before."""
        cells, lost = self._cells, []
        if cells.see_seq[s + at.PHASE] < at.DROPPED:
            row = cells.see_seq[s + at.ROW]
            answered = self._do.answered(cells.inst, cells.seq, s, now_ps)
            cells.see_rows[row * at.ROW_WIDTH + at.SEQ] = -1 - answered
            lost.append(row)
        self._do.free_record(cells.head, cells.seq, s)
        return lost

    def _act(self, instance: int, now_ps: int) -> None:
        self._check(instance)
        self._reach(now_ps)

    def _check(self, instance: int) -> None:
        if self._cells.see_inst[instance * at.INST_WIDTH + at.GONE]:
            self._object(at.CRASHED, instance, -1, 0)

    def _reach(self, now_ps: int) -> None:
        cells = self._cells
        if now_ps < cells.see_head[at.NOW]:
            self._object(at.EARLY, -1, -1, now_ps)
        if cells.tree[1] <= now_ps:
            self._object(at.SKIPPED, -1, -1, now_ps)
        cells.see_head[at.NOW] = now_ps

    def _object(self, code: int, instance: int, row: int, now_ps: int) -> None:
        """Deals with a call's objection: makes room, or raises ValueError."""
        if code == at.NO_ROOM:
            self._cells.grow_records()
            return
        raise ValueError(OBJECTIONS[code].format(instance=instance, row=row, now_ps=now_ps, clock_ps=self.now_ps))
