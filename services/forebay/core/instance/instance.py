"""One LLM engine, iteration by iteration: the plain reference of the instance model.

It takes no shortcut: one turn per iteration, blocks counted one by one, whatever the batcher plans. Faster
engines have to agree with it to the picosecond.
"""

from bisect import insort
from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter

from forebay.core.instance.batcher import BATCHERS, Batcher, BatchPlan, BatchView
from forebay.core.instance.blocks import BlockPool
from forebay.core.instance.profile import EngineProfile, PrefillChunk
from forebay.core.instance.sequence import EngineFlags, EngineRequest, Sequence, TokenEvent

_RANK = attrgetter("rank")


@dataclass(frozen=True, slots=True)
class EngineView:
    """An instance at its last boundary; counts of requests, tokens and blocks.

    `prefill_count` of the `running_count` have not reached their first token of this residence.
    `context_tokens` lie in the cache, `queued_tokens` are still to be prefilled (running and waiting). The
    other counts are totals; `queued_ps` is the time that requests waited until they were first admitted.
    """

    running_count: int
    waiting_count: int
    prefill_count: int
    context_tokens: int
    queued_tokens: int
    block_count: int
    free_block_count: int
    block_size: int
    max_seqs: int
    iteration_count: int
    preemption_count: int
    arrived_count: int
    finished_count: int
    cancelled_count: int
    generated_tokens: int
    queued_ps: int
    next_ps: int | None


