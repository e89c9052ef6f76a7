"""The next windows are like the last one or like those of the last season, whichever erred less so far."""

import math
from dataclasses import dataclass

from forebay.core.prediction import WorkloadForecast
from forebay.core.units import US_PER_S
from forebay.predictor.policy.forecaster.base import WorkloadHistory
from forebay.predictor.series import Series, align, error_at, forecast_by_lag


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

    def forecast(self, history: WorkloadHistory) -> tuple[WorkloadForecast, ...]:
        """One forecast a window; zeros where there is no history."""
        series = align(history.points, history.window_us)
        windows = max(1, round(self.season_s * US_PER_S / history.window_us))
        turn = _turn(series, windows)

        def lag_of(lead: int) -> int:
            return lead if lead < turn else windows * math.ceil(lead / windows)

        return forecast_by_lag(series, history.first_start_us, history.horizon_count, lag_of)


def _turn(series: Series, windows: int) -> float:
    """The first lead at which the season is nearer than the last value; errors of last values grow with the lead.

    Leads are tried in steps of a quarter: 1, 2, 3, 4, 5, 6, 7, 8, 10, 12 and so on.
    """
    season, lead = error_at(series, windows), 1
    while lead < windows:
        if season < error_at(series, lead):
            return lead
        lead += max(1, lead // 4)
    return windows if season < math.inf else math.inf
