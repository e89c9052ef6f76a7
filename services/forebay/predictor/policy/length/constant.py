"""Every answer is expected to be as long as every other: the floor that any other predictor must beat."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from forebay.core.prediction import QUANTILE_LEVELS, LengthOutcome, mean_of
from forebay.core.values import InferenceRequest, LengthPrediction, LengthQuantiles


@dataclass(frozen=True, slots=True)
class Constant:
    """Predicts `tokens` (p10, p50, p90, p97) for every prompt; it learns nothing.

    The default is the output of the conversation trace of Splitwise (ISCA'24).
    """

    tokens: tuple[int, ...] = (54, 129, 424, 509)
    _quantiles: LengthQuantiles = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if len(self.tokens) != len(QUANTILE_LEVELS):
            raise ValueError(f"tokens must have {len(QUANTILE_LEVELS)} entries")
        object.__setattr__(self, "_quantiles", LengthQuantiles(*self.tokens))

    def predict(self, queries: Sequence[InferenceRequest]) -> tuple[LengthPrediction, ...]:
        """The same quantiles for each query, at most the query's limit."""
        return tuple(self._one(query) for query in queries)

    def observe(self, outcomes: Sequence[LengthOutcome]) -> None:
        """Learns nothing: the lengths are fixed."""

    def _one(self, query: InferenceRequest) -> LengthPrediction:
        quantiles = self._quantiles.capped(query.tokens_max)
        mean = mean_of((quantiles.p10, quantiles.p50, quantiles.p90, quantiles.p97))
        return LengthPrediction(quantiles, mean, mean, "constant")
