"""Continuous batching, first come first served, with prompts computed in chunks beside the decodes."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from forebay.core.instance.batcher.base import BatchPlan, BatchView, ChunkPlan, SequenceView


@dataclass(frozen=True, slots=True)
class ChunkedPrefill:
    """The pass of vLLM V1: running requests first, the last one evicted where a block is missing, then
    admission.

    Admission happens only in passes without eviction, from the head of the queue, while seats, token budget
    and blocks last; a prompt that exceeds the budget takes what is left of it, so at most one is partial.
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
    """The plan while it is being made; `kept` loses victims at its end and gains the admitted."""

    view: BatchView
    kept: list[SequenceView]
    free_blocks: int
    budget: int
    decodes: list[str] = field(default_factory=list)
    chunks: list[ChunkPlan] = field(default_factory=list)
    preempted: list[str] = field(default_factory=list)
    admitted: list[str] = field(default_factory=list)

    def plan(self) -> BatchPlan:
        return BatchPlan(tuple(self.decodes), tuple(self.chunks), tuple(self.preempted), tuple(self.admitted))

    def keep_running(self) -> None:
        """Give every running request its tokens, in order; evict from the tail if a block is missing."""
        for sequence in self._in_order():
            tokens = 1 if sequence.decoding else min(sequence.target_tokens - sequence.cached_tokens, self.budget)
            needed = self._blocks(sequence.cached_tokens + tokens) - self._blocks(sequence.cached_tokens)
            if self._make_room(sequence, needed):
                self._work(sequence, tokens, needed)

    def _in_order(self) -> Iterator[SequenceView]:
        position = 0
        while position < len(self.kept):
            yield self.kept[position]
            position += 1

    def _make_room(self, asker: SequenceView, needed: int) -> bool:
        """Evict until `needed` blocks are free; False if the asker itself was the victim."""
        while needed > self.free_blocks:
            victim = self.kept.pop()
            self.free_blocks += self._blocks(victim.cached_tokens)
            self.preempted.append(victim.request_id)
            if victim is asker:
                return False
        return True

    def admit(self) -> None:
        """Take requests from the head of the queue until one does not fit."""
        for sequence in self.view.waiting:
            tokens = min(sequence.target_tokens - sequence.hit_tokens, self.budget)
            if not self._admissible(sequence, tokens):
                return
            self.kept.append(sequence)
            self.admitted.append(sequence.request_id)
            self._work(sequence, tokens, self._blocks(sequence.hit_tokens + tokens))

    def _admissible(self, sequence: SequenceView, tokens: int) -> bool:
        if tokens == 0 or len(self.kept) >= self.view.profile.max_seqs:
            return False
        whole = tokens == sequence.target_tokens - sequence.hit_tokens
        if not (whole or self.view.flags.chunked_prefill):
            return False
        return self._blocks_wanted(sequence, tokens) + self.view.flags.watermark_blocks <= self._blocks_on_offer()

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

    def _work(self, sequence: SequenceView, tokens: int, needed: int) -> None:
        self.free_blocks -= needed
        self.budget -= tokens
        if sequence.decoding:
            self.decodes.append(sequence.request_id)
        else:
            self.chunks.append(ChunkPlan(sequence.request_id, tokens))

    def _blocks(self, tokens: int) -> int:
        return self.view.profile.blocks(tokens)
