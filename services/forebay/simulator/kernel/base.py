"""What the simulator asks of its instances, whichever implementation runs them."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from forebay.core.instance import ALONE, Batch, EngineFlags, EngineProfile, EngineView
from forebay.core.instance.hints import NO_HINTS, Hints

Numbers: TypeAlias = npt.NDArray[np.int64]


class Kernel(Protocol):
    """Many instances under one clock in integer picoseconds; requests are rows of the workload.

    Calls come in time order; what happens at an instant comes after the boundaries of that instant, so call `advance`
    until it gives none before anything else. Instances are numbered from 0 as they are added; boundaries of one
    instant pass in that order. Every implementation gives the same times to the picosecond. Raises ValueError when
    time runs backwards, where an instance has crashed, for a row that is on an instance already, and for engines that
    it does not know.
    """

    @property
    def now_ps(self) -> int:
        """Where the clock stands: the last boundary or call."""
        ...

    def add(self, profile: EngineProfile, flags: EngineFlags, batcher: str = "chunked_prefill") -> int:
        """A new, empty instance and its number."""
        ...

    def refusal(self, instance: int, prompt_tokens: int, output_tokens: int, output_tokens_max: int) -> str | None:
        """Why such a request could never run on the instance, or None."""
        ...

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
        """Queues a request; False where it can never fit. A row is on at most one instance at a time.

        The priority counts where `EngineFlags.order` says so, the smallest first, the batch where `batch_given` does,
        and the hints where the batcher heeds them.
        """
        ...

    def cancel(self, row: int, now_ps: int) -> bool:
        """Drops a request; False where it is not on any instance. It keeps its memory until the boundary."""
        ...

    def advance(self, until_ps: int) -> Sequence[int]:
        """Passes boundaries up to and including `until_ps`, but not beyond the first instant at which a request
        finishes.

        Gives the rows that finished at that instant, by instance, then in order of admission, with the clock there;
        none means that the clock stands at `until_ps`. Call it again for the same `until_ps` until it gives none.
        """
        ...

    def first_ps(self, row: int) -> int:
        """When the first token of the row's present residence appeared; -1 before."""
        ...

    def finish_ps(self, row: int) -> int:
        """When the row's last token appeared; -1 before."""
        ...

    def preemption_count(self, row: int) -> int:
        """How often the row was evicted in its present residence."""
        ...

    def lost_tokens(self, row: int) -> int:
        """Tokens of the row's cache that evictions dropped in its present residence; a swapped cache is not lost."""
        ...

    def gap_ps(self, row: int) -> int:
        """The longest time between two tokens of the row's answer; -1 before it finished."""
        ...

    def generated_tokens(self, row: int) -> int:
        """Tokens that the row has produced by now in its present residence."""
        ...

    def view(self, instance: int) -> EngineView:
        """The instance as of now."""
        ...

    def retime(self, instance: int, profile: EngineProfile, now_ps: int) -> None:
        """Uses another profile of equal memory and limits from the next iteration on."""
        ...

    def limit(self, instance: int, max_seqs: int, max_batch_tokens: int, now_ps: int) -> None:
        """Plans with fewer seats and tokens than the engine has, from the next iteration on (`InstanceModel.limit`)."""
        ...

    def hang(self, instance: int, now_ps: int) -> None:
        """The instance stops making progress, in the middle of an iteration too."""
        ...

    def resume(self, instance: int, now_ps: int) -> None:
        """The instance goes on after `hang`."""
        ...

    def crash(self, instance: int, now_ps: int) -> Sequence[int]:
        """The instance is gone, with all that it held; gives the rows that were lost, in order of admission, then of
        the queue."""
        ...


class Loads(NamedTuple):
    """What is on each instance as of now; read-only, and valid until the kernel moves on.

    Requests, the sum of their weights, and of their prompt tokens.
    """

    in_flight_count: Numbers
    weight: Numbers
    prompt_tokens: Numbers


class OpenLoop(Protocol):
    """What a kernel offers to runs in which nobody hears of finishes: one call an arrival."""

    def load(
        self,
        prompt_tokens: npt.ArrayLike,
        output_tokens: npt.ArrayLike,
        hit_tokens: npt.ArrayLike | None = None,
        weights: npt.ArrayLike | None = None,
    ) -> None:
        """The lengths of all rows, from 0 on, for `place`, and what each adds to its instance's weight."""
        ...

    def place(self, instance: int, row: int, now_ps: int, until_ps: int) -> bool:
        """`arrive` of a loaded row at `now_ps`, then all boundaries up to and including `until_ps`."""
        ...

    def run(self, until_ps: int) -> None:
        """Passes all boundaries up to and including `until_ps`."""
        ...

    def drain(self) -> None:
        """Passes all boundaries until nothing moves any more; the clock stops at the last."""
        ...

    def loads(self) -> Loads:
        """What is on each instance."""
        ...

    def times(self) -> tuple[Numbers, Numbers, Numbers, Numbers, Numbers]:
        """`first_ps`, `finish_ps`, `preemption_count`, `lost_tokens` and `gap_ps` of all rows."""
        ...
