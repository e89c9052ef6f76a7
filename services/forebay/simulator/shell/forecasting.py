"""The live forecasting engine in virtual time: what is to be fitted is fitted at once and heard of after a delay."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from forebay.core.prediction import WorkloadForecast
from forebay.predictor.policy.forecaster import ForecastFailed, WorkloadHistory
from forebay.predictor.traffic.asking import Who
from forebay.predictor.traffic.forecasting import ForecastingEngine, Refit
from forebay.predictor.traffic.history import SeriesName, told_of
from forebay.predictor.traffic.learned import Learned, lead_max_of, learn

Forecast = Callable[[WorkloadHistory, int], tuple[WorkloadForecast, ...]]
"""The forecast from a history, at a time."""


class Forecasters(Protocol):
    """Who forecasts which series."""

    def __call__(self, model: str, region: str = "", slo_class: int = 0) -> Forecast:
        """The forecasts of a model, of one region and class or, without them, of all together."""
        ...


@dataclass(slots=True)
class LiveForecasts:
    """Every model's forecasts by one engine; `delay_us` is how long a refit takes. Equal calls, equal answers."""

    engine: ForecastingEngine
    who: Callable[[], Who]
    delay_us: int
    settled_count: int = 0
    _coming: deque[tuple[int, Refit, Learned | None]] = field(default_factory=deque)

    def of(self, model: str, region: str = "", slo_class: int = 0) -> Forecast:
        """The forecasts of one series; without a region and a class, all of the model's together."""
        return partial(self._forecast, model, region, slo_class)

    def settle(self, now_us: int) -> int:
        """Tells the engine of the refits that have ended by now; how many have since the start."""
        while self._coming and self._coming[0][0] <= now_us:
            at_us, refit, learned = self._coming.popleft()
            self.settled_count += 1
            if learned is None:
                self.engine.on_refit_failed(refit, at_us)
            else:
                self.engine.on_refitted(refit, learned, at_us)
        return self.settled_count

    def _forecast(
        self, model: str, region: str, slo_class: int, history: WorkloadHistory, now_us: int
    ) -> tuple[WorkloadForecast, ...]:
        self.settle(now_us)
        name = SeriesName(model, region, slo_class, history.window_us)
        self.engine.on_history(name, told_of(history.points, history.window_us), now_us)
        asking = self.engine.on_asked(name, self.who(), history.first_start_us, history.horizon_count, now_us)
        assert asking is not None, "the history was told just now"
        try:
            answer = asking.answer()
        except ForecastFailed as error:
            answer = asking.at_last(str(error))
        for refit in self.engine.on_answered(asking, answer, now_us):
            self._coming.append((now_us + self.delay_us, refit, _learned(refit)))
        return answer.forecasts


def _learned(refit: Refit) -> Learned | None:
    try:
        return learn(refit.policy, refit.series, lead_max_of(refit.name.window_us))
    except ForecastFailed:
        return None
