"""Shortest remaining predicted time first, with eviction of the longest."""

from dataclasses import dataclass

from forebay.core.instance.batcher.base import BatchPlan, BatchView, SequenceView
from forebay.core.instance.batcher.estimates import remaining_ps
from forebay.core.instance.batcher.filling import ranked


@dataclass(frozen=True, slots=True)
class Preemptive:
    """SRPT on predicted lengths: who is expected to end first has the memory, and whoever lacks it is evicted.

    As in TRAIL (arXiv 2410.01035) an answer is not evicted late: from the share `late_share` of its prediction on it
    comes before all that are not so far (0.8 is from memory of the paper; 1 and more: overrun answers alone are safe).
    `tokens_default` is taken where nobody predicted (ours). Long requests may starve; `alise` and `autellix` age.
    """

    late_share: float = 0.8
    tokens_default: int = 256

    def plan(self, view: BatchView) -> BatchPlan:
        """The next iteration for `view`."""
        return ranked(view, lambda one: (*self._urgency(view, one), *one.rank)).plan()

    def _urgency(self, view: BatchView, sequence: SequenceView) -> tuple[int, int]:
        predicted = sequence.hints.predicted_tokens or self.tokens_default
        is_late = sequence.block_count > 0 and sequence.generated_tokens >= self.late_share * predicted
        return (not is_late, 0 if is_late else remaining_ps(sequence, view.profile, self.tokens_default))
