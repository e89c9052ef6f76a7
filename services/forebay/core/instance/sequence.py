"""What an instance is asked to do, how it may be configured, and what it says while it does it."""

from dataclasses import dataclass, field, replace
from typing import NamedTuple

from forebay.core.instance.hints import NO_HINTS, Hints
from forebay.core.units import PS_PER_US

ORDERS = ("fcfs", "priority", "preemptive")
PREEMPTIONS = ("recompute", "swap")


class Batch(NamedTuple):
    """The batch that a request was put into before it came: its name, and how many requests it has in all."""

    batch_id: str = ""
    request_count: int = 1


ALONE = Batch()
"""The batch of a request that nobody put into one."""


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """One request with its hidden truth, `output_tokens`: how many tokens the model will answer with.

    `hit_tokens` of the prompt lie in the prefix cache; whole blocks count, and one token is always computed.
    `output_tokens_max` is the limit the client asked for (0: as long as the answer); engines that reserve
    memory for the whole answer reserve this much. `priority` counts in engines that heed it, the smallest first, and
    `batch` in those that run the batches they are given. `hints` are for the batchers that heed them. Raises ValueError
    on counts that no request can have.
    """

    request_id: str
    prompt_tokens: int
    output_tokens: int
    hit_tokens: int = 0
    output_tokens_max: int = 0
    priority: int = 0
    batch: Batch = field(default=ALONE, repr=False)
    hints: Hints = field(default=NO_HINTS, repr=False)

    def __post_init__(self) -> None:
        if self.prompt_tokens < 1 or self.output_tokens < 1:
            raise ValueError(f"request {self.request_id!r}: prompt and output need at least one token")
        if self.hit_tokens < 0:
            raise ValueError(f"request {self.request_id!r}: hit_tokens must not be negative")
        if 0 < self.output_tokens_max < self.output_tokens:
            raise ValueError(f"request {self.request_id!r}: output_tokens exceeds output_tokens_max")

    @property
    def tokens_max(self) -> int:
        """Prompt and longest possible answer together."""
        return self.prompt_tokens + max(self.output_tokens, self.output_tokens_max)

    def rest(self, generated_tokens: int, cached_tokens: int) -> "EngineRequest":
        """What is left after `generated_tokens` of the answer, for an instance that gets `cached_tokens` of the cache.

        The answer so far becomes part of the prompt and the cache a hit, so the receiver computes what lies beyond
        whole blocks again, and counts the tokens of the answer from 1.
        """
        return replace(
            self,
            prompt_tokens=self.prompt_tokens + generated_tokens,
            output_tokens=self.output_tokens - generated_tokens,
            hit_tokens=cached_tokens,
            output_tokens_max=max(0, self.output_tokens_max - generated_tokens),
            hints=self.hints.after(generated_tokens),
        )


