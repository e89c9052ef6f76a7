"""The next windows are like those at the same time of the last season."""

from dataclasses import dataclass

import numpy as np

from forebay.core.units import US_PER_S
from forebay.predictor.policy.forecaster.base import Fitted
from forebay.predictor.traffic.series import Floats, Series, lagged


@dataclass(frozen=True, slots=True)
class Seasonal:
    """The same window `season_s` ago.

    Before one full season is known it answers as the last value does.
    """

    season_s: int = 86_400

    def __post_init__(self) -> None:
        if self.season_s < 1:
            raise ValueError("season_s must be at least 1")

    def fit(self, series: Series) -> Fitted:
        """Learns nothing but how many windows a season has."""
        return _Season(max(1, round(self.season_s * US_PER_S / series.window_us)))


@dataclass(frozen=True, slots=True)
class _Season:
    window_count: int

    def points(self, series: Series, horizon_count: int) -> Floats:
        if len(series) < self.window_count:
            return np.tile(series.last, (horizon_count, 1))
        return lagged(series, self.window_count, horizon_count)
