"""History as evenly spaced series, and the spread of a forecast from the errors its method made on that history."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from forebay.core.prediction import QUANTILE_LEVELS, Quantiles, WorkloadForecast
from forebay.core.values import WorkloadPoint

Floats = npt.NDArray[np.float64]

NORMAL_QUANTILES = np.array((-1.2816, 0.0, 1.2816, 1.8808))
"""The standard normal distribution at `QUANTILE_LEVELS`."""
ERROR_COUNT_MIN = 8
"""Fewer errors than this say nothing about a 90th percentile."""
LAG_COUNT_MAX = 24
"""Errors are measured at so many lags at most; those between are interpolated."""


@dataclass(frozen=True, slots=True)
class Series:
    """Requests, prompt and response tokens (columns) of consecutive windows (rows); NaN where nothing is known."""

    values: Floats
    start_us: int
    window_us: int

    @property
    def known(self) -> Floats:
        """The rows with each gap filled by the last row before it."""
        rows = np.where(np.isnan(self.values[:, 0]), 0, np.arange(len(self.values)))
        return self.values[np.maximum.accumulate(rows)]


def align(points: Sequence[WorkloadPoint], window_us: int) -> Series:
    """Points in any order as a series from the first window with traffic; windows without a point are gaps."""
    ordered = sorted(points, key=lambda point: point.start_us)
    first = next((index for index, point in enumerate(ordered) if point.request_count), len(ordered))
    kept = ordered[first:]
    if not kept:
        return Series(np.empty((0, 3)), 0, window_us)
    start_us = kept[0].start_us
    values = np.full(((kept[-1].start_us - start_us) // window_us + 1, 3), np.nan)
    for point in kept:
        row = (point.start_us - start_us) // window_us
        values[row] = (point.request_count, point.prompt_tokens, point.response_tokens)
    return Series(values, start_us, window_us)


def forecast_by_lag(
    series: Series, first_start_us: int, horizon_count: int, lag_of: Callable[[int], int]
) -> tuple[WorkloadForecast, ...]:
    """Forecasts each window by the value `lag_of(lead)` windows before it, the last known value where that is missing.

    `lead` counts windows from the last one of the series. The spread at a lag is that of sqrt(y[t]) - sqrt(y[t - lag])
    over the series itself: roots keep the spread of counts alike over levels (Anscombe) and forecasts above zero.
    """
    starts = first_start_us + np.arange(horizon_count) * series.window_us
    if not len(series.values):
        return tuple(_forecast(int(start), np.zeros((3, len(QUANTILE_LEVELS)))) for start in starts)
    last = len(series.values) - 1
    leads = np.maximum(1, (starts - series.start_us) // series.window_us - last)
    lags = np.array([lag_of(int(lead)) for lead in leads])
    sources = last + leads - lags
    lags = np.where(sources < 0, leads, lags)
    points = series.known[np.clip(np.where(sources < 0, last, sources), 0, last)]
    curves = np.maximum(0.0, np.sqrt(points)[:, :, None] + _spread(series, lags)) ** 2
    curves[:, :, 1] = points
    return tuple(
        _forecast(int(start), np.maximum.accumulate(_around(curve), axis=1))
        for start, curve in zip(starts, curves, strict=True)
    )


def error_at(series: Series, lag: int) -> float:
    """How far requests are from those `lag` windows before, on average; infinite where too few pairs tell."""
    requests = series.values[:, 0]
    errors = np.abs(requests[lag:] - requests[:-lag])
    errors = errors[~np.isnan(errors)]
    return float(errors.mean()) if len(errors) >= ERROR_COUNT_MIN else math.inf


def _around(curve: Floats) -> Floats:
    return np.column_stack((np.minimum(curve[:, 0], curve[:, 1]), curve[:, 1:]))


def _forecast(start_us: int, curves: Floats) -> WorkloadForecast:
    return WorkloadForecast(start_us, *(Quantiles(*(float(value) for value in curve)) for curve in curves))


def _spread(series: Series, lags: npt.NDArray[np.int64]) -> Floats:
    measured = np.unique(lags)
    if len(measured) > LAG_COUNT_MAX:
        measured = np.unique(np.geomspace(measured[0], measured[-1], LAG_COUNT_MAX).astype(np.int64))
    roots = np.sqrt(series.values)
    at_lags = np.array([_spread_at(roots, series.values, int(lag)) for lag in measured])
    flat = at_lags.reshape(len(measured), -1)
    columns = [np.interp(lags, measured, column) for column in flat.T]
    return np.array(columns).T.reshape(len(lags), 3, len(QUANTILE_LEVELS))


def _spread_at(roots: Floats, values: Floats, lag: int) -> Floats:
    errors = roots[lag:] - roots[:-lag]
    errors = errors[~np.isnan(errors[:, 0])]
    if len(errors) < ERROR_COUNT_MIN:
        return _chance(values)
    spread: Floats = np.quantile(errors, QUANTILE_LEVELS, axis=0).T
    return spread


def _chance(values: Floats) -> Floats:
    """The spread of chance alone, in roots: Poisson arrivals whose token counts vary as much as their mean."""
    totals = np.nansum(values, axis=0)
    tokens_a_request = totals[1:] / max(1.0, totals[0])
    deviations = 0.5 * np.sqrt(np.concatenate(((1.0,), 2 * tokens_a_request)))
    spread: Floats = deviations[:, None] * NORMAL_QUANTILES
    return spread
