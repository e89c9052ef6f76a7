"""How good a forecaster would have been on a series: walked through as the service goes, with nothing from later."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from forebay.core.prediction import QUANTILE_LEVELS
from forebay.predictor.policy.forecaster import Forecaster, ForecastFailed, LastValue
from forebay.predictor.traffic.intervals import MEDIAN
from forebay.predictor.traffic.learned import Learned, curves_of, learn
from forebay.predictor.traffic.series import Floats, Ints, Series
from forebay.predictor.traffic.tracks import Stopwatch

LEVELS = np.array(QUANTILE_LEVELS)
P90 = QUANTILE_LEVELS.index(0.9)
LAST_VALUE = LastValue()


@dataclass(frozen=True, slots=True)
class Walk:
    """Where to forecast from: after every `step` windows from `first` on, at each of `leads`, fitted every `refit`."""

    leads: tuple[int, ...]
    first: int
    step: int = 1
    refit: int = 36

    def __post_init__(self) -> None:
        if not self.leads or min(self.leads) < 1 or self.first < 2 or self.step < 1 or self.refit < 1:
            raise ValueError("leads, step and refit must be at least 1, and first at least 2")


@dataclass(slots=True)
class Walked:
    """What was forecast [origin, lead, quantity, level] and what came [origin, lead, quantity]; NaN where unknown.

    `fit_s` and `forecast_s` are how long each took; `labels` count who answered; where nobody could, `failure_count`
    counts it and the last value stands in.
    """

    origins: Ints
    curves: Floats
    truth: Floats
    fit_s: list[float] = field(default_factory=list)
    forecast_s: list[float] = field(default_factory=list)
    labels: Counter[str] = field(default_factory=Counter)
    failure_count: int = 0


@dataclass(frozen=True, slots=True)
class Score:
    """At one lead, of one quantity: WAPE, the share of windows within P90, and the mean pinball loss of all quantiles
    in shares of the traffic; of `count` windows."""

    wape: float
    coverage_p90: float
    pinball: float
    count: int


def walk(policy: Forecaster, series: Series, plan: Walk, stopwatch: Stopwatch) -> Walked:
    """Forecasts the series from `plan.first` on; only what a moment could know is told to the forecaster."""
    leads = np.array(plan.leads, dtype=np.int64)
    origins = np.arange(plan.first, len(series), plan.step)
    walked = Walked(
        origins, np.full((len(origins), len(leads), 3, len(LEVELS)), np.nan), _truth(series, origins, leads)
    )
    learned: Learned | None = None
    fitted_at = -plan.refit
    for row, origin in enumerate(origins):
        known = series.until(int(origin))
        if origin - fitted_at >= plan.refit:
            learned, fitted_at = _fit(policy, known, int(leads.max()), walked, stopwatch), int(origin)
        began = stopwatch()
        walked.curves[row] = _forecast(learned, known, leads, walked)
        walked.forecast_s.append(stopwatch() - began)
    return walked


def score(walked: Walked, lead: int, quantity: int) -> Score:
    """The scores of one lead (by its place) and quantity; NaN where nothing is known."""
    truth, curves = walked.truth[:, lead, quantity], walked.curves[:, lead, quantity]
    told = ~np.isnan(truth)
    truth, curves = truth[told], curves[told]
    if not len(truth) or truth.sum() <= 0:
        return Score(np.nan, np.nan, np.nan, len(truth))
    missed = truth[:, None] - curves
    pinball = np.maximum(LEVELS * missed, (LEVELS - 1) * missed)
    return Score(
        float(np.abs(missed[:, MEDIAN]).sum() / truth.sum()),
        float((truth <= curves[:, P90]).mean()),
        float(pinball.mean() / truth.mean()),
        len(truth),
    )


def _truth(series: Series, origins: Ints, leads: Ints) -> Floats:
    rows = origins[:, None] + leads[None, :] - 1
    inside = rows < len(series)
    return np.where(inside[:, :, None], series.values[np.where(inside, rows, 0)], np.nan)


def _fit(policy: Forecaster, known: Series, lead_max: int, walked: Walked, stopwatch: Stopwatch) -> Learned | None:
    began = stopwatch()
    try:
        learned = learn(policy, known, lead_max, stopwatch)
    except ForecastFailed:
        learned = None
    walked.fit_s.append(stopwatch() - began)
    walked.failure_count += learned is None
    walked.labels["last_value" if learned is None else learned.label] += 1
    return learned


def _forecast(learned: Learned | None, known: Series, leads: Ints, walked: Walked) -> Floats:
    try:
        if learned is not None:
            return curves_of(learned, known, leads)
    except Exception:
        # Whatever it is, it is the forecaster's failure.
        walked.failure_count += 1
    return curves_of(learn(LAST_VALUE, known, int(leads.max())), known, leads)
