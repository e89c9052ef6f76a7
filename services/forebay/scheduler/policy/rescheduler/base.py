"""What a rescheduler sees and says."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

Tokens = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


class Running(NamedTuple):
    """A request that has given a token, and how many tokens its prompt and answer have by now."""

    lease_id: str
    context_tokens: int


class RescheduleView(NamedTuple):
    """The instances of one model, sorted by id; the arrays are read-only.

    Of each: whether requests may be placed there, whether it drains, the tokens that its cache has room for, those that
    its running requests hold by what was last reported, and the prompt of the first that waits for its first token (0:
    none waits). `running` are its requests in the order in which they came.
    """

    may_take: Mask
    is_leaving: Mask
    kv_tokens_max: Tokens
    held_tokens: Tokens
    waiting_tokens: Tokens
    running: Sequence[Sequence[Running]]


class Move(NamedTuple):
    """A running request that should go on at another instance, by its index."""

    lease_id: str
    destination: int


class Rescheduler(Protocol):
    """Says which running requests should move."""

    @property
    def period_s(self) -> float:
        """How long after it was asked it is asked again; 0: never."""
        ...

    def moves(self, view: RescheduleView) -> Sequence[Move]:
        """The moves to begin now; equal views give equal moves. One that is not possible is left out without a word."""
        ...
