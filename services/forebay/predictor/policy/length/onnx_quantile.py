"""A trained model reads the prompt; what it gets wrong about each served model is corrected by outcomes."""

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from forebay.core.prediction import QUANTILE_LEVELS, TOKENS_MAX, LengthOutcome, mean_of
from forebay.core.values import InferenceRequest, LengthPrediction, LengthQuantiles
from forebay.predictor.correction import Seen, Window
from forebay.predictor.policy.length.base import PredictionFailed

KEYS_MAX = 1_000

Key: TypeAlias = tuple[str, ...]
ALL: Key = ()
Floats = npt.NDArray[np.float64]


class TrainedModel(Protocol):
    """A trained model that is ready to run."""

    def infer(self, queries: Sequence[InferenceRequest]) -> Floats:
        """Tokens at `QUANTILE_LEVELS` (columns) for each query. Raises PredictionFailed."""
        ...


@dataclass(slots=True)
class OnnxQuantile:
    """Quantiles of a trained model, corrected by the last `window_count` outcomes of the application or model.

    The narrowest of application, model and all that has `count_min` outcomes corrects. An answer that was cut counts as
    long as it would be predicted now, if that is longer than its cut. Predictions carry `name`.
    """

    model: TrainedModel
    name: str = "onnx_quantile"
    window_count: int = 500
    count_min: int = 32
    _windows: OrderedDict[Key, Window] = field(default_factory=OrderedDict, init=False, repr=False)

    def __post_init__(self) -> None:
        if not 1 <= self.count_min <= self.window_count <= 100_000:
            raise ValueError("1 <= count_min <= window_count <= 100000 must hold")

    def predict(self, queries: Sequence[InferenceRequest]) -> tuple[LengthPrediction, ...]:
        """What the model says of each query, corrected. Raises PredictionFailed."""
        pairs = zip(queries, self._infer(queries), strict=True)
        logs = np.array([self._corrected(query, found) for query, found in pairs]).reshape(-1, len(QUANTILE_LEVELS))
        caps = np.array([[query.tokens_max or TOKENS_MAX] for query in queries]).reshape(-1, 1)
        return tuple(_prediction(row, self.name) for row in np.expm1(np.sort(logs, axis=1)).clip(0.0, caps).tolist())

    def observe(self, outcomes: Sequence[LengthOutcome]) -> None:
        """Takes each outcome into the windows of its application, its model and all. Raises PredictionFailed."""
        for outcome, logs in zip(outcomes, self._infer([outcome.query for outcome in outcomes]), strict=True):
            answer = math.log1p(outcome.generated_tokens)
            if outcome.censored:
                answer = max(answer, float(self._corrected(outcome.query, logs)[1]))
            seen = Seen(logs, _prompt(outcome.query), answer)
            for key in _keys(outcome.query):
                self._window(key).add(seen)

    def _infer(self, queries: Sequence[InferenceRequest]) -> Floats:
        tokens = self.model.infer(queries)
        if not np.isfinite(tokens).all():
            raise PredictionFailed("the model gave a number that is not finite")
        return np.log1p(np.maximum(np.sort(tokens, axis=1), 0.0))

    def _corrected(self, query: InferenceRequest, logs: Floats) -> Floats:
        for key in _keys(query):
            window = self._windows.get(key)
            if window is not None and (len(window) >= self.count_min or key == ALL):
                return window.correction.apply(logs, _prompt(query))
        return logs

    def _window(self, key: Key) -> Window:
        if key not in self._windows:
            self._windows[key] = Window(self.window_count, self.count_min)
            if len(self._windows) > KEYS_MAX:
                self._windows.popitem(last=False)
        self._windows.move_to_end(key)
        return self._windows[key]


def _keys(query: InferenceRequest) -> tuple[Key, ...]:
    """From narrow to wide."""
    model = (query.model,)
    return ((query.model, query.application), model, ALL) if query.application else (model, ALL)


def _prompt(query: InferenceRequest) -> float:
    return math.log1p(query.prompt_tokens)


def _prediction(tokens: Sequence[float], name: str) -> LengthPrediction:
    p10, p50, p90, p97 = tokens
    mean = mean_of(tokens)
    return LengthPrediction(LengthQuantiles(round(p10), round(p50), round(p90), round(p97)), mean, mean, name)
