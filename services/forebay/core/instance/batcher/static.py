"""Vanilla batching: a batch is formed when the engine is empty, and runs until its longest answer ends."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from forebay.core.instance.batcher.base import BatchPlan, BatchView, ChunkPlan, SequenceView


@dataclass(frozen=True, slots=True)
class Static:
    """Static batches of at most `max_seqs` requests; nobody joins a batch, and nobody is evicted from one.

    An empty engine takes requests from the head of the queue while the blocks of their prompts and longest possible
    answers are free together; the first one is taken in any case. All prompts are computed before anyone decodes: in
    order of admission, in iterations of the token budget, each giving its first token at the end of the iteration that
    completes it. Then all decode together. A row leaves with the last token of its answer.

    Engines without ragged batches are modelled by flags (Cheng et al., Magnus, arXiv 2406.04785, section 2).
    `batch_padding`: every prompt is padded to the longest of its batch, and every row stays until the batch ends,
    producing invalid tokens once its answer is complete; both cost time and memory like real ones.
    `batch_given`: those who wait are one batch, formed by others; it is taken as it is, without reserving memory for
    answers (its first half, or half of that, where not even all prompts fit), and halved where memory runs out.
    `batch_answers_wait`: rows stay likewise, and all answers are returned when the batch ends.
    """

    def plan(self, view: BatchView) -> BatchPlan:
        """The next iteration for `view`."""
        flags = view.flags
        if flags.batch_given and view.running and self._overflows(view):
            return BatchPlan((), (), preempted=tuple(row.request_id for row in view.running), halved=True)
        rows = view.running or self._form(view)
        padded_tokens = 0 if view.running or not flags.batch_padding else max(row.target_tokens for row in rows)
        prefilled = all(row.decoding for row in rows)
        return BatchPlan(
            tuple(row.request_id for row in rows) if prefilled else (),
            () if prefilled else tuple(self._chunks(view, rows, padded_tokens)),
            admitted=() if view.running else tuple(row.request_id for row in rows),
            padded_tokens=padded_tokens,
            rows_stay=flags.batch_padding or flags.batch_answers_wait,
            answers_wait=flags.batch_answers_wait,
        )

    def _form(self, view: BatchView) -> Sequence[SequenceView]:
        if view.flags.batch_given:
            return self._fitting(view)
        batch: list[SequenceView] = []
        for row in islice(view.waiting, view.profile.max_seqs):
            if batch and self._blocks(view, [*batch, row]) + view.flags.watermark_blocks > view.free_blocks:
                break
            batch.append(row)
        return batch

    def _fitting(self, view: BatchView) -> Sequence[SequenceView]:
        """The given batch, or its first half, or half of that: as much as there are seats, and blocks for prompts."""
        batch, free = list(view.waiting)[: view.profile.max_seqs], view.free_blocks - view.flags.watermark_blocks
        while len(batch) > 1 and self._prompt_blocks(view, batch) > free:
            batch = batch[: -(-len(batch) // 2)]
        return batch

    def _prompt_blocks(self, view: BatchView, batch: list[SequenceView]) -> int:
        prompts = [row.target_tokens for row in batch]
        if view.flags.batch_padding:
            prompts = [max(prompts)] * len(batch)
        return sum(view.profile.blocks(tokens) for tokens in prompts)

    def _overflows(self, view: BatchView) -> bool:
        """Whether the next token of all who decode needs more blocks than there are."""
        if not all(row.decoding for row in view.running):
            return False
        blocks, held = view.profile.blocks, [row.cached_tokens for row in view.running]
        return sum(blocks(tokens + 1) - blocks(tokens) for tokens in held) > view.free_blocks

    def _blocks(self, view: BatchView, batch: list[SequenceView]) -> int:
        """Blocks that the batch could take at most, before its last tokens, which enter no cache."""
        prompts = [row.target_tokens for row in batch]
        answers = [row.tokens_max - row.target_tokens for row in batch]
        if view.flags.batch_padding:
            prompts = [max(prompts)] * len(batch)
        if view.flags.batch_padding or view.flags.batch_answers_wait:
            answers = [max(answers)] * len(batch)
        return sum(view.profile.blocks(sum(tokens)) for tokens in zip(prompts, answers, strict=True))

    def _chunks(self, view: BatchView, rows: Sequence[SequenceView], padded_tokens: int) -> list[ChunkPlan]:
        chunks: list[ChunkPlan] = []
        budget = view.profile.max_batch_tokens
        for row in rows:
            rest = max(row.target_tokens, padded_tokens) - max(row.cached_tokens, row.hit_tokens)
            tokens = min(rest, budget)
            if row.decoding:
                continue
            if tokens == 0 or not (tokens == rest or view.flags.chunked_prefill):
                break
            chunks.append(ChunkPlan(row.request_id, tokens))
            budget -= tokens
        return chunks
