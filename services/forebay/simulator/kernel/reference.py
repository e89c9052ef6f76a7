"""The plain kernel: one instance model an instance, one turn an iteration."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from forebay.core.instance import ALONE, Batch, EngineFlags, EngineProfile, EngineRequest, EngineView, InstanceModel
from forebay.core.instance.batcher import Batcher, BatchPlan, BatchView, make_batcher
from forebay.core.instance.hints import NO_HINTS, Hints
from forebay.simulator.kernel.base import Loads, Numbers
from forebay.simulator.kernel.columns import NEVER_PS


class ReferenceKernel:
    """The kernel that others have to agree with; see `base.Kernel`."""

    def __init__(self, row_count: int) -> None:
        self._models: list[InstanceModel | None] = []
        self._ends_ps: list[int] = []
        self._names = _Names()
        self._instance = [-1] * row_count
        self._first_ps = [-1] * row_count
        self._finish_ps = [-1] * row_count
        self._generated = [0] * row_count
        self._preempted = [0] * row_count
        self._lost = [0] * row_count
        self._last_ps = [0] * row_count
        self._gap_ps = [0] * row_count
        self._prompt_tokens = [0] * row_count
        self._weight = [0] * row_count
        self._loaded: Sequence[tuple[int, ...]] = ()
        self._now_ps = 0

    @property
    def now_ps(self) -> int:
        """Where the clock stands."""
        return self._now_ps

    @property
    def next_ps(self) -> int:
        """The earliest boundary to come; NEVER_PS where all are idle."""
        return min(self._ends_ps, default=NEVER_PS)

    def add(self, profile: EngineProfile, flags: EngineFlags, batcher: str = "chunked_prefill") -> int:
        """A new, empty instance and its number."""
        counting = _Counting(make_batcher(batcher), self._names, self._preempted, self._lost)
        self._models.append(InstanceModel(profile, flags, counting))
        self._ends_ps.append(NEVER_PS)
        return len(self._models) - 1

    def refusal(self, instance: int, prompt_tokens: int, output_tokens: int, output_tokens_max: int) -> str | None:
        """Why such a request could never run on the instance, or None."""
        return self._model(instance).refusal(EngineRequest("", prompt_tokens, output_tokens, 0, output_tokens_max))

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
        """Queues a request; False where it can never fit."""
        if self._instance[row] >= 0:
            raise ValueError(f"row {row} is on instance {self._instance[row]} already")
        model = self._model(instance)
        self._reach(now_ps)
        lengths = (prompt_tokens, output_tokens, hit_tokens, output_tokens_max)
        request = EngineRequest(self._names.fresh(row), *lengths, priority, batch, hints)
        if model.refusal(request) is not None:
            self._names.drop(row)
            return False
        self._first_ps[row] = self._finish_ps[row] = -1
        self._generated[row] = self._preempted[row] = self._lost[row] = self._gap_ps[row] = 0
        self._prompt_tokens[row], self._weight[row] = prompt_tokens, 0
        self._instance[row] = instance
        model.arrive(request, now_ps)
        self._look(instance)
        return True

    def cancel(self, row: int, now_ps: int) -> bool:
        """Drops a request; False where it is not on any instance."""
        self._reach(now_ps)
        instance = self._instance[row]
        if instance < 0:
            return False
        self._model(instance).cancel(self._names.of(row), now_ps)
        self._look(instance)
        self._forget(row)
        return True

    def advance(self, until_ps: int) -> Sequence[int]:
        """Passes boundaries up to `until_ps`, but not beyond the first instant at which a request finishes."""
        while (at_ps := self.next_ps) <= min(until_ps, NEVER_PS - 1):
            self._now_ps = at_ps
            rows = self._pass(at_ps)
            if rows:
                return rows
        self._reach(until_ps)
        return ()

    def holds(self, row: int) -> bool:
        """Whether the row is on an instance."""
        return self._instance[row] >= 0

    def first_ps(self, row: int) -> int:
        """When the first token of the row's present residence appeared; -1 before."""
        return self._first_ps[row]

    def finish_ps(self, row: int) -> int:
        """When the row's last token appeared; -1 before."""
        return self._finish_ps[row]

    def preemption_count(self, row: int) -> int:
        """How often the row was evicted in its present residence."""
        return self._preempted[row]

    def lost_tokens(self, row: int) -> int:
        """Tokens of the row's cache that evictions dropped in its present residence; a swapped cache is not lost."""
        return self._lost[row]

    def gap_ps(self, row: int) -> int:
        """The longest time between two tokens of the row's answer; -1 before it finished."""
        return self._gap_ps[row] if self._finish_ps[row] >= 0 else -1

    def generated_tokens(self, row: int) -> int:
        """Tokens that the row has produced by now in its present residence."""
        return self._generated[row]

    def view(self, instance: int) -> EngineView:
        """The instance as of now."""
        return self._model(instance).view()

    def retime(self, instance: int, profile: EngineProfile, now_ps: int) -> None:
        """Uses another profile of equal memory and limits from the next iteration on."""
        self._reach(now_ps)
        self._model(instance).retime(profile)

    def limit(self, instance: int, max_seqs: int, max_batch_tokens: int, now_ps: int) -> None:
        """Plans with fewer seats and tokens than the engine has, from the next iteration on."""
        self._reach(now_ps)
        self._model(instance).limit(max_seqs, max_batch_tokens)

    def hang(self, instance: int, now_ps: int) -> None:
        """The instance stops making progress."""
        self._reach(now_ps)
        self._model(instance).hang(now_ps)
        self._look(instance)

    def resume(self, instance: int, now_ps: int) -> None:
        """The instance goes on after `hang`."""
        self._reach(now_ps)
        self._model(instance).resume(now_ps)
        self._look(instance)

    def crash(self, instance: int, now_ps: int) -> Sequence[int]:
        """The instance is gone; gives the rows that were lost."""
        self._reach(now_ps)
        lost = [self._names.row(request_id) for request_id in self._model(instance).request_ids]
        self._models[instance] = None
        self._ends_ps[instance] = NEVER_PS
        for row in lost:
            self._forget(row)
        return lost

    def load(
        self,
        prompt_tokens: npt.ArrayLike,
        output_tokens: npt.ArrayLike,
        hit_tokens: npt.ArrayLike | None = None,
        weights: npt.ArrayLike | None = None,
    ) -> None:
        """The lengths of all rows for `place`, and what each adds to its instance's weight."""
        count = len(np.asarray(prompt_tokens))
        columns = (prompt_tokens, output_tokens, hit_tokens, weights)
        lists = [[0] * count if column is None else np.asarray(column).tolist() for column in columns]
        self._loaded = list(zip(*lists, strict=True))

    def place(self, instance: int, row: int, now_ps: int, until_ps: int) -> bool:
        """`arrive` of a loaded row at `now_ps`, then all boundaries up to and including `until_ps`."""
        prompt_tokens, output_tokens, hit_tokens, weight = self._loaded[row]
        entered = self.arrive(instance, row, prompt_tokens, output_tokens, hit_tokens, 0, now_ps)
        self._weight[row] = weight
        self.run(until_ps)
        return entered

    def run(self, until_ps: int) -> None:
        """Passes all boundaries up to and including `until_ps`."""
        while self.advance(until_ps):
            pass

    def drain(self) -> None:
        """Passes all boundaries until nothing moves any more."""
        while (next_ps := self.next_ps) < NEVER_PS:
            self.advance(next_ps)

    def loads(self) -> Loads:
        """What is on each instance; 0 for those that crashed."""
        loads = np.zeros((len(Loads._fields), len(self._models)), dtype=np.int64)
        for row, instance in enumerate(self._instance):
            if instance >= 0:
                loads[:, instance] += (1, self._weight[row], self._prompt_tokens[row])
        return Loads(*loads)

    def times(self) -> tuple[Numbers, Numbers, Numbers, Numbers, Numbers]:
        """`first_ps`, `finish_ps`, `preemption_count`, `lost_tokens` and `gap_ps` of all rows."""
        gaps = [self.gap_ps(row) for row in range(len(self._gap_ps))]
        columns = (self._first_ps, self._finish_ps, self._preempted, self._lost, gaps)
        first, finish, preempted, lost, gap = (np.array(column, dtype=np.int64) for column in columns)
        return first, finish, preempted, lost, gap

    def _pass(self, at_ps: int) -> list[int]:
        finished = []
        for instance, end_ps in enumerate(self._ends_ps):
            if end_ps == at_ps:
                finished.extend(self._pass_one(instance, at_ps))
        return finished

    def _pass_one(self, instance: int, at_ps: int) -> list[int]:
        """One boundary of one instance; the rows that finished."""
        finished = []
        for event in self._model(instance).advance(at_ps):
            row = self._names.row(event.request_id)
            self._generated[row] = event.token_count
            if event.token_count == 1:
                self._first_ps[row] = self._last_ps[row] = at_ps
            self._gap_ps[row] = max(self._gap_ps[row], at_ps - self._last_ps[row])
            self._last_ps[row] = at_ps
            if event.finished:
                self._finish_ps[row] = at_ps
                self._forget(row)
                finished.append(row)
        self._look(instance)
        return finished

    def _look(self, instance: int) -> None:
        next_ps = self._model(instance).next_ps
        self._ends_ps[instance] = NEVER_PS if next_ps is None else next_ps

    def _forget(self, row: int) -> None:
        self._instance[row] = -1
        self._names.drop(row)

    def _model(self, instance: int) -> InstanceModel:
        model = self._models[instance]
        if model is None:
            raise ValueError(f"instance {instance} has crashed")
        return model

    def _reach(self, now_ps: int) -> None:
        if now_ps < self._now_ps:
            raise ValueError(f"time runs backwards: {now_ps} ps after {self._now_ps} ps")
        self._now_ps = now_ps


class _Names:
    """A name of its own for every residence: a cancelled row may come again before the boundary frees the first."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}
        self._rows: dict[str, int] = {}
        self._count = 0

    def fresh(self, row: int) -> str:
        self._count += 1
        name = f"{row}.{self._count}"
        self._names[row] = name
        self._rows[name] = row
        return name

    def of(self, row: int) -> str:
        return self._names[row]

    def row(self, name: str) -> int:
        return self._rows[name]

    def drop(self, row: int) -> None:
        del self._rows[self._names.pop(row)]


class _Counting:
    """A batcher that notes whom another one evicts, and what they lose."""

    def __init__(self, batcher: Batcher, names: _Names, counts: list[int], lost: list[int]) -> None:
        self._batcher = batcher
        self._names = names
        self._counts = counts
        self._lost = lost

    def plan(self, view: BatchView) -> BatchPlan:
        """The other's plan."""
        plan = self._batcher.plan(view)
        if plan.preempted:
            is_lost = view.flags.preemption == "recompute"
            for sequence in view.running:
                if sequence.request_id in plan.preempted:
                    row = self._names.row(sequence.request_id)
                    self._counts[row] += 1
                    self._lost[row] += sequence.cached_tokens * is_lost
        return plan
