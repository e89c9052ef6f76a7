"""The next windows continue the best of four Theta methods."""

from dataclasses import dataclass
from typing import Any

from forebay.core.units import US_PER_S
from forebay.predictor.policy.forecaster.base import Fitted
from forebay.predictor.traffic.series import Series
from forebay.predictor.traffic.statistical import fit_statistical


@dataclass(frozen=True, slots=True)
class AutoTheta:
    """Plain, optimised or dynamic Theta (Fiorucci et al. 2016), the one of least error, on roots less daily harmonics.

    A Theta forecast is exponential smoothing with half of the series' linear drift.
    """

    season_s: int = 86_400

    def __post_init__(self) -> None:
        if self.season_s < 1:
            raise ValueError("season_s must be at least 1")

    def fit(self, series: Series) -> Fitted:
        """Fits each quantity by itself. Raises ForecastFailed where statsforecast cannot."""
        season = max(1, round(self.season_s * US_PER_S / series.window_us))
        return fit_statistical(_model, series, season)


def _model() -> Any:
    from statsforecast.models import AutoTheta

    return AutoTheta(season_length=1)
