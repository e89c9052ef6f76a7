"""How much traffic the next windows will bring."""

from forebay.predictor.policy.forecaster.base import Fitted, Forecaster, ForecastFailed, WorkloadHistory
from forebay.predictor.policy.forecaster.last_value import LastValue
from forebay.predictor.policy.forecaster.least_error import LeastError
from forebay.predictor.policy.forecaster.seasonal import Seasonal

FORECASTERS: dict[str, type[Forecaster]] = {
    "last_value": LastValue,
    "least_error": LeastError,
    "seasonal": Seasonal,
}

__all__ = [
    "FORECASTERS",
    "Fitted",
    "ForecastFailed",
    "Forecaster",
    "LastValue",
    "LeastError",
    "Seasonal",
    "WorkloadHistory",
]
