"""What an orderer sees and says."""

from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

Column: TypeAlias = npt.NDArray[np.int64]
Keys: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class OrderView:
    """The held requests of one model, one entry each in no particular order; the arrays are read-only."""

    now_us: int
    arrived_us: Column
    deadline_us: Column
    predicted_tokens: Column
    prompt_tokens: Column
    slo_class: Column


class Orderer(Protocol):
    """Says who is next."""

    def rank(self, view: OrderView) -> Keys:
        """One key a held request: the smallest goes first, and of equal keys the earliest arrival."""
        ...
