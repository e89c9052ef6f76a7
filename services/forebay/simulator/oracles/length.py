"""Length predictors that know how long every answer becomes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import NormalDist

import numpy as np

from forebay.core.prediction import QUANTILE_LEVELS, TOKENS_MAX, LengthOutcome
from forebay.core.values import InferenceRequest, LengthPrediction, LengthQuantiles
from forebay.simulator.workload.base import Workload


@dataclass(frozen=True, slots=True, eq=False)
class ClairvoyantLength:
    """Predicts the true length as all quantiles. Requests are rows of the workload, called "r" and the row."""

    workload: Workload

    def predict(self, queries: Sequence[InferenceRequest]) -> tuple[LengthPrediction, ...]:
        """The truth, cut at the query's limit."""
        truth = self.workload.output_tokens
        return tuple(_exact(int(truth[row_of(query)]), query.tokens_max) for query in queries)

    def observe(self, outcomes: Sequence[LengthOutcome]) -> None:
        """Learns nothing: there is nothing to learn."""


@dataclass(frozen=True, slots=True, eq=False)
class NoisyLength:
    """Predicts the true length times a lognormal error of `sigma`, as a distribution that knows its own `sigma`.

    Each row has one error, drawn from `seed`, whatever is asked in which order. With m the truth times its error, the
    quantiles are m * exp(sigma * z) with z those of the normal distribution, so that the truth lies below each of them
    as often as its level says. `sigma` 0 is the truth.
    """

    workload: Workload
    sigma: float = 0.5
    seed: int = 0
    _factors: Sequence[float] = field(init=False, repr=False)
    _medians: Sequence[float] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 <= self.sigma <= 5:
            raise ValueError("sigma must be 0 to 5")
        errors = np.random.default_rng(self.seed).standard_normal(len(self.workload))
        medians = np.clip(self.workload.output_tokens * np.exp(self.sigma * errors), 1, TOKENS_MAX)
        object.__setattr__(self, "_medians", medians.tolist())
        object.__setattr__(self, "_factors", [np.exp(self.sigma * NormalDist().inv_cdf(p)) for p in QUANTILE_LEVELS])

    def predict(self, queries: Sequence[InferenceRequest]) -> tuple[LengthPrediction, ...]:
        """The distribution around each row's erroneous length, cut at the query's limit."""
        return tuple(self._one(query) for query in queries)

    def observe(self, outcomes: Sequence[LengthOutcome]) -> None:
        """Learns nothing: its errors stay as they are."""

    def _one(self, query: InferenceRequest) -> LengthPrediction:
        median = self._medians[row_of(query)]
        tokens = (max(1, min(TOKENS_MAX, round(median * factor))) for factor in self._factors)
        quantiles = LengthQuantiles(*tokens).capped(query.tokens_max)
        mean = min(median * float(np.exp(self.sigma**2 / 2)), float(query.tokens_max or TOKENS_MAX))
        return LengthPrediction(quantiles, float(quantiles.p50), mean, "noisy")


def row_of(request: InferenceRequest) -> int:
    """The row that a request of the simulator is; one that comes back is r7.2, r7.3 and so on."""
    return int(request.request_id[1:].partition(".")[0])


def _exact(tokens: int, tokens_max: int) -> LengthPrediction:
    tokens = min(tokens, tokens_max or TOKENS_MAX, TOKENS_MAX)
    return LengthPrediction(
        LengthQuantiles(tokens, tokens, tokens, tokens), float(tokens), float(tokens), "clairvoyant"
    )
