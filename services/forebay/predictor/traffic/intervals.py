"""The spread of a forecast, from the errors that its forecaster made before at the same lead."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from forebay.core.prediction import QUANTILE_LEVELS, Quantiles, WorkloadForecast
from forebay.predictor.traffic.fitting import Fitted, Forecaster, WorkloadHistory
from forebay.predictor.traffic.series import Floats, Ints, Series, align

NORMAL_QUANTILES = np.array((-1.2816, 0.0, 1.2816, 1.8808))
"""The standard normal distribution at `QUANTILE_LEVELS`."""
ERROR_COUNT_MIN = 4
"""Fewer errors than this say nothing about a 90th percentile."""
ERROR_COUNT_ENOUGH = 16
"""From so many errors on chance has no say."""
LEAD_COUNT_MAX = 24
"""Errors are measured at so many leads at most; those between are interpolated."""
LEAD_MAX = 20_160
"""No window is told apart that is farther ahead: two weeks of minutes."""
ORIGIN_COUNT = 64
MEDIAN = QUANTILE_LEVELS.index(0.5)


@dataclass(frozen=True, slots=True)
class Spread:
    """How far above its forecast the truth is, by lead (rows), quantity and quantile; in square roots.

    Roots keep the spread of counts alike over levels (Anscombe) and forecasts above zero.
    """

    leads: Ints
    shifts: Floats

    def around(self, points: Floats, leads: Ints) -> Floats:
        """Quantiles [lead, quantity, level] of forecasts [lead, quantity]; the forecast itself is the median."""
        flat = self.shifts.reshape(len(self.leads), -1)
        shifts = np.column_stack([np.interp(leads, self.leads, column) for column in flat.T])
        roots = np.sqrt(points)[:, :, None] + shifts.reshape(len(leads), 3, len(QUANTILE_LEVELS))
        curves: Floats = np.maximum(0.0, roots) ** 2
        curves[:, :, MEDIAN] = points
        curves[:, :, :MEDIAN] = np.minimum(curves[:, :, :MEDIAN], points[:, :, None])
        return np.maximum.accumulate(curves, axis=2)


def spread_of(
    leads: Ints,
    errors: Floats,
    series: Series,
    weights: Floats | None = None,
    span_count: int | None = None,
    bunch_count: float = 1.0,
) -> Spread:
    """The spread that `errors` [origin, lead, quantity] in roots show; NaN where the truth is not known.

    Split conformal quantiles, so with the correction for few errors (Vovk); by `weights`, one an origin, where older
    errors shall count less (Barber et al. 2023, arXiv 2202.13415). Forecasts that overlap tell the same thing twice, so
    those of `span_count` windows count as no more than there are leads in them; and `bunch_count` neighbours as one,
    since large errors come in bunches. Where errors are few, chance has its say as well; a lead with too few of them is
    as uncertain as the one before it.
    """
    shifts = np.empty((len(leads), 3, len(QUANTILE_LEVELS)))
    before = chance(series)
    told = np.ones(len(errors)) if weights is None else weights
    for row in range(len(leads)):
        known = ~np.isnan(errors[:, row, 0])
        distinct = np.inf if span_count is None else span_count / float(leads[row])
        before = shifts[row] = _blended(
            errors[known, row], told[known], (distinct, bunch_count), before, chance(series)
        )
    return Spread(leads, shifts)


def chance(series: Series) -> Floats:
    """The spread of chance alone, in roots: Poisson arrivals whose token counts vary as much as their mean."""
    totals = np.nansum(series.values, axis=0)
    tokens_a_request = totals[1:] / max(1.0, totals[0])
    deviations = 0.5 * np.sqrt(np.concatenate(((1.0,), 2 * tokens_a_request)))
    spread: Floats = deviations[:, None] * NORMAL_QUANTILES
    return spread


def lead_grid(horizon_count: int) -> Ints:
    """The leads at which errors are measured: every one of a few, ever farther apart in many."""
    if horizon_count <= LEAD_COUNT_MAX:
        return np.arange(1, horizon_count + 1)
    return np.unique(np.geomspace(1, horizon_count, LEAD_COUNT_MAX).astype(np.int64))


def errors_of(fitted: Fitted, series: Series, origins: Sequence[int], leads: Ints) -> Floats:
    """Errors in roots [origin, lead, quantity] of forecasts made after each of `origins` windows; NaN if unknown."""
    errors = np.full((len(origins), len(leads), 3), np.nan)
    for row, origin in enumerate(origins):
        inside = leads[leads <= len(series) - origin]
        if len(inside) and origin > 0:
            points = fitted.points(series.until(origin), int(inside[-1]))
            truth = series.values[origin + inside - 1]
            errors[row, : len(inside)] = np.sqrt(truth) - np.sqrt(points[inside - 1])
    return errors


def forecast_at_once(forecaster: Forecaster, history: WorkloadHistory) -> tuple[WorkloadForecast, ...]:
    """Fits and forecasts in one go; the spread is that of the errors which it makes on the later two thirds.

    For forecasters that fit quickly and learn little: what they fit has seen those errors' truth. Zeros where there is
    no history.
    """
    series = align(history.points, history.window_us)
    starts = history.first_start_us + np.arange(history.horizon_count) * series.window_us
    if not len(series):
        return tuple(forecast_of(int(start), np.zeros((3, len(QUANTILE_LEVELS)))) for start in starts)
    fitted = forecaster.fit(series)
    leads = np.clip((starts - series.start_us) // series.window_us - len(series) + 1, 1, LEAD_MAX)
    points = fitted.points(series, int(leads[-1]))[leads - 1]
    grid = lead_grid(int(leads[-1]))
    origins = np.unique(np.linspace(max(1, len(series) // 3), len(series) - 1, ORIGIN_COUNT).astype(np.int64))
    spread = spread_of(grid, errors_of(fitted, series, origins.tolist(), grid), series)
    curves = spread.around(points, leads)
    return tuple(forecast_of(int(start), curve) for start, curve in zip(starts, curves, strict=True))


def forecast_of(start_us: int, curves: Floats) -> WorkloadForecast:
    """Quantiles [quantity, level] of one window as the contract's value."""
    return WorkloadForecast(start_us, *(Quantiles(*(float(value) for value in curve)) for curve in curves))


