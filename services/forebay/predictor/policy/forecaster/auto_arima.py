"""The next windows continue the ARIMA process that fits the last ones best."""

from dataclasses import dataclass
from typing import Any

from forebay.core.units import US_PER_S
from forebay.predictor.policy.forecaster.base import Fitted
from forebay.predictor.traffic.series import Series
from forebay.predictor.traffic.statistical import fit_statistical


@dataclass(frozen=True, slots=True)
class AutoArima:
    """Stepwise search for the order by AICc (Hyndman and Khandakar 2008), on roots less three daily harmonics.

    The search is bounded and never seasonal, since a seasonal one over a day of windows does not end.
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
    from statsforecast.models import AutoARIMA

    return AutoARIMA(season_length=1, max_p=3, max_q=2, max_d=1, nmodels=20, approximation=True, allowdrift=False)
