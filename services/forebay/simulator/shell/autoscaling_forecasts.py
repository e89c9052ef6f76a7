"""Forecasts for the autoscaler: the live predictor's forecaster on the history that the metrics service would tell."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from forebay.autoscaler.demands import Key
from forebay.autoscaler.forecasts import WINDOW_US, Forecasts, Windows, turn_of
from forebay.autoscaler.policy.autoscaler.base import ForecastWindow, Needs
from forebay.core.metrics import RequestRecord
from forebay.core.prediction import Quantiles, WorkloadForecast
from forebay.core.units import US_PER_S
from forebay.core.values import WorkloadPoint
from forebay.predictor.policy.forecaster import WorkloadHistory
from forebay.simulator.shell.forecasting import Forecast, Forecasters


@dataclass(slots=True)
class _Series:
    """The complete and begun windows of one series from the start of the run.

    `version` grows with every record of a window that was complete when the series was last looked at.
    """

    forecast: Forecast
    points: list[WorkloadPoint] = field(default_factory=list)
    version: int = 0
    asked: tuple[int, int, int, int] = (-1, -1, -1, -1)
    turn: int = -1
    answer: Windows = ()


class RunForecasts:
    """What the policy wants to know of the windows to come; nothing where it wants to know nothing.

    A request is part of the history once it has ended, in the window in which it arrived, as in the metrics service.
    A model's forecast is made anew whenever its history has changed, or more refits have ended by a time than before
    (which `settle` tells), that of a demand only a few times a window, as the live shell does. Both read `history_s` of
    it, `points_max` windows at most, and none that ended less than `history_settle_us` ago.
    """

    def __init__(
        self,
        needs: Needs,
        models: tuple[str, ...],
        forecasters: Forecasters,
        history_s: int,
        points_max: int,
        settle: Callable[[int], int] = lambda _: 0,
        history_settle_us: int = 0,
    ) -> None:
        self._history_settle_us = history_settle_us
        self._settle = settle
        self._count = needs.forecast_count
        self._window_us = needs.forecast_window_us or WINDOW_US
        self._span_us = min(history_s * US_PER_S, points_max * self._window_us)
        self._forecasters = forecasters
        self._models = {model: _Series(forecasters(model)) for model in models} if self._count else {}
        self._demands: dict[Key, _Series] = {}
        self._has_demands = needs.by_demand

    def reported(self, record: RequestRecord) -> None:
        """A request ended."""
        model = self._models.get(record.model)
        if model is None:
            return
        self._add(model, record)
        if self._has_demands:
            self._add(self._of_demand((record.model, record.region, record.slo_class)), record)

    def at(self, now_us: int, demands: Sequence[Key] = ()) -> Forecasts:
        """The forecasts of the windows that have not begun, from those that are complete."""
        settled_count = self._settle(now_us)
        models = {model: self._answer(series, now_us, settled_count) for model, series in self._models.items()}
        return Forecasts(models, {key: self._now_and_then(key, now_us) for key in demands if self._wants(key)})

    def _wants(self, key: Key) -> bool:
        return self._has_demands and key[0] in self._models

    def _of_demand(self, key: Key) -> _Series:
        if key not in self._demands:
            self._demands[key] = _Series(self._forecasters(*key))
        return self._demands[key]

    def _add(self, series: _Series, record: RequestRecord) -> None:
        number = record.arrival_us // self._window_us
        self._reach(series, number + 1)
        point = series.points[number]
        series.version += number < series.asked[0]
        series.points[number] = WorkloadPoint(
            point.start_us,
            point.request_count + 1,
            point.prompt_tokens + record.prompt_tokens,
            point.response_tokens + record.response_tokens,
        )

    def _now_and_then(self, key: Key, now_us: int) -> Windows:
        series, turn = self._of_demand(key), turn_of(now_us, self._window_us)
        if series.turn != turn or not series.answer:
            series.turn = turn
            self._answer(series, now_us, self._settle(now_us))
        return series.answer

    def _answer(self, series: _Series, now_us: int, settled_count: int) -> Windows:
        end = max(0, now_us - self._history_settle_us) // self._window_us
        first = now_us // self._window_us + 1
        asked = (end, first, series.version, settled_count)
        if series.asked != asked:
            self._reach(series, end)
            start = max(0, end - self._span_us // self._window_us)
            points = series.points[start:end]
            history = WorkloadHistory(points, self._window_us, first * self._window_us, self._count)
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
