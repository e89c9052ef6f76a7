"""Continuous batching with prompts computed in chunks beside the decodes, as vLLM V1 does it."""

from dataclasses import dataclass, field, replace
from operator import attrgetter

from forebay.core.instance.batcher.base import BatchPlan, BatchView, ChunkPlan, SequenceView

_RANK = attrgetter("rank")


@dataclass(frozen=True, slots=True)
class ChunkedPrefill:
    """The pass of vLLM V1: running requests first, in order of admission, then admission from the queue.

    Where a block is missing, the running request of the worst rank is evicted until the asker fits or was itself the
    victim; a victim that had its share of this pass gives it back, blocks and budget. Admission happens only if nobody
    was evicted so far, from the head of the queue, while seats, token budget and blocks last; a prompt that exceeds the
    budget takes what is left of it, so at most one is partial, and it was admitted last.

    With the order "preemptive", a head without a seat or blocks evicts those of lower priority; who waits behind such a
    victim is not admitted in this pass.
    """

    def plan(self, view: BatchView) -> BatchPlan:
        """The next iteration for `view`."""
        draft = _Draft(view, list(view.running), view.free_blocks, view.profile.max_batch_tokens)
        draft.keep_running()
        if not draft.preempted:
            draft.admit()
        return draft.plan()


@dataclass(slots=True)
class _Draft:
    """The plan while it is being made: who is `kept` and who entered, with the tokens that each of them computes."""

    view: BatchView
    kept: list[SequenceView]
    free_blocks: int
    budget: int
    tokens: dict[str, int] = field(default_factory=dict)
    preempted: list[SequenceView] = field(default_factory=list)
    admitted: list[str] = field(default_factory=list)

    def plan(self) -> BatchPlan:
        return BatchPlan(
            tuple([s.request_id for s in self.kept if s.decoding]),
            tuple([ChunkPlan(s.request_id, self.tokens[s.request_id]) for s in self.kept if not s.decoding]),
            tuple([s.request_id for s in self.preempted]),
            tuple(self.admitted),
        )

    def keep_running(self) -> None:
        """Give every running request its tokens, in order; evict the worst if a block is missing."""
        for sequence in self.view.running:
            if self.preempted and sequence in self.preempted:
                continue
            cached = sequence.cached_tokens
            if sequence.decoding:
                tokens, needed = 1, 0 if cached % self.view.profile.block_size else 1
            else:
                tokens = min(sequence.target_tokens - cached, self.budget)
                needed = self._blocks(cached + tokens) - self._blocks(cached)
            if needed <= self.free_blocks or self._make_room(sequence, needed):
                self._grant(sequence, tokens, needed)

    def _make_room(self, asker: SequenceView, needed: int) -> bool:
        """Evict until `needed` blocks are free; False if the asker itself was the victim."""
        while needed > self.free_blocks:
            victim = max(self.kept, key=_RANK)
            self._evict(victim)
            if victim is asker:
                return False
        return True

    def _evict(self, victim: SequenceView) -> None:
        granted = self.tokens.pop(victim.request_id, 0)
        self.kept.remove(victim)
        self.preempted.append(victim)
        self.budget += granted
        self.free_blocks += self._blocks(victim.cached_tokens + granted)

    def admit(self) -> None:
        """Take requests from the head of the queue until one does not fit."""
        for sequence in self.view.waiting:
            if any(victim.rank < sequence.rank for victim in self.preempted):
                return
            if not (self._admissible(sequence) or self._displace(sequence)):
                return
            tokens = self._first_tokens(sequence)
            self.kept.append(sequence)
            self.admitted.append(sequence.request_id)
            self._grant(sequence, tokens, self._blocks(sequence.hit_tokens + tokens))

    def _first_tokens(self, sequence: SequenceView) -> int:
        return min(sequence.target_tokens - sequence.hit_tokens, self.budget)

    def _admissible(self, sequence: SequenceView) -> bool:
        tokens = self._first_tokens(sequence)
        if tokens == 0 or len(self.kept) >= self.view.profile.max_seqs:
            return False
        whole = tokens == sequence.target_tokens - sequence.hit_tokens
        if not (whole or self.view.flags.chunked_prefill):
            return False
        return self._blocks_wanted(sequence, tokens) + self.view.flags.watermark_blocks <= self._blocks_on_offer()

    def _displace(self, sequence: SequenceView) -> bool:
        """Evict the worst of lower priority until `sequence` is admissible; nobody if that does not make it so."""
        if self.view.flags.order != "preemptive" or self.budget == 0:
            return False
        trial = replace(self, kept=list(self.kept), tokens=dict(self.tokens), preempted=list(self.preempted))
        for victim in sorted(self.kept, key=_RANK, reverse=True):
            if victim.rank[0] <= sequence.rank[0]:
                return False
            trial._evict(victim)
            if trial._admissible(sequence):
                self._become(trial)
                return True
        return False

    def _become(self, trial: "_Draft") -> None:
        self.kept, self.tokens, self.preempted = trial.kept, trial.tokens, trial.preempted
        self.free_blocks, self.budget = trial.free_blocks, trial.budget

    def _blocks_wanted(self, sequence: SequenceView, tokens: int) -> int:
        if self.view.flags.no_evict:
            return self._blocks(sequence.tokens_max)
        if self.view.flags.reserve_full_prompt:
            return self._blocks(sequence.target_tokens)
        return self._blocks(sequence.hit_tokens + tokens)

    def _blocks_on_offer(self) -> int:
        if not self.view.flags.no_evict:
            return self.free_blocks
        reserved = sum(self._blocks(sequence.tokens_max) for sequence in self.kept)
        return self.view.profile.block_count - reserved

    def _grant(self, sequence: SequenceView, tokens: int, needed: int) -> None:
        self.free_blocks -= needed
        self.budget -= tokens
        self.tokens[sequence.request_id] = tokens

    def _blocks(self, tokens: int) -> int:
        return self.view.profile.blocks(tokens)
