"""The question that a length predictor answers: how many tokens will each of these prompts generate."""

from collections.abc import Sequence
from typing import Protocol

from forebay.core.prediction import LengthOutcome
from forebay.core.values import InferenceRequest, LengthPrediction


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