class InstanceModel:
    """An engine with its queue; sans I/O, integer picoseconds, deterministic.

    Call `advance(now)` before `arrive` or `cancel` at the same `now`: a boundary comes before whatever
    happens at its instant. A request that reaches an idle instance starts an iteration at once, so a second
    one of the same instant misses that iteration. Tokens appear at the end of an iteration. Raises ValueError
    when time runs backwards or a due boundary was skipped.
    """

    def __init__(
        self, profile: EngineProfile, flags: EngineFlags | None = None, batcher: Batcher | None = None
    ) -> None:
        self.profile = profile
        self.flags = EngineFlags() if flags is None else flags
        self._batcher = BATCHERS["chunked_prefill"]() if batcher is None else batcher
        self._pool = BlockPool(profile.block_count)
        self._sequences: dict[str, Sequence] = {}
        self._running: list[Sequence] = []
        self._waiting: list[Sequence] = []
        self._plan = BatchPlan((), ())
        self._end_ps: int | None = None
        self._hung_ps: int | None = None
        self._now_ps = 0
        self._iteration_count = self._preemption_count = self._generated_tokens = 0
        self._arrived_count = self._finished_count = self._cancelled_count = self._queued_ps = 0

    @property
    def next_ps(self) -> int | None:
        """End of the iteration in progress; None while idle or hung."""
        return None if self._hung_ps is not None else self._end_ps

    @property
    def request_ids(self) -> tuple[str, ...]:
        """Who is here and not cancelled: in order of admission, then of the queue."""
        return tuple(one.request_id for one in (*self._running, *self._waiting) if not one.cancelled)

    def refusal(self, request: EngineRequest) -> str | None:
        """Why `request` could never run here, or None if it can."""
        flags, profile = self.flags, self.profile
        tokens = request.tokens_max if flags.no_evict else request.prompt_tokens + request.output_tokens
        if 0 < flags.model_tokens_max < tokens:
            return f"{tokens} tokens exceed the model's {flags.model_tokens_max}"
        room = (profile.block_count - flags.watermark_blocks) * profile.block_size
        if tokens > room:
            return f"{tokens} tokens exceed the KV cache's {room}"
        if not flags.chunked_prefill and tokens > profile.max_batch_tokens:
            return f"{tokens} tokens exceed the {profile.max_batch_tokens} of one unchunked prefill"
        return None

    def arrive(self, request: EngineRequest, now_ps: int) -> bool:
        """Queue `request`; False if it can never fit (`refusal` says why). Ids are unique here."""
        self._reach(now_ps)
        if request.request_id in self._sequences:
            raise ValueError(f"request {request.request_id!r} is here already")
        if self.refusal(request) is not None:
            return False
        priority = 0 if self.flags.order == "fcfs" else request.priority
        sequence = Sequence(request, self._usable_hit(request), now_ps, (priority, self._arrived_count))
        self._sequences[request.request_id] = sequence
        insort(self._waiting, sequence, key=_RANK)
        self._arrived_count += 1
        if self._end_ps is None and self._hung_ps is None:
            self._start(now_ps)
        return True

    def cancel(self, request_id: str, now_ps: int) -> bool:
        """Drop a request; False if it is not here. In an iteration it keeps its blocks until the boundary."""
        self._reach(now_ps)
        sequence = self._sequences.get(request_id)
        if sequence is None or sequence.cancelled:
            return False
        self._cancelled_count += 1
        self._drop(sequence)
        return True

    def evict(self, request_id: str, now_ps: int) -> EngineRequest | None:
        """Give up a request that goes on elsewhere: its rest as of the last boundary, None if it is not here.

        It leaves as a cancelled one does, and the token of an iteration in progress is lost; it counts neither as
        cancelled nor as finished.
        """
        self._reach(now_ps)
        sequence = self._sequences.get(request_id)
        if sequence is None or sequence.cancelled:
            return None
        self._drop(sequence)
        return sequence.request.rest(sequence.generated_tokens, sequence.kept_tokens)

    def crash(self, now_ps: int) -> list[str]:
        """Lose everything: the iteration in progress, the cache, and the requests, whose ids it gives in order of
        admission, then of the queue. They count neither as cancelled nor as finished.

        What remains is an empty engine, also where it hung. Requests that were cancelled before are not told of.
        """
        self._reach(now_ps)
        lost = [s.request_id for s in (*self._running, *self._waiting) if not s.cancelled]
        self._pool = BlockPool(self.profile.block_count)
        self._sequences.clear()
        self._running.clear()
        self._waiting.clear()
        self._end_ps = self._hung_ps = None
        return lost

    def advance(self, now_ps: int) -> list[TokenEvent]:
        """Pass all boundaries up to and including `now_ps`; each event carries its own boundary's time."""
        events: list[TokenEvent] = []
        while (end_ps := self.next_ps) is not None and end_ps <= now_ps:
            self._now_ps = end_ps
            events.extend(self._complete(end_ps))
            self._start(end_ps)
        self._reach(now_ps)
        return events

    def hang(self, now_ps: int) -> None:
        """Stop making progress, in the middle of an iteration too."""
        self._reach(now_ps)
        if self._hung_ps is None:
            self._hung_ps = now_ps

    def resume(self, now_ps: int) -> None:
        """Go on after `hang`; the iteration in progress ends later by the time that was lost."""
        self._reach(now_ps)
        hung_ps, self._hung_ps = self._hung_ps, None
        if hung_ps is None:
            return
        if self._end_ps is None:
            self._start(now_ps)
        else:
            self._end_ps += now_ps - hung_ps

    def retime(self, profile: EngineProfile) -> None:
        """Use another profile from the next iteration on; it must have the same memory and limits."""
        old = self.profile
        if (profile.block_count, profile.block_size, profile.max_seqs, profile.max_batch_tokens) != (
            old.block_count,
            old.block_size,
            old.max_seqs,
            old.max_batch_tokens,
        ):
            raise ValueError(f"profile {profile.name!r} has other memory or limits than {old.name!r}")
        self.profile = profile

    def view(self) -> EngineView:
        """The instance as of its last boundary; blocks of the iteration in progress are already taken."""
        return EngineView(
            running_count=len(self._running),
            waiting_count=len(self._waiting),
            prefill_count=sum(not sequence.decoding for sequence in self._running),
            context_tokens=sum(sequence.cached_tokens for sequence in self._running),
            queued_tokens=sum(self._queued_tokens()),
            block_count=self._pool.block_count,
            free_block_count=self._pool.free_count,
            block_size=self.profile.block_size,
            max_seqs=self.profile.max_seqs,
            iteration_count=self._iteration_count,
            preemption_count=self._preemption_count,
            arrived_count=self._arrived_count,
            finished_count=self._finished_count,
            cancelled_count=self._cancelled_count,
            generated_tokens=self._generated_tokens,
            queued_ps=self._queued_ps,
            next_ps=self.next_ps,
        )

    def _queued_tokens(self) -> Iterator[int]:
        yield from (s.target_tokens - s.cached_tokens for s in self._running if not s.decoding)
        yield from (s.target_tokens - s.hit_tokens for s in self._waiting if not s.decoding)

    def _reach(self, now_ps: int) -> None:
        if now_ps < self._now_ps:
            raise ValueError(f"time runs backwards: {now_ps} ps after {self._now_ps} ps")
        if self.next_ps is not None and self.next_ps <= now_ps:
            raise ValueError(f"advance to {now_ps} ps first: a boundary at {self.next_ps} ps is due")
        self._now_ps = now_ps

    def _drop(self, sequence: Sequence) -> None:
        """Let a request go: at once from the queue, at the next boundary out of an iteration."""
        if sequence in self._running:
            sequence.cancelled = True
        else:
            self._waiting.remove(sequence)
            del self._sequences[sequence.request_id]

    def _usable_hit(self, request: EngineRequest) -> int:
        size = self.profile.block_size
        return min(request.hit_tokens, request.prompt_tokens - 1) // size * size

    def _start(self, now_ps: int) -> None:
        """Plan the next iteration and take its blocks; idle if there is nothing to do."""
        self._end_ps = None
        if not (self._running or self._waiting):
            return
        self._plan = self._batcher.plan(
            BatchView(self._running, self._waiting, self._pool.free_count, self.profile, self.flags)
        )
        moved_blocks = self._apply(self._plan, now_ps)
        self._iteration_count += 1
        self._end_ps = now_ps + self._duration_ps(self._plan, moved_blocks)

    def _apply(self, plan: BatchPlan, now_ps: int) -> int:
        """Carry out what the batcher decided; the blocks that move between cache and host for it."""
        moved_blocks = 0
        for request_id in plan.preempted:
            moved_blocks += self._preempt(self._sequences[request_id])
        for request_id in plan.admitted:
            moved_blocks += self._admit(self._sequences[request_id], now_ps)
        for request_id, tokens in _work(plan):
            self._grow(self._sequences[request_id], tokens)
        return moved_blocks

    def _preempt(self, sequence: Sequence) -> int:
        blocks = sequence.block_count
        swapping = self.flags.preemption == "swap"
        self._running.remove(sequence)
        self._pool.give_back(blocks)
        if swapping:
            sequence.swap_out()
        else:
            sequence.evict()
        insort(self._waiting, sequence, key=_RANK)
        self._preemption_count += 1
        return blocks if swapping else 0

    def _admit(self, sequence: Sequence, now_ps: int) -> int:
        if self._waiting.pop(0) is not sequence:
            raise ValueError(f"batcher admitted {sequence.request_id!r} out of order")
        if sequence.preemption_count == 0:
            self._queued_ps += now_ps - sequence.arrived_ps
        back, sequence.swapped = sequence.swapped, False
        sequence.cached_tokens = sequence.hit_tokens
        self._running.append(sequence)
        return self.profile.blocks(sequence.hit_tokens) if back else 0

    def _grow(self, sequence: Sequence, tokens: int) -> None:
        needed = self.profile.blocks(sequence.cached_tokens + tokens) - sequence.block_count
        self._pool.take(needed)
        sequence.block_count += needed

    def _duration_ps(self, plan: BatchPlan, moved_blocks: int) -> int:
        if not (plan.decodes or plan.chunks):
            raise ValueError("batcher planned an iteration without work while requests are present")
        context_tokens = sum(self._sequences[request_id].cached_tokens for request_id in plan.decodes)
        chunks = [PrefillChunk(c.tokens, self._sequences[c.request_id].cached_tokens) for c in plan.chunks]
        compute_ps = self.profile.duration_ps(len(plan.decodes), context_tokens, chunks)
        transfer_ps = moved_blocks * self.flags.swap_block_ps
        return max(compute_ps, transfer_ps) if self.flags.swap_overlaps else compute_ps + transfer_ps

    def _complete(self, end_ps: int) -> list[TokenEvent]:
        """Put the iteration's tokens into the cache and say which answers grew."""
        events: list[TokenEvent] = []
        for request_id, tokens in _work(self._plan):
            sequence = self._sequences[request_id]
            sequence.cached_tokens += tokens
            if sequence.cached_tokens == sequence.target_tokens and not sequence.cancelled:
                sequence.decoding = True
                sequence.generated_tokens += 1
                events.append(TokenEvent(request_id, end_ps, sequence.generated_tokens, sequence.finished))
        self._generated_tokens += len(events)
        self._leave()
        return events

    def _leave(self) -> None:
        leaving = [sequence for sequence in self._running if sequence.finished or sequence.cancelled]
        for sequence in leaving:
            self._pool.give_back(sequence.block_count)
            del self._sequences[sequence.request_id]
            self._finished_count += not sequence.cancelled
        if leaving:
            self._running = [sequence for sequence in self._running if sequence.request_id in self._sequences]


def _work(plan: BatchPlan) -> Iterator[tuple[str, int]]:
    """Each request of the iteration with its new tokens, in admission order."""
    yield from ((request_id, 1) for request_id in plan.decodes)
    yield from ((chunk.request_id, chunk.tokens) for chunk in plan.chunks)
