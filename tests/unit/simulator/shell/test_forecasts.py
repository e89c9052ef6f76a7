"""Forecasts in virtual time: the live forecaster on the history that metrics would tell."""

from dataclasses import dataclass, field, replace

from forebay.autoscaler.policy.autoscaler.base import Choice, ForecastWindow, Needs, PerPool, PoolView
from forebay.core.metrics import RequestRecord, RequestStatus
from forebay.core.prediction import WorkloadForecast
from forebay.core.values import WorkloadPoint
from forebay.predictor.policy.forecaster import LastValue, WorkloadHistory
from forebay.predictor.traffic.intervals import forecast_at_once
from forebay.simulator.shell.autoscaling_forecasts import RunForecasts
from tests.unit.simulator.shell.stage import Stage, world
from tests.unit.simulator.shell.test_observing import RECORD

W = 10_000_000
NEEDS = Needs(history_us=W, forecast_window_us=W, forecast_count=2)


@dataclass(frozen=True)
class Curious(PerPool):
    """Keeps what it is shown."""

    seen: list[tuple[int, tuple[ForecastWindow, ...]]] = field(default_factory=list)

    @property
    def needs(self) -> Needs:
        """Two windows of ten seconds."""
        return NEEDS

    def choose(self, view: PoolView) -> Choice:
        """One instance."""
        self.seen.append((view.now_us, view.forecast))
        return Choice(1, 1, "enough")


def at_last(history: WorkloadHistory, now_us: int) -> tuple[WorkloadForecast, ...]:
    return forecast_at_once(LastValue(), history)


def ended(arrival_us: int, prompt_tokens: int = 10, response_tokens: int = 5) -> RequestRecord:
    plain = RequestRecord("r", "m", arrival_us, RequestStatus.OK)
    return replace(plain, prompt_tokens=prompt_tokens, response_tokens=response_tokens)


def test_the_history_holds_complete_windows_with_zeros_and_what_has_ended() -> None:
    asked: list[WorkloadHistory] = []

    def forecast(history: WorkloadHistory, now_us: int) -> tuple[()]:
        asked.append(history)
        return ()

    forecasts = RunForecasts(NEEDS, ("m",), lambda *_: forecast, 86_400, 1_000)
    for arrival_us in (1, 2, 2 * W, 3 * W + 5):
        forecasts.reported(ended(arrival_us))
    forecasts.at(3 * W + 9)
    points = [WorkloadPoint(0, 2, 20, 10), WorkloadPoint(W, 0, 0, 0), WorkloadPoint(2 * W, 1, 10, 5)]
    assert asked == [WorkloadHistory(points, W, 4 * W, 2)]


def test_a_forecast_is_made_again_only_when_its_history_changes() -> None:
    count = 0

    def forecast(history: WorkloadHistory, now_us: int) -> tuple[()]:
        nonlocal count
        count += 1
        return ()

    forecasts = RunForecasts(NEEDS, ("m",), lambda *_: forecast, 86_400, 1_000)
    for now_us in (0, 1, W - 1):
        forecasts.at(now_us)
    assert count == 1
    # The window that runs is no part of it, and what ends late is.
    forecasts.reported(ended(5))
    forecasts.at(W - 1)
    assert count == 1
    forecasts.at(W)
    assert count == 2
    forecasts.reported(ended(6))
    forecasts.at(W + 1)
    assert count == 3


def test_a_window_is_part_of_the_history_once_its_longest_answers_can_have_ended() -> None:
    asked: list[WorkloadHistory] = []

    def forecast(history: WorkloadHistory, now_us: int) -> tuple[()]:
        asked.append(history)
        return ()

    forecasts = RunForecasts(NEEDS, ("m",), lambda *_: forecast, 86_400, 1_000, history_settle_us=W + 5)
    for now_us in (W + 4, 2 * W + 4, 2 * W + 5, 3 * W):
        forecasts.at(now_us)
    assert [(len(one.points), one.first_start_us // W) for one in asked] == [(0, 2), (0, 3), (1, 3), (1, 4)]


def test_the_history_is_as_long_as_configured() -> None:
    asked: list[int] = []

    def forecast(history: WorkloadHistory, now_us: int) -> tuple[()]:
        asked.append(len(history.points))
        return ()

    RunForecasts(NEEDS, ("m",), lambda *_: forecast, 50, 1_000).at(100 * W)
    RunForecasts(NEEDS, ("m",), lambda *_: forecast, 86_400, 7).at(100 * W)
    assert asked == [5, 7]


def test_the_policy_sees_what_the_live_forecaster_says() -> None:
    policy = Curious()
    stage = Stage(world(), {}, policy=policy, forecast=at_last)
    stage.until(3)
    for _ in range(4):
        stage.fleet.reported(replace(RECORD, arrival_us=2_000_000))
    stage.until(12)
    now_us, windows = policy.seen[-1]
    assert now_us == 12_000_000
    assert [window.start_us for window in windows] == [2 * W, 3 * W]
    history = WorkloadHistory([WorkloadPoint(0, 4, 404, 80)], W, 2 * W, 2)
    first = at_last(history, now_us)[0]
    assert windows[0].requests == (first.requests.p10, 4.0, first.requests.p90, first.requests.p97)
    assert windows[0].prompt_tokens[1] == 404.0
    assert windows[0].response_tokens[1] == 80.0


def test_a_policy_that_needs_no_forecast_costs_none() -> None:
    def forecast(history: WorkloadHistory, now_us: int) -> tuple[()]:
        raise AssertionError("nobody asked")

    stage = Stage(world(), {"policy": "kpa"}, forecast=forecast)
    stage.fleet.reported(RECORD)
    stage.until(10)
