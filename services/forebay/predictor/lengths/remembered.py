"""A trained model that is asked once for what comes twice: each query when it arrives, and again with its outcome."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from forebay.core.values import InferenceRequest

Floats = npt.NDArray[np.float64]

REMEMBERED_COUNT = 4_096
"""Queries whose answers are kept; those of more are asked for again."""


class Model(Protocol):
    """What is remembered."""

    def infer(self, queries: Sequence[InferenceRequest]) -> Floats:
        """One row a query."""
        ...


@dataclass(slots=True)
class Remembered:
    """Gives what `model` says, which must depend on each query alone; failures are not kept."""

    model: Model
    count_max: int = REMEMBERED_COUNT
    _known: OrderedDict[InferenceRequest, Floats] = field(default_factory=OrderedDict, init=False, repr=False)

    def infer(self, queries: Sequence[InferenceRequest]) -> Floats:
        """One row a query, in order; only those that are not known are asked for."""
        known = {query: self._known[query] for query in queries if query in self._known}
        fresh = [query for query in dict.fromkeys(queries) if query not in known]
        if not known and len(fresh) == len(queries):
            return self._asked(fresh)
        if fresh:
            known.update(zip(fresh, self._asked(fresh), strict=True))
        return np.array([known[query] for query in queries])

    def _asked(self, queries: Sequence[InferenceRequest]) -> Floats:
        rows = self.model.infer(queries)
        self._known.update(zip(queries, rows, strict=True))
        while len(self._known) > self.count_max:
            self._known.popitem(last=False)
        return rows
