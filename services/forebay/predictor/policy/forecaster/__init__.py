"""How much traffic the next windows will bring."""

from forebay.predictor.policy.forecaster.auto_arima import AutoArima
from forebay.predictor.policy.forecaster.auto_ets import AutoEts
from forebay.predictor.policy.forecaster.auto_theta import AutoTheta
from forebay.predictor.policy.forecaster.base import Fitted, Forecaster, ForecastFailed, WorkloadHistory
from forebay.predictor.policy.forecaster.boosting import Boosting
from forebay.predictor.policy.forecaster.ensemble import Ensemble
from forebay.predictor.policy.forecaster.last_value import LastValue
from forebay.predictor.policy.forecaster.least_cost import LeastCost
from forebay.predictor.policy.forecaster.least_error import LeastError
from forebay.predictor.policy.forecaster.lstm import Lstm
from forebay.predictor.policy.forecaster.mstl import Mstl
from forebay.predictor.policy.forecaster.seasonal import Seasonal
from forebay.predictor.policy.forecaster.smoothing import Smoothing

FORECASTERS: dict[str, type[Forecaster]] = {
    "auto_arima": AutoArima,
    "auto_ets": AutoEts,
    "auto_theta": AutoTheta,
    "boosting": Boosting,
    "ensemble": Ensemble,
    "last_value": LastValue,
    "least_cost": LeastCost,
    "least_error": LeastError,
    "lstm": Lstm,
    "mstl": Mstl,
    "seasonal": Seasonal,
    "smoothing": Smoothing,
}

__all__ = [
    "FORECASTERS",
    "AutoArima",
    "AutoEts",
    "AutoTheta",
    "Boosting",
    "Ensemble",
    "Fitted",
    "ForecastFailed",
    "Forecaster",
    "LastValue",
    "LeastCost",
    "LeastError",
    "Lstm",
    "Mstl",
    "Seasonal",
    "Smoothing",
    "WorkloadHistory",
]
