"""What statsforecast's models learn of one series, as plain values, on roots less a daily profile."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from forebay.predictor.traffic.fitting import ForecastFailed
from forebay.predictor.traffic.series import Floats, Ints, Series

FITTED_COUNT_MIN = 12
"""A model is fitted to so many windows at least; the last value answers for shorter series."""
FITTED_COUNT_MAX = 1_008
"""And to the newest so many, a week of ten minutes: it must end within seconds."""
HARMONIC_COUNT = 3
SEASONS_MIN = 2
"""A daily profile needs so many days."""
LEFT_OUT = frozenset({"fit", "fitted", "residuals", "actual_residuals", "x", "xreg", "ic", "var_coef"})
"""Parts of a fitted model that forecasts do not need."""
FLAT = 1e-9

Make: TypeAlias = Callable[[], Any]
"""A fresh model of statsforecast."""
Learn: TypeAlias = Callable[[Floats, int], tuple[Floats, Any]]
"""From roots, with the number of windows in a day, to the profile of a day and a fitted model."""


@dataclass(frozen=True, slots=True)
class Learned:
    """One quantity: its profile over a day, and what the model keeps; nothing where the rest was flat."""

    profile: Floats
    model: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Statistical:
    """All three quantities; `kind` is the name of the model's class in statsforecast."""

    kind: str
    season_length: int
    quantities: tuple[Learned, ...]

    def points(self, series: Series, horizon_count: int) -> Floats:
        """The model's forecasts from all that is known, with the parameters of the fit. Raises ForecastFailed."""
        first, known = tail(series)
        columns = [
            self._column(np.sqrt(known[:, column]), first, learned, horizon_count)
            for column, learned in enumerate(self.quantities)
        ]
        roots: Floats = np.maximum(0.0, np.column_stack(columns))
        return roots**2

    def _column(self, roots: Floats, first: int, learned: Learned, horizon_count: int) -> Floats:
        season = len(learned.profile)
        rest = roots - learned.profile[(first + np.arange(len(roots))) % season]
        if learned.model and len(rest) >= FITTED_COUNT_MIN:
            ahead = _forward(self.kind, self.season_length, learned.model, rest, horizon_count)
        else:
            ahead = np.full(horizon_count, rest[-1])
        after: Floats = ahead + learned.profile[(first + len(roots) + np.arange(horizon_count)) % season]
        return after


def fit_statistical(make: Make, series: Series, season: int, *, by_loess: bool = False) -> Statistical:
    """Fits a model to each quantity; `season` is a day in windows. Raises ForecastFailed where one cannot be fitted.

    The profile is that of MSTL where `by_loess`, else the best of a few harmonics.
    """
    first, known = tail(series)
    model = make()
    learned = tuple(_learned(make, np.sqrt(known[:, column]), first, season, by_loess) for column in range(3))
    return Statistical(type(model).__name__, getattr(model, "season_length", 1), learned)


def tail(series: Series) -> tuple[int, Floats]:
    """The newest windows since the first that is known, with the number of the first of them."""
    told = np.flatnonzero(~np.isnan(series.values[:, 0]))
    if not len(told):
        return 0, np.zeros((1, 3))
    first = max(int(told[0]), len(series) - FITTED_COUNT_MAX)
    return first, series.known[first:]


def _learned(make: Make, roots: Floats, first: int, season: int, by_loess: bool) -> Learned:
    profile = day_profile(roots, first, season, by_loess)
    rest = roots - profile[(first + np.arange(len(roots))) % len(profile)]
    if len(rest) < FITTED_COUNT_MIN or float(np.ptp(rest)) < FLAT:
        return Learned(profile, {})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            fitted = make().fit(rest).model_
        except Exception as error:  # statsforecast's errors have no common base
            raise ForecastFailed(f"statsforecast cannot fit the series: {error}") from error
    return Learned(profile, _plain(fitted))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items() if key not in LEFT_OUT}
    return value.item() if isinstance(value, np.generic) else value


def _forward(kind: str, season_length: int, kept: Mapping[str, Any], rest: Floats, horizon_count: int) -> Floats:
    from statsforecast import models

    model = getattr(models, kind)(season_length=season_length)
    model.model_ = {**dict.fromkeys(LEFT_OUT), **kept, "x": rest}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found: Floats = np.asarray(model.forward(rest, horizon_count)["mean"], dtype=np.float64)
        except Exception as error:  # statsforecast's errors have no common base
            raise ForecastFailed(f"statsforecast cannot forecast: {error}") from error
    if not np.isfinite(found).all():
        raise ForecastFailed(f"{kind} forecast what is no number")
    return found


def day_profile(roots: Floats, first: int, season: int, by_loess: bool = False) -> Floats:
    """What the time of day adds to a quantity in roots whose first window has this number; a zero before two days."""
    if len(roots) < SEASONS_MIN * season or season <= 2 * HARMONIC_COUNT:
        return np.zeros(1)
    return (_loess if by_loess else _harmonics)(roots, first, season)


def _waves(rows: Ints, season: int) -> Floats:
    angles = 2 * np.pi * np.outer(rows, np.arange(1, HARMONIC_COUNT + 1)) / season
    return np.hstack((np.sin(angles), np.cos(angles)))


def _harmonics(roots: Floats, first: int, season: int) -> Floats:
    """The day that least squares find beside a straight line."""
    rows = first + np.arange(len(roots))
    waves = _waves(rows, season)
    line = np.column_stack((np.ones(len(roots)), np.linspace(-1, 1, len(roots))))
    found = np.linalg.lstsq(np.hstack((line, waves)), roots, rcond=None)[0]
    profile: Floats = _waves(np.arange(season), season) @ found[2:]
    return profile


def _loess(roots: Floats, first: int, season: int) -> Floats:
    """The last day of the seasonal part that MSTL takes off (Bandara et al. 2021, arXiv 2107.13462)."""
    from statsforecast.mstl import mstl

    parts = mstl(roots, [season])
    name = "seasonal" if "seasonal" in parts else f"seasonal{season}"
    last = np.asarray(parts[name], dtype=np.float64)[-season:]
    profile = np.empty(season)
    profile[(first + len(roots) - season + np.arange(season)) % season] = last
    return profile
