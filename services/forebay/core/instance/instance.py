"""One LLM engine, iteration by iteration: the plain reference of the instance model.

It takes no shortcut: one turn per iteration, blocks counted one by one, whatever the batcher plans. Faster
engines have to agree with it to the picosecond.
"""

from bisect import insort
from collections.abc import Iterator
from dataclasses import replace
from operator import attrgetter

from forebay.core.instance.batcher import BATCHERS, Batcher, BatchPlan, BatchView
from forebay.core.instance.blocks import BlockPool
from forebay.core.instance.gathering import Gathering
from forebay.core.instance.profile import EngineProfile, PrefillChunk
from forebay.core.instance.sequence import EngineFlags, EngineRequest, Sequence, TokenEvent
from forebay.core.instance.view import EngineView

NOTHING = BatchPlan((), ())
_RANK = attrgetter("rank")


class InstanceModel:
    """An engine with its queue; sans I/O, integer picoseconds, deterministic.

    Call `advance(now)` before `arrive` or `cancel` at the same `now`: a boundary comes before whatever
    happens at its instant. A request that reaches an idle instance starts an iteration at once, so a second
    one of the same instant misses that iteration, unless the engine lets requests gather. Tokens appear at the end of
    an iteration: those of decodes in order of admission, then those of completed prompts. Raises ValueError when time
    runs backwards or a due boundary was skipped.
    """

    def __init__(
        self, profile: EngineProfile, flags: EngineFlags | None = None, batcher: Batcher | None = None
    ) -> None:
        self.profile = self._limited = profile
        self.flags = EngineFlags() if flags is None else flags
        self._batcher = BATCHERS["chunked_prefill"]() if batcher is None else batcher
        self._pool = BlockPool(profile.block_count)
        self._sequences: dict[str, Sequence] = {}
        self._running: list[Sequence] = []
        self._waiting: list[Sequence] = []
        self._gathering = Gathering()
        self._plan = NOTHING
        self._work: list[tuple[Sequence, int]] = []
        self._end_ps: int | None = None
        self._hung_ps: int | None = None
        self._now_ps = self._chosen_count = 0
        self._iteration_count = self._preemption_count = self._generated_tokens = 0
        self._arrived_count = self._finished_count = self._cancelled_count = self._queued_ps = 0

    @property
    def next_ps(self) -> int | None:
        """End of the iteration in progress, or of the time to gather; None while idle or hung."""
        return None if self._hung_ps is not None else self._end_ps

    @property
    def request_ids(self) -> tuple[str, ...]:
        """Whose answers are still to end: in order of admission, then of the queue."""
        return tuple(one.request_id for one in (*self._running, *self._waiting) if not one.ended)

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
        self._gathering.note(request)
        self._arrived_count += 1
        if self._hung_ps is None and not self._busy:
            self._start(now_ps)
        return True

    def cancel(self, request_id: str, now_ps: int) -> bool:
        """Drop a request; False if it is not here. In an iteration it keeps its blocks until the boundary."""
        self._reach(now_ps)
        sequence = self._sequences.get(request_id)
        if sequence is None or sequence.ended:
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
        if sequence is None or sequence.ended:
            return None
        self._drop(sequence)
        told_tokens = 0 if self._plan.answers_wait else sequence.generated_tokens
        return sequence.request.rest(told_tokens, max(0, sequence.kept_tokens - sequence.padding_tokens))

    def crash(self, now_ps: int) -> tuple[str, ...]:
        """Lose everything: the iteration in progress, the cache, and the requests, whose ids it gives in order of
        admission, then of the queue. They count neither as cancelled nor as finished.

        What remains is an empty engine, also where it hung. Requests that were cancelled before are not told of.
        """
        self._reach(now_ps)
        lost = self.request_ids
        self._pool = BlockPool(self.profile.block_count)
        self._sequences.clear()
        self._running.clear()
        self._waiting.clear()
        self._plan = NOTHING
        self._work.clear()
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
        if self._busy:
            self._end_ps = (self._end_ps or 0) + now_ps - hung_ps
        else:
            self._start(now_ps)

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
        self._limited = _limited(profile, self._limited.max_seqs, self._limited.max_batch_tokens)

    def limit(self, max_seqs: int, max_batch_tokens: int) -> None:
        """Plan with so many seats and tokens an iteration from the next one on, within those of the profile.

        Nobody is evicted for it: whoever runs goes on, and seats are not given again until fewer run. The budget stays
        above the profile's seats, so that all who decode fit, and is the profile's own where prompts are not computed
        in chunks. Raises ValueError for anything else.
        """
        seats, budget = self.profile.max_seqs, self.profile.max_batch_tokens
        least = seats + 1 if self.flags.chunked_prefill else budget
        if not 1 <= max_seqs <= seats:
            raise ValueError(f"max_seqs must be from 1 to {seats}, got {max_seqs}")
        if not least <= max_batch_tokens <= budget:
            raise ValueError(f"max_batch_tokens must be from {least} to {budget}, got {max_batch_tokens}")
        self._limited = _limited(self.profile, max_seqs, max_batch_tokens)

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
            max_seqs=self._limited.max_seqs,
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
            sequence.ended = True
        else:
            self._waiting.remove(sequence)
            del self._sequences[sequence.request_id]

    @property
    def _busy(self) -> bool:
        """Whether an iteration is in progress; else the engine is idle or lets requests gather."""
        return self._end_ps is not None and bool(self._plan.decodes or self._plan.chunks)

    def _usable_hit(self, request: EngineRequest) -> int:
        size = self.profile.block_size
        return min(request.hit_tokens, request.prompt_tokens - 1) // size * size

    def _start(self, now_ps: int) -> None:
        """Plan the next iteration and take its blocks; gather or idle if there is nothing to do."""
        self._plan, self._work = NOTHING, []
        self._end_ps = None if self._running else self._gathered_ps(now_ps)
        if self._end_ps is not None or not (self._running or self._waiting):
            return
        self._plan = self._next_plan(now_ps)
        if self._plan.halved:
            self._halve()
            self._plan = self._next_plan(now_ps)
        moved_blocks = self._apply(self._plan, now_ps)
        self._chosen_count = min(len(self._waiting), max(0, self._limited.max_seqs - len(self._running)))
        self._iteration_count += 1
        self._end_ps = now_ps + self._duration_ps(self._plan, moved_blocks)

    def _next_plan(self, now_ps: int) -> BatchPlan:
        waiting, flags = self._waiting, self.flags
        if flags.batch_given:
            waiting = [] if self._running else self._gathering.ready(waiting, now_ps, flags.batch_delay_ps)
        elif flags.admits_ahead and self._running:
            waiting = waiting[: self._chosen_count]
        return self._batcher.plan(
            BatchView(self._running, waiting, self._pool.free_count, self._limited, flags, now_ps)
        )

    def _halve(self) -> None:
        """Split the given batch that runs: both halves wait again, and rows that nobody needs are gone."""
        rows, self._running = self._running, []
        alive = [row for row in rows if not row.ended]
        for row in rows:
            self._pool.give_back(row.block_count)
            if row.ended:
                del self._sequences[row.request_id]
        for index, row in enumerate(alive):
            half = 2 * row.part + (index >= (len(alive) + 1) // 2)
            row.restart(half if len(alive) > 1 else row.part, self.flags.batch_answers_wait)
            insort(self._waiting, row, key=_RANK)
        self._preemption_count += len(alive)

    def _gathered_ps(self, now_ps: int) -> int | None:
        """Until when the empty engine waits for more requests; None if it does not."""
        if self.flags.batch_given:
            return self._gathering.start_ps(self._waiting, now_ps, self.flags.batch_delay_ps)
        if not (self.flags.batch_delay_ps and 0 < len(self._waiting) < self._limited.max_seqs):
            return None
        gathered_ps = min(sequence.arrived_ps for sequence in self._waiting) + self.flags.batch_delay_ps
        return gathered_ps if gathered_ps > now_ps else None

    def _apply(self, plan: BatchPlan, now_ps: int) -> int:
        """Carry out what the batcher decided; the blocks that move between cache and host for it."""
        moved_blocks = 0
        for request_id in plan.preempted:
            moved_blocks += self._preempt(self._sequences[request_id], now_ps)
        for request_id in plan.admitted:
            moved_blocks += self._admit(self._sequences[request_id], plan, now_ps)
        for request_id, mark in plan.marks:
            self._sequences[request_id].mark = mark
        self._work = [(self._sequences[request_id], 1) for request_id in plan.decodes]
        self._work += [(self._sequences[chunk.request_id], chunk.tokens) for chunk in plan.chunks]
        size = self.profile.block_size
        for sequence, tokens in self._work:
            if sequence.cached_tokens + tokens > sequence.block_count * size:
                self._grow(sequence, tokens)
        return moved_blocks

    def _preempt(self, sequence: Sequence, now_ps: int) -> int:
        blocks = sequence.block_count
        swapping = self.flags.preemption == "swap"
        self._running.remove(sequence)
        self._pool.give_back(blocks)
        if swapping:
            sequence.swap_out()
        else:
            sequence.evict()
        sequence.since_ps = now_ps
        insort(self._waiting, sequence, key=_RANK)
        self._preemption_count += 1
        return blocks if swapping else 0

    def _admit(self, sequence: Sequence, plan: BatchPlan, now_ps: int) -> int:
        place = self._waiting.index(sequence)
        if place and not (self.flags.batch_given or plan.jumps_queue):
            raise ValueError(f"batcher admitted {sequence.request_id!r} out of order")
        del self._waiting[place]
        sequence.queued_ps, sequence.since_ps = sequence.waited_ps(now_ps), now_ps
        if sequence.preemption_count == 0:
            self._queued_ps += now_ps - sequence.arrived_ps
        back, sequence.swapped = sequence.swapped, False
        sequence.padding_tokens = 0
        sequence.padding_tokens = max(0, plan.padded_tokens - sequence.target_tokens)
        sequence.cached_tokens = sequence.hit_tokens
        self._grow(sequence, 0)
        self._running.append(sequence)
        return self.profile.blocks(sequence.hit_tokens) if back else 0

    def _grow(self, sequence: Sequence, tokens: int) -> None:
        needed = self.profile.blocks(sequence.cached_tokens + tokens) - sequence.block_count
        self._pool.take(needed)
        sequence.block_count += needed

    def _duration_ps(self, plan: BatchPlan, moved_blocks: int) -> int:
        if not (plan.decodes or plan.chunks):
            raise ValueError("batcher planned an iteration without work while requests are present")
        decode_count = len(plan.decodes)
        context_tokens = sum([sequence.cached_tokens for sequence, _ in self._work[:decode_count]])
        chunks = [PrefillChunk(tokens, sequence.cached_tokens) for sequence, tokens in self._work[decode_count:]]
        compute_ps = self.profile.duration_ps(decode_count, context_tokens, chunks)
        transfer_ps = moved_blocks * self.flags.swap_block_ps
        return max(compute_ps, transfer_ps) if self.flags.swap_overlaps else compute_ps + transfer_ps

    def _complete(self, end_ps: int) -> list[TokenEvent]:
        """Put the iteration's tokens into the cache and say which answers grew."""
        events: list[TokenEvent] = []
        for sequence, tokens in self._work:
            sequence.cached_tokens += tokens
            if sequence.decoding or sequence.cached_tokens == sequence.target_tokens:
                sequence.decoding = True
                sequence.generated_tokens += 1
                if not (sequence.ended or self._plan.answers_wait):
                    events.append(self._tell(sequence, sequence.generated_tokens, end_ps))
        if not (self._plan.rows_stay and any(not (one.ended or one.finished) for one in self._running)):
            events.extend(self._untold(end_ps))
            self._leave()
        return events

    def _tell(self, sequence: Sequence, token_count: int, at_ps: int) -> TokenEvent:
        finished = token_count == sequence.request.output_tokens
        self._generated_tokens += 1
        self._finished_count += finished
        sequence.ended = finished
        return TokenEvent(sequence.request_id, at_ps, token_count, finished)

    def _untold(self, end_ps: int) -> Iterator[TokenEvent]:
        """The answers that waited for the end of their batch."""
        if self._plan.answers_wait:
            for sequence in self._running:
                if not sequence.ended:
                    for token_count in range(1, sequence.request.output_tokens + 1):
                        yield self._tell(sequence, token_count, end_ps)

    def _leave(self) -> None:
        leaving = [sequence for sequence in self._running if sequence.ended]
        for sequence in leaving:
            self._pool.give_back(sequence.block_count)
            del self._sequences[sequence.request_id]
        if leaving:
            self._running = [sequence for sequence in self._running if not sequence.ended]


def _limited(profile: EngineProfile, max_seqs: int, max_batch_tokens: int) -> EngineProfile:
    if (max_seqs, max_batch_tokens) == (profile.max_seqs, profile.max_batch_tokens):
        return profile
    return replace(profile, max_seqs=max_seqs, iteration_ps=profile.iteration_ps[: max_batch_tokens + 1])
