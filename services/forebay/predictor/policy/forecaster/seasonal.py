"""The next windows are like those at the same time of the last season."""

import math
from dataclasses import dataclass

from forebay.core.prediction import WorkloadForecast
from forebay.core.units import US_PER_S
from forebay.predictor.policy.forecaster.base import WorkloadHistory
from forebay.predictor.series import align, forecast_by_lag


@dataclass(frozen=True, slots=True)
class Seasonal:
    """The same window `season_s` ago as the median, spread by the errors that this made.

    Before one full season is known it answers as the last value does.
    """

    season_s: int = 86_400

    def __post_init__(self) -> None:
        if self.season_s < 1:
            raise ValueError("season_s must be at least 1")

    def forecast(self, history: WorkloadHistory) -> tuple[WorkloadForecast, ...]:
        """One forecast a window; zeros where there is no history."""
        series = align(history.points, history.window_us)
        windows = max(1, round(self.season_s * US_PER_S / history.window_us))
        full = len(series.values) >= windows
        lag_of = (lambda lead: windows * math.ceil(lead / windows)) if full else (lambda lead: lead)
        return forecast_by_lag(series, history.first_start_us, history.horizon_count, lag_of)
