"""The records of what was decided, kept for a while and cheap until somebody asks."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from forebay.core.scheduling import Verdict
from forebay.core.values import LengthQuantiles, SloClass
from forebay.scheduler.policy.router.base import Route, RouteView


@dataclass(frozen=True, slots=True)
class Sight:
    """The instances of a model as they were seen for one request."""

    view: RouteView
    blocked: tuple[str, ...]
    contexts: npt.NDArray[np.int64]
    excluded: frozenset[str]
    context_tokens: int


@dataclass(frozen=True, slots=True)
class Record:
    """Everything that one decision rests on, without the prompt; rendered by `explain`."""

    decision_id: str
    request_id: str
    model: str
    decided_us: int
    verdict: Verdict
    prompt_tokens: int
    tokens_max: int
    slo_class: SloClass
    held_us: int
    held_count: int
    lease_count: int
    predicted: LengthQuantiles
    predicted_by: str
    sight: Sight | None = None
    route: Route | None = None
    text: str = ""


class Records:
    """The newest records, bounded in number and in the bytes of their arrays; the oldest go first."""

    def __init__(self, count_max: int, bytes_max: int) -> None:
        self._count_max = count_max
        self._bytes_max = bytes_max
        self._bytes = 0
        self._records: OrderedDict[str, Record] = OrderedDict()

    def __len__(self) -> int:
        return len(self._records)

    def get(self, decision_id: str) -> Record | None:
        """The record, if it is still kept."""
        return self._records.get(decision_id)

    def add(self, record: Record) -> None:
        """Keeps a record."""
        self._records[record.decision_id] = record
        self._bytes += _array_bytes(record)
        while len(self._records) > self._count_max or (self._bytes > self._bytes_max and len(self._records) > 1):
            _, oldest = self._records.popitem(last=False)
            self._bytes -= _array_bytes(oldest)


def _array_bytes(record: Record) -> int:
    if record.sight is None:
        return 0
    view, route = record.sight.view, record.route
    arrays: list[npt.NDArray[Any]] = [view.in_flight_count, view.predicted_tokens, view.eligible]
    if route is not None and not any(route.scores is array for array in arrays):
        arrays.append(route.scores)
    return sum(array.nbytes for array in arrays)
