"""What fitting a forecaster brings: itself, with the spread of its errors."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from forebay.core.units import US_PER_S
from forebay.predictor.policy.forecaster import Fitted, Forecaster, ForecastFailed
from forebay.predictor.traffic.intervals import ORIGIN_COUNT, Spread, errors_of, lead_grid, spread_of
from forebay.predictor.traffic.series import Floats, Ints, Series
from forebay.predictor.traffic.tracks import Stopwatch
from forebay.predictor.traffic.walkforward import Chosen

DAY_US = 86_400 * US_PER_S
LEAD_COUNT_ASKED = 1_440
"""The longest horizon of the contract in windows."""


@dataclass(frozen=True, slots=True)
class Learned:
    """What a refit brings: a plain value that can go to another process and back. `label` says who was chosen."""

    fitted: Fitted
    spread: Spread
    label: str = ""


@runtime_checkable
class Choosing(Protocol):
    """A forecaster that chooses among others and measures them on the way."""

    def choose(self, series: Series, lead_max: int, stopwatch: Stopwatch | None) -> Chosen:
        """Who answers at leads up to `lead_max`. Raises ForecastFailed."""
        ...


def lead_max_of(window_us: int) -> int:
    """The farthest lead at which a refit measures errors: a day ahead, and two windows for what has begun."""
    return min(DAY_US // window_us, LEAD_COUNT_ASKED) + 2


def learn(policy: Forecaster, series: Series, lead_max: int, stopwatch: Stopwatch | None = None) -> Learned:
    """Fits a forecaster, with the spread that it has measured itself, or else that of its errors on the later half.

    Raises ForecastFailed where it cannot, whatever went wrong.
    """
    try:
        if isinstance(policy, Choosing):
            chosen = policy.choose(series, lead_max, stopwatch)
            return Learned(chosen, chosen.spread, chosen.label)
        fitted = policy.fit(series)
        grid = lead_grid(lead_max)
        origins = np.unique(np.linspace(max(1, len(series) // 2), len(series) - 1, ORIGIN_COUNT).astype(np.int64))
        return Learned(fitted, spread_of(grid, errors_of(fitted, series, origins.tolist(), grid), series))
    except ForecastFailed:
        raise
    except Exception as error:
        raise ForecastFailed(f"{type(error).__name__}: {error}") from error


def curves_of(learned: Learned, series: Series, leads: Ints) -> Floats:
    """Quantiles [lead, quantity, level] of the windows so many leads after the series."""
    points = learned.fitted.points(series, int(leads[-1]))[leads - 1]
    return learned.spread.around(points, leads)
