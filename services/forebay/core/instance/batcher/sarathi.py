"""Stall-free batches of bounded size: decodes first, then prompts that were begun, then new ones."""

from dataclasses import dataclass

from forebay.core.instance.batcher.base import BatchPlan, BatchView, SequenceView
from forebay.core.instance.batcher.filling import RANK, Filling

SHRINK_STEP_TOKENS = 32


@dataclass(frozen=True, slots=True)
class Sarathi:
    """The batches of Sarathi-Serve (OSDI'24, arXiv 2403.02310): at most `chunk_tokens` an iteration.

    All who decode get one token each, then prompts that were begun share what is left, in order of rank, then requests
    enter. Where memory runs out, those are evicted that come last in this order. With `chunk_tokens_min` above 0 a
    prompt's chunks shrink as it proceeds, in multiples of 32, since attention to what is cached makes equal chunks
    longer: linearly, down to the minimum at `shrink_tokens` of its prompt.
    """

    chunk_tokens: int = 512
    chunk_tokens_min: int = 0
    shrink_tokens: int = 8_192

    def __post_init__(self) -> None:
        if not (0 <= self.chunk_tokens_min <= self.chunk_tokens and self.chunk_tokens and self.shrink_tokens):
            raise ValueError("chunk_tokens and shrink_tokens must be positive, chunk_tokens_min at most chunk_tokens")

    def plan(self, view: BatchView) -> BatchPlan:
        """The next iteration for `view`."""
        running = sorted(view.running, key=lambda one: (not one.decoding, one.rank))
        decode_count = sum(one.decoding for one in running)
        filling = Filling(view, prompt_tokens_max=max(0, self.chunk_tokens - decode_count))
        for sequence in (*running, *sorted(view.waiting, key=RANK)):
            filling.take(sequence, self._chunk_tokens(sequence))
        return filling.plan()

    def _chunk_tokens(self, sequence: SequenceView) -> int:
        if not self.chunk_tokens_min:
            return self.chunk_tokens
        done = min(self.shrink_tokens, max(sequence.cached_tokens, sequence.hit_tokens))
        shrunk = self.chunk_tokens - (self.chunk_tokens - self.chunk_tokens_min) * done // self.shrink_tokens
        return max(self.chunk_tokens_min, shrunk // SHRINK_STEP_TOKENS * SHRINK_STEP_TOKENS)
