"""Answers are a fixed multiple of the prompt: llm-d's estimate of output tokens."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from forebay.core.prediction import TOKENS_MAX, LengthOutcome
from forebay.core.values import InferenceRequest, LengthPrediction, LengthQuantiles


@dataclass(frozen=True, slots=True)
class InputRatio:
    """Predicts `ratio` × prompt tokens as all quantiles, since the rule gives one number; it learns nothing.

    Source: llm-d, `inflightload/token_estimator.go`, with its default of 1.5.
    """

    ratio: float = 1.5

    def __post_init__(self) -> None:
        if not 0 < self.ratio <= 1000:
            raise ValueError("ratio must be above 0 and at most 1000")

    def predict(self, queries: Sequence[InferenceRequest]) -> tuple[LengthPrediction, ...]:
        """The prompt's tokens times the ratio, rounded up, at most the query's limit."""
        return tuple(self._one(query) for query in queries)

    def observe(self, outcomes: Sequence[LengthOutcome]) -> None:
        """Learns nothing: the ratio is fixed."""

    def _one(self, query: InferenceRequest) -> LengthPrediction:
        tokens = min(TOKENS_MAX, math.ceil(self.ratio * query.prompt_tokens))
        capped = LengthQuantiles(tokens, tokens, tokens, tokens).capped(query.tokens_max)
        return LengthPrediction(capped, float(capped.p50), float(capped.p50), "input_ratio")
