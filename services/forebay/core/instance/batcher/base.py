"""The question that an engine asks before every iteration: who runs, who leaves, who enters."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from forebay.core.instance.hints import Hints
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

    @property
    def generated_tokens(self) -> int:
        """Tokens of its answer so far."""
        ...

    @property
    def block_count(self) -> int:
        """Blocks that it holds; 0 in the queue, and nowhere else."""
        ...

    @property
    def arrived_ps(self) -> int:
        """When it came."""
        ...

    @property
    def due_ps(self) -> int:
        """When its first token is due; 0 where nobody promised one."""
        ...

    @property
    def hints(self) -> Hints:
        """What was told about it."""
        ...

    @property
    def mark(self) -> int:
        """What the batcher wrote on it last; 0 at first."""
        ...

    def waited_ps(self, now_ps: int) -> int:
        """How long it was in the queue by now, in all."""
        ...


@dataclass(frozen=True, slots=True)
class BatchView:
    """An instance between two iterations, at `now_ps`: `running` in admission order, `waiting` by rank."""

    running: Sequence[SequenceView]
    waiting: Sequence[SequenceView]
    free_blocks: int
    profile: EngineProfile
    flags: EngineFlags
    now_ps: int = 0


@dataclass(frozen=True, slots=True)
class ChunkPlan:
    """`tokens` prompt tokens of one request are computed in the iteration."""

    request_id: str
    tokens: int


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """One iteration: who decodes a token, which chunks are computed, who was evicted and who enters.

    `preempted` lists victims in the order of eviction (each returns to its rank in the queue), `admitted` the
    heads of the queue in order, or anybody in it where the plan `jumps_queue`. Who runs and is not named keeps its
    cache and computes nothing. `marks` are written on requests, for the batcher to read in the views to come.

    In static batches `padded_tokens` is the length that the prompts of the admitted are padded to (0: as they are),
    `rows_stay` keeps all who run until nobody's answer is unfinished, and `answers_wait` returns the answers only then.
    `halved`: a given batch lacks memory, so it is split and there is no iteration; the next plan is asked for at once.
    """

    decodes: tuple[str, ...]
    chunks: tuple[ChunkPlan, ...]
    preempted: tuple[str, ...] = ()
    admitted: tuple[str, ...] = ()
    padded_tokens: int = 0
    rows_stay: bool = False
    answers_wait: bool = False
    halved: bool = False
    jumps_queue: bool = False
    marks: tuple[tuple[str, int], ...] = ()


class Batcher(Protocol):
    """Plans one iteration: a pure function of the view, within its blocks, seats and budget."""

    def plan(self, view: BatchView) -> BatchPlan:
        """The next iteration of the engine that looks like `view`."""
        ...
