"""Lengths as logarithms ln(1 + tokens), in which trained models are corrected, and back."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from forebay.core.prediction import TOKENS_MAX, mean_of
from forebay.core.values import InferenceRequest, LengthPrediction, LengthQuantiles

Floats = npt.NDArray[np.float64]


def logs_of(tokens: Floats) -> Floats:
    """What a model gave [query, level], in order; finite numbers."""
    found: Floats = np.log1p(np.maximum(np.sort(tokens, axis=1), 0.0))
    return found


def prompt_log(query: InferenceRequest) -> float:
    """The prompt's length."""
    return math.log1p(query.prompt_tokens)


def predictions_of(queries: Sequence[InferenceRequest], logs: Floats, name: str) -> tuple[LengthPrediction, ...]:
    """Predictions in the name of a predictor, none above its query's limit."""
    caps = np.array([[query.tokens_max or TOKENS_MAX] for query in queries]).reshape(-1, 1)
    return tuple(_prediction(row, name) for row in np.expm1(np.sort(logs, axis=1)).clip(0.0, caps).tolist())


def _prediction(tokens: Sequence[float], name: str) -> LengthPrediction:
    p10, p50, p90, p97 = tokens
    mean = mean_of(tokens)
    return LengthPrediction(LengthQuantiles(round(p10), round(p50), round(p90), round(p97)), mean, mean, name)
