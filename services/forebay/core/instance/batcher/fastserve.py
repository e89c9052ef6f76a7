"""Queues by the service that a request itself has had, entered at the one that holds its prompt."""

from dataclasses import dataclass

from forebay.core.instance.batcher.base import BatchPlan, BatchView, SequenceView
from forebay.core.instance.batcher.estimates import prompt_ps, token_ps
from forebay.core.instance.batcher.filling import ranked
from forebay.core.instance.batcher.levels import level_of, lifted
from forebay.core.instance.profile import EngineProfile
from forebay.core.units import PS_PER_S


@dataclass(frozen=True, slots=True)
class FastServe:
    """Skip-join MLFQ (FastServe, arXiv 2305.05920): no prediction, short answers still leave early.

    A request enters the first of `queue_count` queues whose quantum (`quantum_s`, doubling) holds the time of its
    prompt, and falls as prompt and answer use up the quanta of that queue and those below. Every `promote_s` that it
    waited in all lifts it one queue for good. In a queue those who run come first, then first come. The paper's
    constants are not known here: these are ours.
    """

    queue_count: int = 6
    quantum_s: float = 0.5
    promote_s: float = 30.0

    def __post_init__(self) -> None:
        if self.queue_count < 1 or min(self.quantum_s, self.promote_s) <= 0:
            raise ValueError("queue_count, quantum_s and promote_s must be positive")

    def plan(self, view: BatchView) -> BatchPlan:
        """The next iteration for `view`."""
        return ranked(view, lambda one: (self.level(one, view), one.block_count == 0, *one.rank)).plan()

    def level(self, sequence: SequenceView, view: BatchView) -> int:
        """The queue that a request is in, 0 the top one."""
        level = level_of(_service_ps(sequence, view.profile), round(self.quantum_s * PS_PER_S), self.queue_count)
        return lifted(level, sequence.waited_ps(view.now_ps), round(self.promote_s * PS_PER_S))


def _service_ps(sequence: SequenceView, profile: EngineProfile) -> int:
    """The time of its prompt and of the tokens so far, each as if alone."""
    answer_tokens = sequence.generated_tokens
    prompt_tokens = sequence.target_tokens - answer_tokens
    return prompt_ps(prompt_tokens, profile) + answer_tokens * token_ps(sequence.target_tokens, profile)