@dataclass(frozen=True, slots=True)
class EngineFlags:
    """How the engine admits; the defaults are those of vLLM V1.

    `reserve_full_prompt`: admit only if the blocks of the whole prompt are free, not just of its first chunk.
    `watermark_blocks`: blocks that admission leaves free. `no_evict`: reserve prompt and longest answer at
    admission and never preempt (TensorRT-LLM GUARANTEED_NO_EVICT). `chunked_prefill`: a prompt may be
    computed in parts. `model_tokens_max`: longest prompt plus answer (0: the pool is the only limit).

    `order` ranks requests; the best waits at the head of the queue, and where a block is missing the worst that runs is
    evicted. "fcfs" ranks by arrival; "priority" by `EngineRequest.priority` and then by arrival; "preemptive" likewise,
    and a head of the queue that lacks a seat or blocks evicts those who run with a larger `priority` number, worst
    first, as few as it takes, and nobody where all of them would not be enough. Equal priorities make the three one.

    `preemption` is what becomes of a victim's cache. "recompute" drops it: prompt and answer so far are computed again.
    "swap" moves it to the host's memory, which has no limit, and back at admission, where it takes its seat, one token
    of budget or its chunk, and blocks as any request whose prompt was a hit of that length; a victim that was decoding
    gets its next token in that same iteration. Each block takes `swap_block_ps` out and again in
    (`EngineProfile.kv_transfer_ps`); the iteration lasts longer by the transfers of its pass or, where `swap_overlaps`,
    only as long as the longer of transfers and computing.

    `batch_padding` and `batch_answers_wait` are habits of static batches (`batcher.Static`); other batchers heed
    neither. `batch_delay_ps`: an empty engine lets requests gather and starts when `max_seqs` of them wait, or that
    long after the oldest of them arrived (0: at once, so that the first to come runs alone).

    `batch_given`: a static batch is what others put together (`EngineRequest.batch`). The empty engine starts the one
    whose first request came first, once all of it is there or `batch_delay_ps` after that one came; requests without a
    batch are batches of one. Memory is taken as answers grow. Where it runs out, the batch splits into two halves that
    start anew, one after the other (Cheng et al., Magnus, arXiv 2406.04785): where answers wait, all their tokens are
    lost.

    `admits_ahead`: who enters an iteration was chosen when the one before it began, as by an engine that plans while
    the last plan is computed (vLLM's async scheduling): from those who waited then, for seats that were free then.
    An empty engine starts at once. Memory is looked at when the iteration begins. Needs the order "fcfs".
    """

    reserve_full_prompt: bool = True
    watermark_blocks: int = 0
    no_evict: bool = False
    chunked_prefill: bool = True
    model_tokens_max: int = 0
    order: str = "fcfs"
    preemption: str = "recompute"
    swap_block_ps: int = 0
    swap_overlaps: bool = False
    batch_padding: bool = False
    batch_answers_wait: bool = False
    batch_delay_ps: int = 0
    batch_given: bool = False
    admits_ahead: bool = False

    def __post_init__(self) -> None:
        for name in ("watermark_blocks", "model_tokens_max", "swap_block_ps", "batch_delay_ps"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.order not in ORDERS:
            raise ValueError(f"order must be one of {', '.join(ORDERS)}, got {self.order!r}")
        if self.preemption not in PREEMPTIONS:
            raise ValueError(f"preemption must be one of {', '.join(PREEMPTIONS)}, got {self.preemption!r}")
        if self.no_evict and self.order == "preemptive":
            raise ValueError("an engine with no_evict cannot have the order 'preemptive'")
        if self.batch_given and not self.batch_delay_ps:
            raise ValueError("an engine with batch_given needs a batch_delay above 0: how long it waits for stragglers")
        if self.admits_ahead and self.order != "fcfs":
            raise ValueError(f"an engine that admits ahead needs the order 'fcfs', got {self.order!r}")


class TokenEvent(NamedTuple):
    """Token number `token_count` of a request's answer appeared at `at_ps`; `finished` with the last one.

    A tuple, since it is the one value that is made for every token.
    """

    request_id: str
    at_ps: int
    token_count: int
    finished: bool


@dataclass(slots=True, eq=False)
class Sequence:
    """The state of one request inside an instance; owned and changed by the instance alone.

    `cached_tokens` lie in the KV cache, in `block_count` blocks. `decoding` once the prefill reached its target.
    `ended` once its client got the last token or left it; in static batches its row may remain, and then
    `generated_tokens` counts the invalid tokens too. `padding_tokens` lengthen its prompt there.
    `swapped` while it waits with `hit_tokens` of its cache on the host. `part` numbers the halves of a given batch that
    split: 1 is the whole, 2 and 3 its halves, and so on. `rank` is unique in the instance: priority (0
    where the engine heeds none) and number of the arrival. It entered the queue or the batch last at `since_ps`, after
    `queued_ps` in the queue before. `mark` is what the batcher wrote on it last.
    """

    request: EngineRequest
    hit_tokens: int
    arrived_ps: int
    rank: tuple[int, int]
    request_id: str = field(init=False)
    generated_tokens: int = 0
    cached_tokens: int = 0
    block_count: int = 0
    preemption_count: int = 0
    decoding: bool = False
    padding_tokens: int = 0
    swapped: bool = False
    ended: bool = False
    part: int = 1
    since_ps: int = field(init=False)
    queued_ps: int = 0
    mark: int = 0

    def __post_init__(self) -> None:
        self.request_id = self.request.request_id
        self.since_ps = self.arrived_ps

    @property
    def target_tokens(self) -> int:
        """Tokens that must be in the cache before the next one can be sampled: prompt and answer so far."""
        return self.request.prompt_tokens + self.padding_tokens + self.generated_tokens

    @property
    def tokens_max(self) -> int:
        """Prompt and longest possible answer together."""
        return self.request.tokens_max

    @property
    def hints(self) -> Hints:
        """What was told about it."""
        return self.request.hints

    @property
    def due_ps(self) -> int:
        """When its first token is due; 0 where nobody promised one."""
        slo_us = self.request.hints.ttft_slo_us
        return self.arrived_ps + slo_us * PS_PER_US if slo_us else 0

    def waited_ps(self, now_ps: int) -> int:
        """How long it was in the queue by now, in all; only there it holds no blocks."""
        return self.queued_ps + (0 if self.block_count else now_ps - self.since_ps)

    @property
    def finished(self) -> bool:
        """Whether the whole answer was generated."""
        return self.generated_tokens >= self.request.output_tokens

    @property
    def kept_tokens(self) -> int:
        """Tokens whose keys and values exist, in the cache or on the host."""
        return self.hit_tokens if self.swapped else self.cached_tokens

    def swap_out(self) -> None:
        """Leave the cache for the host; what lies there counts as a hit when it comes back."""
        self.hit_tokens, self.cached_tokens, self.block_count = self.cached_tokens, 0, 0
        self.swapped = True
        self.preemption_count += 1

    def restart(self, part: int, forgets: bool) -> None:
        """Begin anew as one of that part of its batch; where it `forgets`, the answer so far is lost as well."""
        self.evict()
        self.part, self.padding_tokens = part, 0
        self.generated_tokens = 0 if forgets else self.generated_tokens

    def evict(self) -> None:
        """Forget the cache; prompt and answer so far have to be computed again, without the prefix hit."""
        self.cached_tokens = self.block_count = self.hit_tokens = 0
        self.decoding = False
        self.preemption_count += 1
