"""Magnus and its baselines: one family of static batching, three switches."""

from dataclasses import dataclass

import numpy as np

from forebay.core.units import US_PER_S
from forebay.scheduler.policy.grouper.base import (
    NEW_BATCH,
    SIZE_UNKNOWN,
    Batches,
    Column,
    JoinView,
    PickView,
    Room,
    reads_of,
)

AGGREGATES = ("max", "sum")
WAITS = ("longest", "mean")


@dataclass(frozen=True, slots=True)
class Magnus:
    """Wasted memory access keeps batches homogeneous, the highest response ratio goes first (Cheng et al., "Magnus",
    ICWS 2024, arXiv 2406.04785).

    A request joins the batch in which the wasted memory access WMA(B) would be smallest, of those whose predicted
    memory MEM(B) = |B| * (L(B) + G(B)) stays within the instance's; it opens one of its own where that is not below
    `wma_max`. An instance that is free runs the batch with the highest T_queue / T_serve.

    Switches: without `adaptive` batches have the fixed size floor(Theta / (Lmax + Gmax)), for which any answers fit,
    and no bound on WMA; without `by_length` they take requests as they come, with it those whose predicted answers are
    within a factor `length_ratio_max` of the batch's longest; without `hrrn` the batch whose first request came first
    is next.

    `wma_max` is the paper's Phi: 50,000 as far as we know; a public port takes 1,000. It has the scale of the model's
    lengths, so sweep it. `aggregate`: WMA(B) is the max over its requests as we remember the paper, the sum in the
    port. `wait`: T_queue is the longest wait in the batch, in the port the mean. `memory_share` of the memory is
    planned with, the rest is for predictions that are too short. `length_ratio_max` is ours.
    """

    adaptive: bool = True
    by_length: bool = True
    hrrn: bool = True
    wma_max: float = 50_000.0
    aggregate: str = "max"
    wait: str = "longest"
    memory_share: float = 1.0
    length_ratio_max: float = 2.0

    def __post_init__(self) -> None:
        if self.wma_max < 0 or self.length_ratio_max < 1:
            raise ValueError("wma_max must not be negative, and length_ratio_max must be at least 1")
        if self.aggregate not in AGGREGATES or self.wait not in WAITS:
            raise ValueError(f"aggregate must be one of {', '.join(AGGREGATES)}, wait one of {', '.join(WAITS)}")
        if not 0 < self.memory_share <= 1:
            raise ValueError("memory_share must be above 0 and at most 1")

    def join(self, view: JoinView) -> int:
        """The best batch with room for the request; of equal ones the oldest."""
        if not len(view.batches.closed):
            return NEW_BATCH
        return self._least_waste(view) if self.adaptive else self._not_full(view)

    def pick(self, view: PickView) -> int:
        """The batch that is next; of equal ones the oldest."""
        batches = view.batches
        if not self.hrrn:
            return int(batches.oldest_us.argmin())
        since_us = batches.oldest_us if self.wait == "longest" else batches.mean_us
        return int(((view.now_us - since_us) / US_PER_S / view.serving_s).argmax())

    def _least_waste(self, view: JoinView) -> int:
        batches, room = view.batches, view.room
        after = joined(view)
        memory = after.request_count * (after.prompt_max + after.answer_max)
        fits = ~batches.closed & (memory <= self.memory_share * room.kv_tokens_max)
        fits &= after.request_count <= room.request_count_max
        waste = np.where(fits, wasted_reads(after, self.aggregate), np.inf)
        best = int(waste.argmin())
        return best if waste[best] < self.wma_max else NEW_BATCH

    def _not_full(self, view: JoinView) -> int:
        batches, answer = view.batches, view.answer_tokens
        opens = ~batches.closed & (batches.request_count < fixed_size(view.room, self.memory_share))
        if not self.by_length:
            return int(opens.argmax()) if opens.any() else NEW_BATCH
        low, high = np.minimum(batches.answer_max, answer), np.maximum(batches.answer_max, answer)
        apart = np.where(opens & (high <= self.length_ratio_max * low), high - low, np.inf)
        best = int(apart.argmin())
        return best if np.isfinite(apart[best]) else NEW_BATCH


@dataclass(frozen=True, slots=True)
class Abp(Magnus):
    """Adaptive batches, first come first served: Magnus without its order."""

    hrrn: bool = False


@dataclass(frozen=True, slots=True)
class Glp(Abp):
    """Batches of fixed size whose predicted answers are alike, first come first served."""

    adaptive: bool = False


@dataclass(frozen=True, slots=True)
class Vs(Glp):
    """Vanilla: batches of fixed size as requests come, first come first served."""

    by_length: bool = False


@dataclass(frozen=True, slots=True)
class Vsq(Vs):
    """Vanilla on a quantised model, whose instances have more memory to tell of: the rule is that of `Vs`."""


def wasted_reads(batches: Batches, aggregate: str) -> Column:
    """WMA(B) = T(B) - min w(p), or the sum over requests, |B| * T(B) - sum w(p); T(B) is what a row reads till the end.

    That is the paper's WMA_gen(p) + WMA_wait(p), in which two terms cancel.
    """
    longest = batches.answer_max * batches.prompt_max + batches.answer_max * (batches.answer_max - 1) // 2
    waste: Column = (
        longest - batches.reads_min if aggregate == "max" else batches.request_count * longest - batches.reads_sum
    )
    return waste


def joined(view: JoinView) -> Batches:
    """Each batch as it would be with the request."""
    batches, reads = view.batches, reads_of(view.prompt_tokens, view.answer_tokens)
    return batches._replace(
        request_count=batches.request_count + 1,
        prompt_max=np.maximum(batches.prompt_max, view.prompt_tokens),
        answer_max=np.maximum(batches.answer_max, view.answer_tokens),
        reads_min=np.minimum(batches.reads_min, reads),
        reads_sum=batches.reads_sum + reads,
    )


def fixed_size(room: Room, memory_share: float = 1.0) -> int:
    """Requests of a batch for which the longest prompts and answers fit, and at least one."""
    context = room.context_tokens_max
    size = int(memory_share * room.kv_tokens_max) // context if context else SIZE_UNKNOWN
    return max(1, min(size, room.request_count_max))