def _blended(errors: Floats, weights: Floats, limits: tuple[float, float], before: Floats, chances: Floats) -> Floats:
    count = len(errors)
    if count < ERROR_COUNT_MIN:
        return before
    share = min(1.0, (count - ERROR_COUNT_MIN + 1) / (ERROR_COUNT_ENOUGH - ERROR_COUNT_MIN + 1))
    found = conformal(errors, weights, *limits)
    return share * found + (1 - share) * np.where(np.abs(chances) > np.abs(before), chances, before)


def conformal(errors: Floats, weights: Floats, distinct: float = np.inf, bunch_count: float = 1.0) -> Floats:
    """Quantiles [quantity, level] of errors [error, quantity], each level moved outward as for one error more.

    As many errors count as their weights make of them, and no more than are `distinct`, by bunches of `bunch_count`.
    """
    order = np.argsort(errors, axis=0)
    ranks = np.cumsum(weights[order], axis=0)
    effective = max(1.0, min(distinct, weights.sum() ** 2 / (weights**2).sum()) / bunch_count)
    found = np.empty((errors.shape[1], len(QUANTILE_LEVELS)))
    for column in range(errors.shape[1]):
        places = (ranks[:, column] - 0.5 * weights[order[:, column]]) / ranks[-1, column]
        for place, level in enumerate(QUANTILE_LEVELS):
            outward = 0.5 + (level - 0.5) * (effective + 1) / effective
            found[column, place] = np.interp(outward, places, errors[order[:, column], column])
    return found
