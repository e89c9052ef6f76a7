"""What can be seen of an instance from outside."""

from dataclasses import dataclass


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
