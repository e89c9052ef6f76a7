"""The next windows go on from a smoothed level with a trend that dies away, and follow the day."""

from dataclasses import dataclass
from itertools import product

import numpy as np

from forebay.core.units import US_PER_S
from forebay.predictor.policy.forecaster.base import Fitted
from forebay.predictor.traffic.series import Floats, Ints, Series
from forebay.predictor.traffic.statistical import day_profile, tail

ALPHAS = (0.3, 0.5, 0.7, 0.85, 1.0)
BETAS = (0.0, 0.1, 0.2, 0.4)
DAMPINGS = (0.8, 0.9, 0.97)
GRID = np.array(list(product(ALPHAS, BETAS, DAMPINGS))).T
"""Rows of level, trend and damping weights; fitted is the column that errs least."""
MEMORY_COUNT = 200
"""Windows that a level starts from; what came before them weighs nothing."""


@dataclass(frozen=True, slots=True)
class Smoothing:
    """Exponential smoothing with a damped trend (Gardner and McKenzie 1985), on roots less three daily harmonics.

    The weights are those of a grid that err least one window ahead. What it learns is a few numbers, so it fits in
    milliseconds where `auto_ets` searches.
    """

    season_s: int = 86_400

    def __post_init__(self) -> None:
        if self.season_s < 1:
            raise ValueError("season_s must be at least 1")

    def fit(self, series: Series) -> Fitted:
        """Chooses the weights of each quantity by itself."""
        first, known = tail(series)
        roots = np.sqrt(known)
        season = max(1, round(self.season_s * US_PER_S / series.window_us))
        profiles = np.column_stack([day_profile(column, first, season) for column in roots.T])
        rest = roots - profiles[(first + np.arange(len(roots))) % len(profiles)]
        return _Smoothed(profiles, np.column_stack([_best(column) for column in rest.T]))


@dataclass(frozen=True, slots=True)
class _Smoothed:
    """Profile of a day [window, quantity] and weights [level trend damping, quantity]."""

    profiles: Floats
    weights: Floats

    def points(self, series: Series, horizon_count: int) -> Floats:
        found: Floats = self.points_at(series, np.array([len(series)]), np.arange(1, horizon_count + 1))[0]
        return found

    def points_at(self, series: Series, origins: Ints, leads: Ints) -> Floats:
        first = max(0, int(origins.min()) - MEMORY_COUNT)
        rows = np.arange(first, int(origins.max()))
        rest = np.sqrt(series.known[rows]) - self.profiles[rows % len(self.profiles)]
        levels, trends = _smooth(rest, self.weights)
        at = origins - first - 1
        reach = np.cumsum(self.weights[2] ** np.arange(1, int(leads.max()) + 1)[:, None], axis=0)[leads - 1]
        ahead = levels[at][:, None] + trends[at][:, None] * reach
        days = self.profiles[(origins[:, None] + leads - 1) % len(self.profiles)]
        found: Floats = np.maximum(0.0, ahead + days) ** 2
        return found


def _best(rest: Floats) -> Floats:
    """The column of `GRID` that errs least one window ahead."""
    levels, trends = _smooth(np.tile(rest[:, None], GRID.shape[1]), GRID)
    errors = rest[1:, None] - (levels + GRID[2] * trends)[:-1]
    best: Floats = GRID[:, int(np.argmin((errors**2).sum(axis=0)))]
    return best


def _smooth(rest: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Level and trend after each row, for each column with its own weights."""
    alpha, beta, damping = weights
    levels, trends = np.empty_like(rest), np.empty_like(rest)
    level, trend = rest[0], np.zeros(rest.shape[1])
    for row, value in enumerate(rest):
        before = level
        level = alpha * value + (1 - alpha) * (level + damping * trend)
        trend = beta * (level - before) + (1 - beta) * damping * trend
        levels[row], trends[row] = level, trend
    return levels, trends
