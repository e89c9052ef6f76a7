"""A kernel in which requests can move: it tells of each row what all its residences amount to."""

from collections.abc import Sequence
from dataclasses import dataclass

from forebay.core.instance import ALONE, Batch
from forebay.core.instance.hints import NO_HINTS, Hints
from forebay.simulator.kernel.base import Kernel
from forebay.simulator.kernel.front import FrontKernel


@dataclass(frozen=True, slots=True)
class Rest:
    """What is left of a request that left its instance: the answer so far is prompt, the cache is a hit."""

    prompt_tokens: int
    output_tokens: int
    hit_tokens: int
    output_tokens_max: int
    priority: int = 0
    hints: Hints = NO_HINTS


@dataclass(slots=True)
class _Row:
    """One row: where it is (-1: nowhere, or on its way), what it asked there, and what it did elsewhere before."""

    instance: int
    asked: Rest
    residence: int
    first_ps: int = -1
    generated_tokens: int = 0
    preemption_count: int = 0
    lost_tokens: int = 0
    left_ps: int = -1
    is_away: bool = False


class MovableKernel(FrontKernel):
    """Stands before another kernel; see `kernel.base.Kernel`. Rows that never move are told of as before."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel)
        self._rows: dict[int, _Row] = {}
        self._residence_count = 0

    # Moving

    def instance_of(self, row: int) -> int:
        """The instance that the row is on; -1 where it is on none."""
        known = self._rows.get(row)
        return -1 if known is None else known.instance

    def residence(self, row: int) -> int:
        """A number that the row has as long as it stays where it is."""
        known = self._rows.get(row)
        return -1 if known is None else known.residence

    def context_tokens(self, row: int) -> int:
        """Prompt and answer so far."""
        return self._rows[row].asked.prompt_tokens + self._kernel.generated_tokens(row)

    def leave(self, row: int, now_ps: int) -> Rest | None:
        """Takes a row off its instance to go on elsewhere; the token of an iteration in progress is lost.

        None where it is on no instance. Until `enter` or `cancel` it is on its way.
        """
        known = self._rows.get(row)
        if known is None or known.instance < 0:
            return None
        rest = _rest(known.asked, self._kernel.generated_tokens(row))
        if known.first_ps < 0:
            known.first_ps = self._kernel.first_ps(row)
        known.generated_tokens += self._kernel.generated_tokens(row)
        known.preemption_count += self._kernel.preemption_count(row)
        known.lost_tokens += self._kernel.lost_tokens(row)
        known.left_ps = now_ps
        self._kernel.cancel(row, now_ps)
        self._left(row)
        known.is_away = True
        return rest

    def enter(self, row: int, instance: int, rest: Rest, now_ps: int) -> bool:
        """The row goes on here; False where it can never fit, and then it is still on its way."""
        known = self._rows[row]
        if not self._kernel.arrive(instance, row, *_lengths(rest), now_ps, rest.priority, hints=rest.hints):
            return False
        known.asked, known.is_away = rest, False
        self._came(row, instance)
        return True

    # As any kernel

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
        """Queues a request that begins anew; False where it can never fit."""
        asked = Rest(prompt_tokens, output_tokens, hit_tokens, output_tokens_max, priority, hints)
        if not self._kernel.arrive(instance, row, *_lengths(asked), now_ps, priority, batch, hints):
            return False
        self._rows[row] = _Row(instance, asked, 0)
        self._came(row, instance)
        return True

    def cancel(self, row: int, now_ps: int) -> bool:
        """Drops a request, also one that is on its way."""
        known = self._rows.get(row)
        was_away = known is not None and known.is_away
        if known is not None:
            self._left(row)
            known.is_away = False
        return self._kernel.cancel(row, now_ps) or was_away

    def advance(self, until_ps: int) -> Sequence[int]:
        """Passes boundaries, but not beyond the first at which a request finishes."""
        finished = self._kernel.advance(until_ps)
        for row in finished:
            self._left(row)
        return finished

    def first_ps(self, row: int) -> int:
        """When the first token appeared, wherever that was; -1 before."""
        known = self._rows.get(row)
        if known is not None and known.first_ps >= 0:
            return known.first_ps
        return -1 if known is not None and known.is_away else self._kernel.first_ps(row)

    def finish_ps(self, row: int) -> int:
        """When the row's last token appeared; -1 before."""
        known = self._rows.get(row)
        return -1 if known is not None and known.is_away else self._kernel.finish_ps(row)

    def preemption_count(self, row: int) -> int:
        """How often the row was evicted in all its residences."""
        known = self._rows.get(row)
        if known is None:
            return self._kernel.preemption_count(row)
        return known.preemption_count + (0 if known.is_away else self._kernel.preemption_count(row))

    def lost_tokens(self, row: int) -> int:
        """Tokens of the row's cache that evictions dropped in all its residences."""
        known = self._rows.get(row)
        if known is None:
            return self._kernel.lost_tokens(row)
        return known.lost_tokens + (0 if known.is_away else self._kernel.lost_tokens(row))

    def gap_ps(self, row: int) -> int:
        """The longest time between two tokens in the row's last residence or since it left the one before."""
        known = self._rows.get(row)
        own_ps = self._kernel.gap_ps(row)
        if known is None or known.left_ps < 0 or own_ps < 0:
            return own_ps
        return max(own_ps, self._kernel.first_ps(row) - known.left_ps)

    def generated_tokens(self, row: int) -> int:
        """Tokens that the row has produced by now in all its residences."""
        known = self._rows.get(row)
        if known is None:
            return self._kernel.generated_tokens(row)
        return known.generated_tokens + (0 if known.is_away else self._kernel.generated_tokens(row))

    def crash(self, instance: int, now_ps: int) -> Sequence[int]:
        """The instance is gone; gives the rows that were lost with it, not those that are on their way."""
        lost = self._kernel.crash(instance, now_ps)
        for row in lost:
            self._left(row)
        return lost

    def _came(self, row: int, instance: int) -> None:
        known = self._rows[row]
        self._residence_count += 1
        known.instance, known.residence = instance, self._residence_count

    def _left(self, row: int) -> None:
        known = self._rows[row]
        self._residence_count += 1
        known.instance, known.residence = -1, self._residence_count


def _rest(asked: Rest, generated_tokens: int) -> Rest:
    """As `core.instance.EngineRequest.rest`: the newest token is not in the cache yet."""
    prompt_tokens = asked.prompt_tokens + generated_tokens
    return Rest(
        prompt_tokens=prompt_tokens,
        output_tokens=asked.output_tokens - generated_tokens,
        hit_tokens=prompt_tokens - 1 if generated_tokens else 0,
        output_tokens_max=max(0, asked.output_tokens_max - generated_tokens),
        priority=asked.priority,
        hints=asked.hints.after(generated_tokens),
    )


def _lengths(rest: Rest) -> tuple[int, int, int, int]:
    return (rest.prompt_tokens, rest.output_tokens, rest.hit_tokens, rest.output_tokens_max)
