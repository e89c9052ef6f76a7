"""One question about the traffic to come, and its answer by whoever can give one."""

from dataclasses import dataclass

import numpy as np

from forebay.core.prediction import QUANTILE_LEVELS, WorkloadForecast
from forebay.predictor.policy.forecaster import Forecaster, ForecastFailed, LastValue, LeastError, Seasonal
from forebay.predictor.traffic.history import SeriesName
from forebay.predictor.traffic.intervals import LEAD_MAX, MEDIAN, forecast_of
from forebay.predictor.traffic.learned import Learned, curves_of, learn
from forebay.predictor.traffic.series import Floats, Ints, Series

AT_ONCE = (LastValue, LeastError, Seasonal)
"""Forecasters that fit within a few milliseconds: they are fitted anew for every answer, so they never need a refit."""
SHIFT_COUNT = 3
"""So many windows in a row far on one side of their forecasts are a level shift."""
SHIFT_FACTOR = 2.0
"""Far is so many times the distance of the outermost quantile."""
LOW_TO_HIGH = 1.5
"""How much farther from the median the 97 % quantile is than the 10 % one, were errors normal."""
ROOT_ERROR_MIN = 1.0
"""In roots: Poisson arrivals are twice as far off now and then."""
GROWTH_MAX = 1_000.0
"""A forecast of more than so many times what a window ever had is nonsense."""


@dataclass(frozen=True, slots=True)
class Who:
    """The forecaster that answers now, with its label, and the one that answers where nothing is fitted."""

    label: str
    policy: Forecaster
    fallback_label: str
    fallback: Forecaster


@dataclass(frozen=True, slots=True)
class Answer:
    """A forecast, who made it, and what was found on the way; `failure` says why the fitted one did not answer, which
    `is_late` where it only took too long."""

    forecasts: tuple[WorkloadForecast, ...]
    label: str
    is_shifted: bool = False
    failure: str = ""
    is_late: bool = False


@dataclass(frozen=True, slots=True)
class Asking:
    """One question on its way."""

    name: SeriesName
    series: Series
    who: Who
    first_start_us: int
    horizon_count: int
    learned: Learned | None
    fitted_count: int
    history_count: int
    told_from: int = 0
    """The row from which on the history was read now; those before are remembered."""

    def answer(self) -> Answer:
        """By what was learned; by the fallback where nothing was, or where it fails or makes no sense."""
        if not len(self.series):
            nothing = np.zeros((self.horizon_count, 3, len(QUANTILE_LEVELS)))
            return Answer(self._forecasts(nothing), self.who.fallback_label if self._waits else self.who.label)
        if self.learned is None:
            return self._by_fallback("")
        try:
            curves = curves_of(self.learned, self.series, self._leads)
            _refuse_nonsense(curves, self.series)
            is_shifted = _is_shifted(self.learned, self.series, self.fitted_count)
        except Exception as error:
            # Whatever a forecaster does wrong counts as its failure and as nobody else's.
            return self._by_fallback(f"{type(error).__name__}: {error}")
        return Answer(self._forecasts(curves), label_of(self.who.label, self.learned), is_shifted)

    def at_last(self, failure: str, *, is_late: bool = False) -> Answer:
        """The last value without any work, for those who cannot wait."""
        points = np.repeat(self.series.last[None, :], self.horizon_count, axis=0)
        curves = np.repeat(points[:, :, None], len(QUANTILE_LEVELS), axis=2)
        return Answer(self._forecasts(curves), "last_value", failure=failure, is_late=is_late)

    @property
    def _waits(self) -> bool:
        return not isinstance(self.who.policy, AT_ONCE)

    @property
    def _leads(self) -> Ints:
        starts = self.first_start_us + np.arange(self.horizon_count) * self.series.window_us
        leads = (starts - self.series.start_us) // self.series.window_us - len(self.series) + 1
        return np.clip(leads, 1, LEAD_MAX).astype(np.int64)

    def _by_fallback(self, failure: str) -> Answer:
        leads, policy = self._leads, self.who.fallback if self._waits else self.who.policy
        learned = learn(policy, self.series, int(leads[-1]))
        label = self.who.fallback_label if self._waits else self.who.label
        return Answer(self._forecasts(curves_of(learned, self.series, leads)), label, failure=failure)

    def _forecasts(self, curves: Floats) -> tuple[WorkloadForecast, ...]:
        starts = self.first_start_us + np.arange(self.horizon_count) * self.name.window_us
        return tuple(forecast_of(int(start), curve) for start, curve in zip(starts, curves, strict=True))


def label_of(by: str, learned: Learned | None) -> str:
    """Who really answers: the forecaster, and whom it has chosen where it chooses."""
    return f"{by}:{learned.label}" if learned and learned.label else by


def _refuse_nonsense(curves: Floats, series: Series) -> None:
    limit = GROWTH_MAX * (1.0 + np.nanmax(series.values, axis=0))
    if not (np.isfinite(curves).all() and (curves >= 0).all() and (curves[:, :, MEDIAN] <= limit).all()):
        raise ForecastFailed("the forecast is no number, negative, or beyond all that ever was")


def _is_shifted(learned: Learned, series: Series, fitted_count: int) -> bool:
    """Whether the last windows, none of which the fit has seen, are far on one side of what was forecast for them."""
    before = len(series) - SHIFT_COUNT
    if before < fitted_count:
        return False
    points = learned.fitted.points(series.until(before), SHIFT_COUNT)
    leads = np.arange(1, SHIFT_COUNT + 1)
    curves = np.sqrt(learned.spread.around(points, leads)[:, 0, :])
    errors = np.sqrt(series.values[before:, 0]) - curves[:, MEDIAN]
    above = np.maximum(ROOT_ERROR_MIN, curves[:, -1] - curves[:, MEDIAN])
    below = np.maximum(ROOT_ERROR_MIN, LOW_TO_HIGH * (curves[:, MEDIAN] - curves[:, 0]))
    return bool((errors > SHIFT_FACTOR * above).all() or (-errors > SHIFT_FACTOR * below).all())
