"""A real predictor's answers, given before the run and kept in the workload, so that runs take no inference."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from forebay.core.prediction import TOKENS_MAX, LengthOutcome, mean_of
from forebay.core.values import InferenceRequest, LengthPrediction, LengthQuantiles
from forebay.predictor.policy.length import PredictionFailed
from forebay.simulator.oracles.length import row_of
from forebay.simulator.workload.base import PREDICTED, Workload

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class RecordedLength:
    """Says what the workload's `predicted_*` columns say of each row, whatever happens in the run.

    To see what worse predictions do, all quantiles of a row are multiplied: by `bias`, and by (median / truth) to the
    power of `error` - 1, so that 2 doubles the error of the logarithm of each median and 0 removes it. Both at 1 use
    nothing but the columns. Rows without prediction are left to the engine's fallback.
    """

    workload: Workload
    bias: float = 1.0
    error: float = 1.0
    _quantiles: Floats = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not 0.01 <= self.bias <= 100:
            raise ValueError("bias must be 0.01 to 100")
        if not 0 <= self.error <= 10:
            raise ValueError("error must be 0 to 10")
        columns = [getattr(self.workload, name) for name in PREDICTED]
        quantiles = np.stack(columns, axis=1).astype(np.float64)
        if self.error != 1:
            ratio = np.maximum(quantiles[:, 1], 1.0) / self.workload.output_tokens
            quantiles = np.where(quantiles > 0, quantiles * (ratio ** (self.error - 1))[:, None], quantiles)
        worse = np.where(quantiles > 0, np.clip(quantiles * self.bias, 1, TOKENS_MAX), quantiles)
        object.__setattr__(self, "_quantiles", worse)

    def predict(self, queries: Sequence[InferenceRequest]) -> tuple[LengthPrediction, ...]:
        """The row's own quantiles, cut at the query's limit. Raises PredictionFailed where a row has none."""
        return tuple(self._one(query) for query in queries)

    def observe(self, outcomes: Sequence[LengthOutcome]) -> None:
        """Learns nothing here; the engine goes on learning how its bounds hold."""

    def _one(self, query: InferenceRequest) -> LengthPrediction:
        tokens = self._quantiles[row_of(query)].tolist()
        if tokens[0] < 1:
            raise PredictionFailed(f"nobody predicted row {row_of(query)} beforehand")
        quantiles = LengthQuantiles(*map(round, tokens)).capped(query.tokens_max)
        mean = min(mean_of(tokens), float(query.tokens_max or TOKENS_MAX))
        return LengthPrediction(quantiles, float(quantiles.p50), mean, "recorded")
