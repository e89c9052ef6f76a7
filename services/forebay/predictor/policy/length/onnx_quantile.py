"""A trained model reads the prompt; what it gets wrong about each served model is corrected by outcomes."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from forebay.core.prediction import QUANTILE_LEVELS, LengthOutcome
from forebay.core.values import InferenceRequest, LengthPrediction
from forebay.predictor.lengths.correction import Seen
from forebay.predictor.lengths.logs import logs_of, predictions_of, prompt_log
from forebay.predictor.lengths.nearest import Corrections
from forebay.predictor.policy.length.base import Key, PredictionFailed

Floats = npt.NDArray[np.float64]


class TrainedModel(Protocol):
    """A trained model that is ready to run."""

    def infer(self, queries: Sequence[InferenceRequest]) -> Floats:
        """Tokens at `QUANTILE_LEVELS` (columns) for each query. Raises PredictionFailed."""
        ...


@dataclass(slots=True)
class OnnxQuantile:
    """Quantiles of a trained model, corrected by the last `window_count` outcomes of the application or model.

    The window of the application under its model corrects, or that of the model where there is no application; with
    fewer than `count_min` outcomes it starts from the nearest one that has them (`nearest.Corrections`). An answer that
    was cut counts as long as it would be predicted now, if that is longer than its cut. Predictions carry `name`.
    """

    model: TrainedModel
    name: str = "onnx_quantile"
    window_count: int = 500
    count_min: int = 32
    _corrections: Corrections = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not 1 <= self.count_min <= self.window_count <= 100_000:
            raise ValueError("1 <= count_min <= window_count <= 100000 must hold")
        self._corrections = Corrections(self.window_count, self.count_min)

    def predict(self, queries: Sequence[InferenceRequest]) -> tuple[LengthPrediction, ...]:
        """What the model says of each query, corrected. Raises PredictionFailed."""
        pairs = zip(queries, self._infer(queries), strict=True)
        logs = np.array([self._corrected(query, found) for query, found in pairs]).reshape(-1, len(QUANTILE_LEVELS))
        return predictions_of(queries, logs, self.name)

    def observe(self, outcomes: Sequence[LengthOutcome]) -> None:
        """Takes each outcome into the windows of its application, its model and all. Raises PredictionFailed."""
        for outcome, logs in zip(outcomes, self._infer([outcome.query for outcome in outcomes]), strict=True):
            answer = math.log1p(outcome.generated_tokens)
            if outcome.censored:
                answer = max(answer, float(self._corrected(outcome.query, logs)[1]))
            self._corrections.add(outcome.query, Seen(logs, prompt_log(outcome.query), answer))

    def saved(self) -> Iterator[tuple[Key, Floats]]:
        """See `Lasting`."""
        return self._corrections.saved()

    def restore(self, key: Key, rows: Floats) -> None:
        """See `Lasting`."""
        self._corrections.restore(key, rows)

    def _infer(self, queries: Sequence[InferenceRequest]) -> Floats:
        tokens = self.model.infer(queries)
        if not np.isfinite(tokens).all():
            raise PredictionFailed("the model gave a number that is not finite")
        return logs_of(tokens)

    def _corrected(self, query: InferenceRequest, logs: Floats) -> Floats:
        return self._corrections.of(query).apply(logs, prompt_log(query))
