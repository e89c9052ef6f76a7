"""What a predictor is asked, answers and learns from; `wire/convert_predictor.py` is where these become messages."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

from forebay.core.values import InferenceRequest, LengthQuantiles

QUANTILE_LEVELS = (0.10, 0.50, 0.90, 0.97)
"""The levels of every predicted distribution, in the order of its fields."""

TOKENS_MAX = 1_048_576
"""The longest answer that the contract can tell."""

TURNS_MAX = 1_048_576
"""The latest turn of a conversation that the contract can tell."""


class ModelKind(IntEnum):
    """What a predictor model answers; numbers are those of the contract."""

    LENGTH = 1
    WORKLOAD = 2


@dataclass(frozen=True, slots=True)
class LengthOutcome:
    """What really happened to one request; a censored answer was cut, so it is at least this long by nature.

    `predicted_by` is who promised `predicted`; empty means whoever is active.
    """

    query: InferenceRequest
    generated_tokens: int
    censored: bool = False
    predicted: LengthQuantiles | None = None
    predicted_by: str = ""


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Predicted distribution of one quantity; quantiles never decrease."""

    p10: float
    p50: float
    p90: float
    p97: float

    def __post_init__(self) -> None:
        if not self.p10 <= self.p50 <= self.p90 <= self.p97:
            raise ValueError(f"quantiles must not decrease: {self}")


@dataclass(frozen=True, slots=True)
class WorkloadForecast:
    """The traffic that the window which starts at `start_us` is expected to bring."""

    start_us: int
    requests: Quantiles
    prompt_tokens: Quantiles
    response_tokens: Quantiles


@dataclass(frozen=True, slots=True)
class ShadowTrial:
    """How a shadow fares beside the active model: mean pinball losses, and the paired gain over its standard error."""

    outcome_count: int
    active_loss_tokens: float
    shadow_loss_tokens: float
    z_score: float


@dataclass(frozen=True, slots=True)
class PredictorAccuracy:
    """How well the newest predictions of one predictor went for one served model and application.

    `coverage_p90` and `reserve_ratio` are None where no answer told. `drift_since_us` is 0 without drift.
    """

    predictor: str
    model: str
    application: str
    outcome_count: int
    mae_tokens: float
    coverage_p90: float | None
    reserve_ratio: float | None
    is_drifting: bool
    since_us: int
    drift_since_us: int = 0


@dataclass(frozen=True, slots=True)
class PredictorModel:
    """One model that a predictor can answer with; texts are empty where it has no file or no session.

    A `shadow` is measured beside the active one by its `trial`; `previous` is what a roll-back returns to.
    """

    name: str
    kind: ModelKind
    version: str = ""
    active: bool = False
    digest_sha256: str = ""
    execution_provider: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    shadow: bool = False
    previous: bool = False
    trial: ShadowTrial | None = None


def system_digest(text: str) -> str:
    """The name of a system prompt: the first 8 bytes of its SHA-256 in hex; empty where there is none."""
    return hashlib.sha256(text.encode()).hexdigest()[:16] if text else ""


def mean_of(values: Sequence[float]) -> float:
    """Mean of the distribution whose quantiles at `QUANTILE_LEVELS` are `values`.

    The quantile curve is linear between the levels, starts at half the first quantile and goes on past the last one as
    steeply as it reached it.
    """
    p10, p50, p90, p97 = values
    top = p97 + (p97 - p90) * 3 / 7
    parts = (0.10 * (0.5 * p10 + p10), 0.40 * (p10 + p50), 0.40 * (p50 + p90), 0.07 * (p90 + p97), 0.03 * (p97 + top))
    return sum(parts) / 2


def remaining_tokens(values: Sequence[float], generated: float) -> float:
    """How much longer an answer goes on that already has `generated` tokens: E[L | L > t] - t, at least 1.

    Exact for the quantile curve of `mean_of`. Beyond p97 that curve is a straight tail, so what is expected in all,
    t + remaining, never falls, and from its end on an answer that still runs is expected to go on for one more token.
    """
    ends = _ends(values)
    share = tokens = 0.0
    for weight, low, high in zip((0.10, 0.40, 0.40, 0.07, 0.03), ends, ends[1:], strict=False):
        if high > generated:
            start = max(low, generated)
            part = weight if start == low else weight * (high - start) / (high - low)
            share += part
            tokens += part * (0.5 * (start + high) - generated)
    return max(1.0, tokens / share) if share else 1.0


def remaining_median(values: Sequence[float], generated: float) -> float:
    """How much longer half of the answers go on at most that already have `generated` tokens, at least 1.

    By the quantile curve of `mean_of`: the answers that are shorter are left out.
    """
    ends = _ends(values)
    wanted = 0.5 + 0.5 * float(np.interp(generated, ends, _LEVELS))
    return max(1.0, float(np.interp(wanted, _LEVELS, ends)) - generated)


def _ends(values: Sequence[float]) -> tuple[float, ...]:
    """Where the straight pieces of the quantile curve begin and end."""
    p10, p50, p90, p97 = values
    return 0.5 * p10, p10, p50, p90, p97, p97 + (p97 - p90) * 3 / 7


_LEVELS = (0.0, 0.10, 0.50, 0.90, 0.97, 1.0)
