"""Priority queues by predicted remaining time, with ageing, demotion, and caches that leave by expected wait."""

from dataclasses import dataclass

from forebay.core.instance.batcher.base import BatchPlan, BatchView, SequenceView
from forebay.core.instance.batcher.estimates import overrun_count, remaining_ps
from forebay.core.instance.batcher.filling import Filling
from forebay.core.instance.batcher.levels import level_of, lifted
from forebay.core.units import PS_PER_S


@dataclass(frozen=True, slots=True)
class Alise:
    """ALISE (ICCAD'24, arXiv 2410.23537): speculative scheduling; use it with preemption "swap" and `swap_overlaps`.

    A request is in the first of `queue_count` queues whose bound holds its predicted remaining time (`first_s`, and
    twice that in each queue below). Its prediction is doubled when it is overrun, and each doubling takes it down one
    more queue; every `promote_s` that it waited in all takes it up one for good: after `queue_count * promote_s` it is
    in the top queue, behind those only who are there too and run or came earlier.

    Memory and seats go from the top queue down, in a queue first to those who run, then by expected waiting time: the
    time until ageing lifts it to the top queue, or the remaining times of all before it, whichever is less. Whoever
    finds no room has the longest expected wait, and its cache leaves for the host.

    The paper's queue constants are not public: all defaults here are ours.
    """

    queue_count: int = 6
    first_s: float = 1.0
    promote_s: float = 30.0
    tokens_default: int = 256

    def __post_init__(self) -> None:
        if self.queue_count < 1 or self.tokens_default < 1 or min(self.first_s, self.promote_s) <= 0:
            raise ValueError("queue_count, tokens_default, first_s and promote_s must be positive")

    def plan(self, view: BatchView) -> BatchPlan:
        """The next iteration for `view`."""
        runs_first = view.running if view.flags.no_evict else ()
        others = view.waiting if view.flags.no_evict else (*view.running, *view.waiting)
        queues: list[list[SequenceView]] = [[] for _ in range(self.queue_count)]
        for sequence in others:
            queues[self.level(sequence, view)].append(sequence)
        filling = Filling(view).take_all(runs_first)
        ahead_ps = 0
        for level, queue in enumerate(queues):
            filling.take_all(self._by_wait(queue, level, ahead_ps, view))
            ahead_ps += sum(remaining_ps(one, view.profile, self.tokens_default) for one in queue)
        return filling.plan()

    def level(self, sequence: SequenceView, view: BatchView) -> int:
        """The queue that a request is in, 0 the top one."""
        left_ps = remaining_ps(sequence, view.profile, self.tokens_default)
        level = level_of(left_ps, round(self.first_s * PS_PER_S), self.queue_count)
        level = min(self.queue_count - 1, level + overrun_count(sequence, self.tokens_default))
        return lifted(level, sequence.waited_ps(view.now_ps), round(self.promote_s * PS_PER_S))

    def _by_wait(self, queue: list[SequenceView], level: int, ahead_ps: int, view: BatchView) -> list[SequenceView]:
        """One queue: those who run by rank, then those who wait by expected waiting time."""
        running = sorted((one for one in queue if one.block_count), key=lambda one: one.rank)
        ahead_ps += sum(remaining_ps(one, view.profile, self.tokens_default) for one in running)
        waits: list[tuple[int, tuple[int, int], SequenceView]] = []
        for one in sorted((one for one in queue if not one.block_count), key=lambda one: one.rank):
            waits.append((min(ahead_ps, self._promoted_ps(one, level, view)), one.rank, one))
            ahead_ps += remaining_ps(one, view.profile, self.tokens_default)
        return [*running, *(one for _, _, one in sorted(waits, key=lambda wait: wait[:2]))]

    def _promoted_ps(self, sequence: SequenceView, level: int, view: BatchView) -> int:
        """How long until ageing has lifted it to the top queue."""
        promote_ps = round(self.promote_s * PS_PER_S)
        return max(0, level * promote_ps - sequence.waited_ps(view.now_ps) % promote_ps)
