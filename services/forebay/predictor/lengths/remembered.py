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
        # To hash a query takes longer than all else here, so each that is known is looked up once.
        found = [self._known.get(query) for query in queries]
        fresh = list(dict.fromkeys(query for query, row in zip(queries, found, strict=True) if row is None))
        if len(fresh) == len(queries):
            return self._asked(fresh)
        asked = dict(zip(fresh, self._asked(fresh), strict=True)) if fresh else {}
        return np.array([asked[query] if row is None else row for query, row in zip(queries, found, strict=True)])

    def _asked(self, queries: Sequence[InferenceRequest]) -> Floats:
        rows = self.model.infer(queries)
        self._known.update(zip(queries, rows, strict=True))
        while len(self._known) > self.count_max:
            self._known.popitem(last=False)
        return rows
