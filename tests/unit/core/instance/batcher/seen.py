"""Requests as a batcher sees them, made by hand, and an engine whose times can be reckoned in the head."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from forebay.core.instance import EngineFlags, EngineProfile
from forebay.core.instance.batcher import BatchPlan, BatchView, make_batcher
from forebay.core.instance.hints import NO_HINTS, Hints
from forebay.core.units import PS_PER_S

MS_PS = PS_PER_S // 1_000

CLEAR = EngineProfile(
    name="clear",
    status="uncalibrated",
    iteration_ps=tuple(tokens * MS_PS for tokens in range(101)),
    decode_ps=9 * MS_PS,
    context_token_ps=0,
    prefill_ps=0,
    half_pair_fixed=0,
    prefill_token_fixed=0,
    kv_tokens=400,
    max_seqs=8,
    block_size=10,
)
"""Forty blocks of ten tokens, eight seats, a hundred tokens an iteration: 1 ms each, and 9 ms more for each decode.

A prompt of n tokens takes n ms in chunks, as does its share of an iteration; a token of an answer takes 10 ms."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One request; of those in the queue `block_count` is 0."""

    request_id: str
    target_tokens: int
    cached_tokens: int = 0
    hit_tokens: int = 0
    tokens_max: int = 1_000
    generated_tokens: int = 0
    decoding: bool = False
    block_count: int = 0
    arrived_ps: int = 0
    queued_ps: int = 0
    due_ps: int = 0
    hints: Hints = NO_HINTS
    mark: int = 0
    ended: bool = False
    since_ps: int = field(default=0)

    @property
    def rank(self) -> tuple[int, int]:
        return 0, ord(self.request_id)

    def waited_ps(self, now_ps: int) -> int:
        return self.queued_ps + (0 if self.block_count else now_ps - self.since_ps)


def waits(name: str, prompt_tokens: int, **more: Any) -> Seen:
    """In the queue, new."""
    return Seen(name, prompt_tokens, **_told(more))


def decodes(name: str, context_tokens: int, generated_tokens: int = 1, **more: Any) -> Seen:
    """In the batch, with so much in its cache; its newest token is not yet."""
    held = CLEAR.blocks(context_tokens)
    told = _told({"block_count": held, **more})
    return Seen(name, context_tokens + 1, context_tokens, generated_tokens=generated_tokens, decoding=True, **told)


def prefills(name: str, prompt_tokens: int, cached_tokens: int, **more: Any) -> Seen:
    """In the batch, its prompt begun."""
    told = _told({"block_count": CLEAR.blocks(cached_tokens), **more})
    return Seen(name, prompt_tokens, cached_tokens, **told)


def plan(
    batcher: str,
    running: Sequence[Seen] = (),
    waiting: Sequence[Seen] = (),
    now_ms: int = 0,
    free_blocks: int | None = None,
    **flags: Any,
) -> BatchPlan:
    """What the batcher plans for `CLEAR`; all blocks that nobody holds are free unless said otherwise."""
    free = CLEAR.block_count - sum(one.block_count for one in running) if free_blocks is None else free_blocks
    view = BatchView(running, waiting, free, CLEAR, EngineFlags(**flags), now_ms * MS_PS)
    return make_batcher(batcher).plan(view)


def chunks(planned: BatchPlan) -> dict[str, int]:
    """The chunks of a plan by name."""
    return {chunk.request_id: chunk.tokens for chunk in planned.chunks}


def _told(more: dict[str, Any]) -> dict[str, Any]:
    """Hints may be given as plain arguments, and times in milliseconds."""
    names = ("predicted_tokens", "predicted_tokens_p90", "ttft_slo_us", "tpot_slo_us", "session_tokens")
    hints = {name: more.pop(name) for name in names if name in more}
    for name in ("arrived", "queued", "due", "since"):
        if f"{name}_ms" in more:
            more[f"{name}_ps"] = more.pop(f"{name}_ms") * MS_PS
    return {**more, "hints": Hints(**hints)}
