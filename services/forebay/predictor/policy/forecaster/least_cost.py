"""The next windows are told by whoever would have cost least on the series' own past, lead by lead."""

from dataclasses import dataclass

from forebay.core.units import US_PER_S
from forebay.predictor.policy.forecaster.base import Fitted
from forebay.predictor.traffic.series import Series
from forebay.predictor.traffic.tracks import Costs, Stopwatch
from forebay.predictor.traffic.walkforward import Chosen, choose, named

DAY_US = 86_400 * US_PER_S


@dataclass(frozen=True, slots=True)
class LeastCost:
    """Walks each candidate forward through the series and takes the one that costs least in each band of leads.

    A request or token too few costs `under_cost`, one too many `over_cost`. The last value answers until somebody is
    better beyond the noise, and of `candidates`, names of forecasters that need no parameters, those named first win
    ties. See `Costs` for the others.
    """

    candidates: tuple[str, ...] = ("last_value", "smoothing", "boosting", "seasonal")
    under_cost: float = 1.0
    over_cost: float = 1.0
    origin_count: int = 144
    fit_count: int = 3
    fit_s_max: float = 20.0
    gain_min: float = 0.01
    sigma_count: float = 2.0

    def __post_init__(self) -> None:
        if not self.candidates:
            raise ValueError("candidates must name a forecaster at least")
        self._costs()

    def fit(self, series: Series) -> Fitted:
        """Chooses for leads up to a day."""
        return self.choose(series, max(1, DAY_US // series.window_us), None)

    def choose(self, series: Series, lead_max: int, stopwatch: Stopwatch | None) -> Chosen:
        """Chooses for leads up to `lead_max`. Raises ForecastFailed where no candidate can be fitted."""
        return choose(named(self.candidates), series, lead_max, self._costs(), stopwatch)

    def _costs(self) -> Costs:
        return Costs(
            under_cost=self.under_cost,
            over_cost=self.over_cost,
            origin_count=self.origin_count,
            fit_count=self.fit_count,
            fit_s_max=self.fit_s_max,
            gain_min=self.gain_min,
            sigma_count=self.sigma_count,
        )
