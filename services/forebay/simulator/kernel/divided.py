"""The fast kernel with the reference beside it, for engines that the fast one does not know."""

from collections.abc import Sequence
from heapq import merge

from forebay.core.instance import ALONE, Batch, EngineFlags, EngineProfile, EngineView
from forebay.core.instance.hints import NO_HINTS, Hints
from forebay.simulator.kernel.backend import Backend
from forebay.simulator.kernel.fast import FastKernel, covers
from forebay.simulator.kernel.reference import ReferenceKernel


class DividedKernel:
    """Each instance runs in the fast kernel where that knows its engine, else in the reference; nobody can tell.

    See `base.Kernel`. Nothing is slower while all instances are fast.
    """

    def __init__(self, row_count: int, backend: Backend | None = None) -> None:
        self._fast = FastKernel(row_count, backend)
        self._plain = ReferenceKernel(row_count)
        self._homes: list[tuple[FastKernel | ReferenceKernel, int]] = []
        self._instance_of = [-1] * row_count
        self._plain_rows: set[int] = set()
        self._divided = False

    @property
    def now_ps(self) -> int:
        """Where the clock stands."""
        return max(self._fast.now_ps, self._plain.now_ps)

    def add(self, profile: EngineProfile, flags: EngineFlags, batcher: str = "chunked_prefill") -> int:
        """A new, empty instance and its number."""
        kernel = self._fast if covers(flags, batcher) else self._plain
        self._divided |= kernel is self._plain
        self._homes.append((kernel, kernel.add(profile, flags, batcher)))
        return len(self._homes) - 1

    def refusal(self, instance: int, prompt_tokens: int, output_tokens: int, output_tokens_max: int) -> str | None:
        """Why such a request could never run on the instance, or None."""
        kernel, number = self._homes[instance]
        return kernel.refusal(number, prompt_tokens, output_tokens, output_tokens_max)

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
        kernel, number = self._homes[instance]
        if self._divided and self._kernel_of(row).holds(row):
            raise ValueError(f"row {row} is on instance {self._instance_of[row]} already")
        lengths = (prompt_tokens, output_tokens, hit_tokens, output_tokens_max)
        if not kernel.arrive(number, row, *lengths, now_ps, priority, batch, hints):
            return False
        self._instance_of[row] = instance
        if self._divided:
            (self._plain_rows.add if kernel is self._plain else self._plain_rows.discard)(row)
        return True

    def cancel(self, row: int, now_ps: int) -> bool:
        """Drops a request; False where it is not on any instance."""
        return self._kernel_of(row).cancel(row, now_ps)

    def advance(self, until_ps: int) -> Sequence[int]:
        """Passes boundaries up to `until_ps`, but not beyond the first instant at which a request finishes."""
        if not self._divided:
            return self._fast.advance(until_ps)
        while True:
            meet_ps = min(until_ps, self._plain.next_ps)
            finished = self._fast.advance(meet_ps)
            if finished and self._fast.now_ps < meet_ps:
                return finished
            others = self._plain.advance(meet_ps)
            if finished or others:
                return list(merge(finished, others, key=self._instance_of.__getitem__))
            if meet_ps == until_ps:
                return ()

    def first_ps(self, row: int) -> int:
        """When the first token of the row's present residence appeared; -1 before."""
        return self._kernel_of(row).first_ps(row)

    def finish_ps(self, row: int) -> int:
        """When the row's last token appeared; -1 before."""
        return self._kernel_of(row).finish_ps(row)

    def preemption_count(self, row: int) -> int:
        """How often the row was evicted in its present residence."""
        return self._kernel_of(row).preemption_count(row)

    def lost_tokens(self, row: int) -> int:
        """Tokens of the row's cache that evictions dropped in its present residence; a swapped cache is not lost."""
        return self._kernel_of(row).lost_tokens(row)

    def gap_ps(self, row: int) -> int:
        """The longest time between two tokens of the row's answer; -1 before it finished."""
        return self._kernel_of(row).gap_ps(row)

    def generated_tokens(self, row: int) -> int:
        """Tokens that the row has produced by now in its present residence."""
        return self._kernel_of(row).generated_tokens(row)

    def view(self, instance: int) -> EngineView:
        """The instance as of now."""
        kernel, number = self._homes[instance]
        return kernel.view(number)

    def retime(self, instance: int, profile: EngineProfile, now_ps: int) -> None:
        """Uses another profile of equal memory and limits from the next iteration on."""
        kernel, number = self._homes[instance]
        kernel.retime(number, profile, now_ps)

    def limit(self, instance: int, max_seqs: int, max_batch_tokens: int, now_ps: int) -> None:
        """Plans with fewer seats and tokens than the engine has, from the next iteration on."""
        kernel, number = self._homes[instance]
        kernel.limit(number, max_seqs, max_batch_tokens, now_ps)

    def hang(self, instance: int, now_ps: int) -> None:
        """The instance stops making progress."""
        kernel, number = self._homes[instance]
        kernel.hang(number, now_ps)

    def resume(self, instance: int, now_ps: int) -> None:
        """The instance goes on after `hang`."""
        kernel, number = self._homes[instance]
        kernel.resume(number, now_ps)

    def crash(self, instance: int, now_ps: int) -> Sequence[int]:
        """The instance is gone; gives the rows that were lost."""
        kernel, number = self._homes[instance]
        return kernel.crash(number, now_ps)

    def _kernel_of(self, row: int) -> FastKernel | ReferenceKernel:
        """Where the row is or was last."""
        return self._plain if row in self._plain_rows else self._fast
