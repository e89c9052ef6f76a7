"""What an orderer sees and says."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from forebay.core.values import InferenceRequest

Column: TypeAlias = npt.NDArray[np.int64]
Keys: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class OrderView:
    """The held requests of one model, one entry each in no particular order; the arrays are read-only.

    `deadline_us` is until when a request may be held, `due_us` when its first token is due, of deferred work its whole
    answer. `predicted_tokens` are medians of the answer, `p90_tokens` upper bounds, `tokens_max` its limit (0: none).
    """

    now_us: int
    arrived_us: Column
    deadline_us: Column
    predicted_tokens: Column
    prompt_tokens: Column
    slo_class: Column
    due_us: Column
    p90_tokens: Column
    tokens_max: Column
    requests: Sequence[InferenceRequest]


class Orderer(Protocol):
    """Says who is next."""

    def rank(self, view: OrderView) -> Keys:
        """One key a held request: the smallest goes first, and of equal keys the earliest arrival."""
        ...
