"""The next windows are like the last one."""

from dataclasses import dataclass

from forebay.core.prediction import WorkloadForecast
from forebay.predictor.policy.forecaster.base import WorkloadHistory
from forebay.predictor.series import align, forecast_by_lag


@dataclass(frozen=True, slots=True)
class LastValue:
    """The last known window as the median of all to come, spread by the errors that this made at the same lead."""

    def forecast(self, history: WorkloadHistory) -> tuple[WorkloadForecast, ...]:
        """One forecast a window; zeros where there is no history."""
        series = align(history.points, history.window_us)
        return forecast_by_lag(series, history.first_start_us, history.horizon_count, lambda lead: lead)
