"""The next windows are the mean of what several forecasters say."""

from dataclasses import dataclass

from forebay.core.units import US_PER_S
from forebay.predictor.policy.forecaster.base import Fitted
from forebay.predictor.traffic.series import Series
from forebay.predictor.traffic.tracks import Costs, Stopwatch
from forebay.predictor.traffic.walkforward import Chosen, average, named

DAY_US = 86_400 * US_PER_S


@dataclass(frozen=True, slots=True)
class Ensemble:
    """The mean, in roots, of the `best_count` candidates that cost least on the series' own past, lead by lead.

    One that fails is left out. Costs are those of `least_cost`.
    """

    candidates: tuple[str, ...] = ("last_value", "boosting", "seasonal", "auto_ets", "auto_theta")
    best_count: int = 3
    under_cost: float = 1.0
    over_cost: float = 1.0
    fit_s_max: float = 20.0

    def __post_init__(self) -> None:
        if not (self.candidates and self.best_count > 0):
            raise ValueError("candidates must name a forecaster at least, and best_count be above 0")
        Costs(under_cost=self.under_cost, over_cost=self.over_cost, fit_s_max=self.fit_s_max)

    def fit(self, series: Series) -> Fitted:
        """Settles for leads up to a day who is averaged."""
        return self.choose(series, max(1, DAY_US // series.window_us), None)

    def choose(self, series: Series, lead_max: int, stopwatch: Stopwatch | None) -> Chosen:
        """Settles it for leads up to `lead_max`. Raises ForecastFailed where no candidate can be fitted."""
        costs = Costs(under_cost=self.under_cost, over_cost=self.over_cost, fit_s_max=self.fit_s_max)
        return average(named(self.candidates), series, lead_max, costs, self.best_count, stopwatch)
