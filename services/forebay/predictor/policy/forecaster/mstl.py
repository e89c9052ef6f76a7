"""The next windows repeat the season that smoothing found, over the trend."""

from dataclasses import dataclass
from typing import Any

from forebay.core.units import US_PER_S
from forebay.predictor.policy.forecaster.base import Fitted
from forebay.predictor.traffic.series import Series
from forebay.predictor.traffic.statistical import fit_statistical


@dataclass(frozen=True, slots=True)
class Mstl:
    """Season by local regression (MSTL, Bandara et al. 2021), the rest by exponential smoothing, all in roots.

    Before two seasons are known there is no season.
    """

    season_s: int = 86_400

    def __post_init__(self) -> None:
        if self.season_s < 1:
            raise ValueError("season_s must be at least 1")

    def fit(self, series: Series) -> Fitted:
        """Fits each quantity by itself. Raises ForecastFailed where statsforecast cannot."""
        season = max(1, round(self.season_s * US_PER_S / series.window_us))
        return fit_statistical(_model, series, season, by_loess=True)


def _model() -> Any:
    from statsforecast.models import AutoETS

    return AutoETS(season_length=1, model="ZZN")
