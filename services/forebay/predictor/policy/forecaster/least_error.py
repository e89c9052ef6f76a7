"""The next windows are like the last one or like those of the last season, whichever erred less so far."""

import math
from dataclasses import dataclass

import numpy as np

from forebay.core.units import US_PER_S
from forebay.predictor.policy.forecaster.base import Fitted
from forebay.predictor.traffic.series import Floats, Series, lagged

ERROR_COUNT_MIN = 8
"""Fewer errors than this do not tell how well a season repeats."""


@dataclass(frozen=True, slots=True)
class LeastError:
    """Settles at each lead which of last value and season was nearer to the requests of the history itself.

    Traffic without a daily cycle is best told by its last value at any lead; with one, by the last value a few windows
    ahead and by the season further on. Before a season and a little more is known the last value answers.
    """

    season_s: int = 86_400

    def __post_init__(self) -> None:
        if self.season_s < 1:
            raise ValueError("season_s must be at least 1")

    def fit(self, series: Series) -> Fitted:
        """Learns the lead from which on the season is nearer."""
        window_count = max(1, round(self.season_s * US_PER_S / series.window_us))
        return _Turning(window_count, _turn(series, window_count))


@dataclass(frozen=True, slots=True)
class _Turning:
    """Answers by the season from the lead `turn` on; 0 means never."""

    window_count: int
    turn: int

    def points(self, series: Series, horizon_count: int) -> Floats:
        found = np.tile(series.last, (horizon_count, 1))
        if self.turn and len(series) >= self.window_count:
            found[self.turn - 1 :] = lagged(series, self.window_count, horizon_count)[self.turn - 1 :]
        return found


def _turn(series: Series, window_count: int) -> int:
    """The first lead at which the season is nearer than the last value; errors of last values grow with the lead.

    Leads are tried in steps of a quarter: 1, 2, 3, 4, 5, 6, 7, 8, 10, 12 and so on.
    """
    season, lead = _error_at(series, window_count), 1
    while lead < window_count:
        if season < _error_at(series, lead):
            return lead
        lead += max(1, lead // 4)
    return window_count if season < math.inf else 0


def _error_at(series: Series, lag: int) -> float:
    """How far requests are from those `lag` windows before, on average; infinite where too few pairs tell."""
    requests = series.values[:, 0]
    errors = np.abs(requests[lag:] - requests[:-lag])
    errors = errors[~np.isnan(errors)]
    return float(errors.mean()) if len(errors) >= ERROR_COUNT_MIN else math.inf
