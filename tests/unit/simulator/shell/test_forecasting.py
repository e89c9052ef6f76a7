"""The live forecasting engine in virtual time."""

from dataclasses import dataclass

import numpy as np
import pytest

from forebay.core.values import WorkloadPoint
from forebay.predictor.policy.forecaster import FORECASTERS, Fitted, ForecastFailed, LeastError, WorkloadHistory
from forebay.predictor.traffic.asking import Who
from forebay.predictor.traffic.forecasting import ForecastingEngine, Settings
from forebay.predictor.traffic.series import Floats, Series
from forebay.simulator.shell.forecasting import LiveForecasts

S = 1_000_000
W = 10 * S


@dataclass(frozen=True)
class Level:
    """Answers one number, or cannot be fitted."""

    fails: bool = False

    def fit(self, series: Series) -> Fitted:
        if self.fails:
            raise ForecastFailed("no")
        return self

    def points(self, series: Series, horizon_count: int) -> Floats:
        return np.full((horizon_count, 3), 900.0)


def live(policy: object, delay_us: int = 5 * S, label: str = "level") -> LiveForecasts:
    who = Who(label, policy, "least_error", LeastError())  # type: ignore[arg-type]
    return LiveForecasts(ForecastingEngine(Settings(refit_s=60.0)), lambda: who, delay_us)


def history(end: int) -> WorkloadHistory:
    chance = np.random.default_rng(2)
    counts = chance.poisson(50, end).tolist()
    points = [WorkloadPoint(row * W, count, 9 * count, count) for row, count in enumerate(counts)]
    return WorkloadHistory(points, W, (end + 1) * W, 2)


def test_a_refit_is_heard_of_after_its_delay() -> None:
    forecasts = live(Level())
    ask = forecasts.of("m")
    first = ask(history(30), 300 * S)
    assert first[0].requests.p50 != 900
    assert ask(history(30), 305 * S - 1) == first
    assert forecasts.settle(305 * S) == 1
    assert ask(history(30), 305 * S)[0].requests.p50 == 900


def test_every_model_has_its_own_series() -> None:
    forecasts = live(Level())
    forecasts.of("a")(history(30), 300 * S)
    forecasts.of("b")(history(30), 302 * S)
    assert [forecasts.settle(at * S) for at in (304, 305, 307)] == [0, 1, 2]


def test_a_forecaster_that_cannot_be_fitted_leaves_the_fallback_answering() -> None:
    forecasts = live(Level(fails=True))
    ask = forecasts.of("m")
    first = ask(history(30), 300 * S)
    assert ask(history(30), 310 * S) == first
    assert forecasts.engine.counts.refit_failures == 1


@pytest.mark.parametrize("name", FORECASTERS)
def test_equal_questions_have_equal_answers(name: str) -> None:
    def run() -> list[object]:
        forecasts = live(FORECASTERS[name](), label=name)
        ask = forecasts.of("m")
        return [ask(history(end), (10 * end) * S) for end in (40, 41, 48, 49)]

    assert run() == run()
