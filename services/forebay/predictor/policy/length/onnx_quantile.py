"""A trained model reads the prompt; what it gets wrong about each served model is corrected as outcomes come in."""

import math
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from forebay.core.prediction import QUANTILE_LEVELS, LengthOutcome, mean_of
from forebay.core.values import InferenceRequest, LengthPrediction, LengthQuantiles
from forebay.predictor.features import extract
from forebay.predictor.policy.length.base import PredictionFailed

TOKENS_MAX = 1_048_576
KEYS_MAX = 1_000
BATCH_COUNT = 64

Floats = npt.NDArray[np.float64]


class Session(Protocol):
    """A trained model that is ready to run."""

    def run(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Tokens at `QUANTILE_LEVELS` (columns) for each row of features. Raises PredictionFailed."""
        ...


@dataclass(slots=True)
class Residuals:
    """The newest ln((actual + 1) / (predicted + 1)) of one key at each level, with their correction once asked for."""

    values: deque[Floats]
    correction: Floats | None = None

    def read(self) -> Floats:
        """The shift at each level under which that share of these outcomes lies (split conformal, MAPS)."""
        if self.correction is None:
            ordered = np.sort(np.array(self.values), axis=0)
            count = len(ordered)
            ranks = [min(count, math.ceil(level * (count + 1))) - 1 for level in QUANTILE_LEVELS]
            self.correction = ordered[ranks, range(len(QUANTILE_LEVELS))]
        return self.correction


@dataclass(slots=True)
class OnnxQuantile:
    """Quantiles of a trained model, shifted in log space by what was seen of the served model and application.

    A key's shift counts by n / (n + `shrink_count`) for the n outcomes in its window of `window_count`: an application
    leans on its model, a model on the trained quantiles. An answer that was cut below its prediction counts as
    predicted.
    """

    session: Session
    window_count: int = 500
    shrink_count: int = 32
    _residuals: OrderedDict[tuple[str, ...], Residuals] = field(default_factory=OrderedDict, init=False, repr=False)

    def __post_init__(self) -> None:
        if not 1 <= self.window_count <= 100_000 or self.shrink_count < 0:
            raise ValueError("window_count must be 1 to 100000 and shrink_count not negative")

    def predict(self, queries: Sequence[InferenceRequest]) -> tuple[LengthPrediction, ...]:
        """One pass of the model for each 64 queries. Raises PredictionFailed."""
        logs = self._infer(queries)
        logs += np.array([self._shift(query) for query in queries]).reshape(logs.shape)
        tokens = np.clip(np.expm1(np.sort(logs, axis=1)), 0, TOKENS_MAX)
        return tuple(_prediction(row, query.tokens_max) for row, query in zip(tokens, queries, strict=True))

    def observe(self, outcomes: Sequence[LengthOutcome]) -> None:
        """Takes each outcome into the windows of its model and application. Raises PredictionFailed."""
        logs = self._infer([outcome.query for outcome in outcomes])
        for outcome, predicted in zip(outcomes, logs, strict=True):
            residual = math.log1p(outcome.generated_tokens) - predicted
            if outcome.censored:
                residual = np.maximum(residual, 0.0)
            for key in _keys(outcome.query):
                self._add(key, residual)

    def _infer(self, queries: Sequence[InferenceRequest]) -> Floats:
        parts = [
            self.session.run(extract(queries[start : start + BATCH_COUNT]))
            for start in range(0, len(queries), BATCH_COUNT)
        ]
        tokens = np.concatenate(parts).astype(np.float64) if parts else np.empty((0, len(QUANTILE_LEVELS)))
        if not np.isfinite(tokens).all():
            raise PredictionFailed("the model gave a number that is not finite")
        return np.log1p(np.maximum(tokens, 0.0))

    def _shift(self, query: InferenceRequest) -> Floats:
        shift = np.zeros(len(QUANTILE_LEVELS))
        for key in _keys(query):
            residuals = self._residuals.get(key)
            if residuals is not None:
                count = len(residuals.values)
                shift = shift + (residuals.read() - shift) * (count / (count + self.shrink_count))
        return shift

    def _add(self, key: tuple[str, ...], residual: Floats) -> None:
        residuals = self._residuals.get(key)
        if residuals is None:
            residuals = self._residuals[key] = Residuals(deque(maxlen=self.window_count))
            if len(self._residuals) > KEYS_MAX:
                self._residuals.popitem(last=False)
        self._residuals.move_to_end(key)
        residuals.values.append(residual)
        residuals.correction = None


def _keys(query: InferenceRequest) -> tuple[tuple[str, ...], ...]:
    return ((query.model,), (query.model, query.application)) if query.application else ((query.model,),)


def _prediction(tokens: Floats, tokens_max: int) -> LengthPrediction:
    if tokens_max:
        tokens = np.minimum(tokens, tokens_max)
    p10, p50, p90, p97 = (float(value) for value in tokens)
    mean = mean_of((p10, p50, p90, p97))
    return LengthPrediction(
        LengthQuantiles(round(p10), round(p50), round(p90), round(p97)), mean, mean, "onnx_quantile"
    )
