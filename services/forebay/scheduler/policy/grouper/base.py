"""What a grouper sees and says."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

Column: TypeAlias = npt.NDArray[np.int64]
Seconds: TypeAlias = npt.NDArray[np.float64]
Mask: TypeAlias = npt.NDArray[np.bool_]

NEW_BATCH = -1
"""The request opens a batch of its own."""
SIZE_UNKNOWN = 8
"""Requests of a batch of fixed size where nobody tells how long a prompt with its answer may be."""


@dataclass(frozen=True, slots=True)
class Room:
    """What one instance of the model holds: tokens of KV cache, of the longest context (0: unknown), and requests."""

    kv_tokens_max: int
    context_tokens_max: int
    request_count_max: int


class Batches(NamedTuple):
    """The batches of one model that wait, the one that was opened first in front; the arrays are read-only.

    `prompt_max` and `answer_max` are the longest prompt L(B) and predicted answer G(B) among `request_count` requests.
    With w(p) = G'(p)*L(p) + G'(p)*(G'(p)-1)/2, the reads of the cache that serve request p itself, `reads_min` and
    `reads_sum` are its smallest and its sum. The first request came at `oldest_us`, on average they did at `mean_us`.
    The request may not join where `closed`.
    """

    request_count: Column
    prompt_max: Column
    answer_max: Column
    reads_min: Column
    reads_sum: Column
    oldest_us: Column
    mean_us: Column
    closed: Mask


class JoinView(NamedTuple):
    """One request that arrives, with its predicted answer in tokens, and the batches that it might join."""

    prompt_tokens: int
    answer_tokens: int
    batches: Batches
    room: Room


class PickView(NamedTuple):
    """The batches that wait, at least one, for an instance that is free; `serving_s` is how long each would take."""

    now_us: int
    batches: Batches
    serving_s: Seconds


class Grouper(Protocol):
    """Says how requests become static batches and which batch is next."""

    def join(self, view: JoinView) -> int:
        """The batch that the request joins, or NEW_BATCH; one test a batch, on what its columns say of it."""
        ...

    def pick(self, view: PickView) -> int:
        """The batch that runs on the free instance."""
        ...


def reads_of(prompt_tokens: int, answer_tokens: int) -> int:
    """w(p): how often a token of the cache is read to serve a request by itself."""
    return answer_tokens * prompt_tokens + answer_tokens * (answer_tokens - 1) // 2
