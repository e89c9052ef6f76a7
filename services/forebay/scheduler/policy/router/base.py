"""What a router sees and says."""

from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from forebay.core.values import LengthQuantiles, SloClass

Scores: TypeAlias = npt.NDArray[Any]
Mask: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class RouteView:
    """One request and the instances of its model, sorted by id; at least one is eligible; the arrays are read-only.

    `turn_index` is where a rotation goes on: the instance after the one that the model's last request got.
    """

    instance_ids: tuple[str, ...]
    in_flight_count: npt.NDArray[np.int32]
    predicted_tokens: npt.NDArray[np.int64]
    concurrency_cap: npt.NDArray[np.int32]
    eligible: Mask
    turn_index: int
    prompt_tokens: int
    predicted_length: LengthQuantiles
    slo_class: SloClass


@dataclass(frozen=True, slots=True)
class Route:
    """The winner with the scores of all: the lowest eligible score wins, and the smallest id wins a tie.

    `score_input` names the one input that the score is, or is empty for a mixture; `drawn` are the only indices that
    were compared, where a router compares some.
    """

    index: int
    scores: Scores
    score_input: str = ""
    drawn: tuple[int, ...] | None = None


class Router(Protocol):
    """Says which instance a request goes to."""

    def route(self, view: RouteView) -> Route:
        """The choice among the eligible instances; equal views give equal routes, given equal draws."""
        ...


def lowest(scores: Scores, eligible: Mask) -> int:
    """Index of the lowest eligible score; the first, hence the smallest id, of equal ones."""
    return int(np.where(eligible, scores, np.inf).argmin())
