"""The question that a length predictor answers: how many tokens will each of these prompts generate."""

from collections.abc import Iterator, Sequence
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from forebay.core.prediction import LengthOutcome
from forebay.core.values import InferenceRequest, LengthPrediction

Key: TypeAlias = tuple[str, ...]
"""What an outcome is kept under, such as served model and application."""


class PredictionFailed(Exception):
    """The predictor cannot answer now, such as when its session breaks; the engine asks its fallback instead."""


class LengthPredictor(Protocol):
    """Predicts a distribution for each prompt; a batch gives what its queries give one by one."""

    def predict(self, queries: Sequence[InferenceRequest]) -> tuple[LengthPrediction, ...]:
        """One prediction a query, in order, none above its `tokens_max`. Raises PredictionFailed."""
        ...

    def observe(self, outcomes: Sequence[LengthOutcome]) -> None:
        """Learns from what happened. Raises PredictionFailed."""
        ...


@runtime_checkable
class Lasting(Protocol):
    """A predictor whose learning outlives a restart; another one begins anew."""

    def saved(self) -> Iterator[tuple[Key, npt.NDArray[np.float64]]]:
        """What it has learnt of each key: finite numbers, a row an outcome, never text."""
        ...

    def restore(self, key: Key, rows: npt.NDArray[np.float64]) -> None:
        """Takes what was saved of a key. Raises ValueError for what was not."""
        ...


@runtime_checkable
class Relearning(Protocol):
    """A predictor that learns anew now and then from what it keeps of outcomes, in a fraction of a second."""

    @property
    def relearn_s(self) -> float:
        """The least time between two times."""
        ...

    def relearn(self) -> None:
        """Learns anew; what it said of the same query before may be another answer afterwards."""
        ...
