"""Forecasts for the autoscaler: the live predictor's forecaster on the history that the metrics service would tell."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from forebay.autoscaler.policy.autoscaler.base import ForecastWindow, Needs
from forebay.core.metrics import RequestRecord
from forebay.core.prediction import Quantiles, WorkloadForecast
from forebay.core.units import US_PER_S
from forebay.core.values import WorkloadPoint
from forebay.predictor.policy.forecaster import WorkloadHistory
from forebay.simulator.shell.forecasting import Forecast

WINDOW_US = 60 * US_PER_S
"""The window of a policy that names none."""


@dataclass(slots=True)
class _Series:
    """The complete and begun windows of one model from the start of the run; `version` grows with every record."""

    forecast: Forecast
    points: list[WorkloadPoint] = field(default_factory=list)
    version: int = 0
    asked: tuple[int, int, int] = (-1, -1, -1)
    answer: tuple[ForecastWindow, ...] = ()


class Forecasts:
    """What the policy wants to know of the windows to come, by model; nothing where it wants to know nothing.

    A request is part of the history once it has ended, in the window in which it arrived, as in the metrics service.
    A forecast is made anew whenever its history has changed, or more refits have ended by a time than before (which
    `settle` tells), and reads `history_s` of it, `points_max` windows at most. `forecast` answers for every model, or
    is one for each: nothing in a history says whose it is.
    """

    def __init__(
        self,
        needs: Needs,
        models: tuple[str, ...],
        forecast: Forecast | Mapping[str, Forecast],
        history_s: int,
        points_max: int,
        settle: Callable[[int], int] = lambda _: 0,
    ) -> None:
        self._settle = settle
        self._count = needs.forecast_count
        self._window_us = needs.forecast_window_us or WINDOW_US
        self._span_us = min(history_s * US_PER_S, points_max * self._window_us)
        each = forecast if isinstance(forecast, Mapping) else dict.fromkeys(models, forecast)
        self._series = {model: _Series(each[model]) for model in models} if self._count else {}

    def reported(self, record: RequestRecord) -> None:
        """A request ended."""
        series = self._series.get(record.model)
        if series is None:
            return
        number = record.arrival_us // self._window_us
        self._reach(series, number + 1)
        point = series.points[number]
        series.version += 1
        series.points[number] = WorkloadPoint(
            point.start_us,
            point.request_count + 1,
            point.prompt_tokens + record.prompt_tokens,
            point.response_tokens + record.response_tokens,
        )

    def at(self, now_us: int) -> Mapping[str, tuple[ForecastWindow, ...]]:
        """The forecasts of the windows that have not begun, from those that are complete."""
        settled_count = self._settle(now_us)
        return {model: self._answer(series, now_us, settled_count) for model, series in self._series.items()}

    def _answer(self, series: _Series, now_us: int, settled_count: int) -> tuple[ForecastWindow, ...]:
        end = now_us // self._window_us
        asked = (end, series.version, settled_count)
        if series.asked != asked:
            self._reach(series, end)
            start = max(0, end - self._span_us // self._window_us)
            first_us = (end + 1) * self._window_us
            history = WorkloadHistory(series.points[start:end], self._window_us, first_us, self._count)
            series.answer = tuple(map(_window, series.forecast(history, now_us)))
            series.asked = asked
        return series.answer

    def _reach(self, series: _Series, count: int) -> None:
        """Windows without a request are zeros."""
        for number in range(len(series.points), count):
            series.points.append(WorkloadPoint(number * self._window_us, 0, 0, 0))


def _window(forecast: WorkloadForecast) -> ForecastWindow:
    return ForecastWindow(
        forecast.start_us,
        _quantiles(forecast.requests),
        _quantiles(forecast.prompt_tokens),
        _quantiles(forecast.response_tokens),
    )


def _quantiles(quantiles: Quantiles) -> tuple[float, float, float, float]:
    return (quantiles.p10, quantiles.p50, quantiles.p90, quantiles.p97)
