"""The question that an engine asks before every iteration: who runs, who leaves, who enters."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from forebay.core.instance.profile import EngineProfile
from forebay.core.instance.sequence import EngineFlags


class SequenceView(Protocol):
    """One request as a batcher sees it; read only, and without the hidden length of its answer."""

    @property
    def request_id(self) -> str:
        """Its name."""
        ...

    @property
    def rank(self) -> tuple[int, int]:
        """Its place among all requests of the instance, the smallest first: priority and number of the arrival."""
        ...

    @property
    def cached_tokens(self) -> int:
        """Tokens in the KV cache."""
        ...

    @property
    def hit_tokens(self) -> int:
        """Tokens that need no computing at admission: a prefix hit, or what was swapped out."""
        ...

    @property
    def target_tokens(self) -> int:
        """Tokens that the cache must hold before the next one is sampled."""
        ...

    @property
    def tokens_max(self) -> int:
        """Prompt and longest possible answer."""
        ...

    @property
    def ended(self) -> bool:
        """Whether nobody needs it any more, though its row of a static batch remains."""
        ...

    @property
    def decoding(self) -> bool:
        """Whether its prefill is done; true in the queue after a swap."""
        ...


@dataclass(frozen=True, slots=True)
class BatchView:
    """An instance between two iterations: `running` in admission order, `waiting` by rank."""

    running: Sequence[SequenceView]
    waiting: Sequence[SequenceView]
    free_blocks: int
    profile: EngineProfile
    flags: EngineFlags


@dataclass(frozen=True, slots=True)
class ChunkPlan:
    """`tokens` prompt tokens of one request are computed in the iteration."""

    request_id: str
    tokens: int


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """One iteration: who decodes a token, which chunks are computed, who was evicted and who enters.

    `preempted` lists victims in the order of eviction (each returns to its rank in the queue), `admitted` the
    heads of the queue in order. In static batches `padded_tokens` is the length that the prompts of the admitted are
    padded to (0: as they are), `rows_stay` keeps all who run until nobody's answer is unfinished, and `answers_wait`
    returns the answers only then. `halved`: a given batch lacks memory, so it is split and there is no iteration; the
    next plan is asked for at once.
    """

    decodes: tuple[str, ...]
    chunks: tuple[ChunkPlan, ...]
    preempted: tuple[str, ...] = ()
    admitted: tuple[str, ...] = ()
    padded_tokens: int = 0
    rows_stay: bool = False
    answers_wait: bool = False
    halved: bool = False


class Batcher(Protocol):
    """Plans one iteration: a pure function of the view, within its blocks, seats and budget."""

    def plan(self, view: BatchView) -> BatchPlan:
        """The next iteration of the engine that looks like `view`."""
        ...
