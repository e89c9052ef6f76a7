"""Scores of forecasters that are walked through a series."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from forebay.core.prediction import QUANTILE_LEVELS
from forebay.core.units import US_PER_S
from forebay.predictor.policy.forecaster import Fitted, ForecastFailed, LastValue, Seasonal
from forebay.predictor.traffic.backtest import Walk, Walked, score, walk
from forebay.predictor.traffic.series import Floats, Series

W = 600 * US_PER_S
SEED = 9


def ticking() -> float:
    return 0.0


def series(counts: list[float]) -> Series:
    return Series(np.column_stack((counts, counts, counts)).astype(float), 0, W)


def noisy(count: int = 300) -> Series:
    return series(np.random.default_rng(SEED).poisson(200, count).tolist())


@dataclass
class Spying:
    """The last value, keeping what it was shown."""

    fitted: list[int] = field(default_factory=list)
    asked: list[int] = field(default_factory=list)

    def fit(self, series: Series) -> Fitted:
        self.fitted.append(len(series))
        return self

    def points(self, series: Series, horizon_count: int) -> Floats:
        self.asked.append(len(series))
        return np.tile(series.last, (horizon_count, 1))


def test_nothing_from_later_is_shown() -> None:
    spy = Spying()
    walked = walk(spy, noisy(100), Walk((1, 6), 50, 5, 20), ticking)
    assert walked.origins.tolist() == list(range(50, 100, 5))
    assert spy.fitted == [50, 70, 90]
    assert max(spy.asked) == 95


def test_changing_the_future_changes_no_forecast_made_before() -> None:
    first, second = noisy(120), noisy(120)
    second.values[90:] *= 7
    plan = Walk((1, 3), 60, 1, 12)
    one, other = (walk(LastValue(), known, plan, ticking).curves for known in (first, second))
    assert np.array_equal(one[:31], other[:31])
    assert not np.array_equal(one[31:], other[31:])


def test_forecasts_are_compared_with_the_window_that_they_are_of() -> None:
    walked = walk(LastValue(), series(list(range(100))), Walk((1, 6), 50, 10, 10), ticking)
    assert walked.truth[0, :, 0].tolist() == [50, 55]
    assert walked.curves[0, :, 0, 1].tolist() == [49, 49]
    assert walked.truth[-1, :, 0].tolist() == [90, 95]


def test_a_perfect_forecast_scores_nothing_and_the_last_value_what_it_missed() -> None:
    day = [100.0, 500.0, 900.0, 500.0] * 60
    plan = Walk((1,), 120, 1, 40)
    season = walk(Seasonal(season_s=4 * 600), series(day), plan, ticking)
    last = walk(LastValue(), series(day), plan, ticking)
    assert score(season, 0, 0).wape == pytest.approx(0.0, abs=1e-9)
    assert score(season, 0, 0).pinball == pytest.approx(0.0, abs=1e-9)
    assert score(last, 0, 0).wape == pytest.approx(400 / 500)


def test_scores_are_what_their_names_say() -> None:
    curves = np.tile(np.array([5.0, 10.0, 20.0, 30.0]), (4, 1, 3, 1))
    truth = np.tile(np.array([8.0, 12.0, 25.0, np.nan])[:, None, None], (1, 1, 3))
    found = score(Walked(np.arange(4), curves, truth), 0, 0)
    assert (found.count, found.coverage_p90) == (3, pytest.approx(2 / 3))
    assert found.wape == pytest.approx((2 + 2 + 15) / 45)
    losses = [
        max(level * (value - forecast), (level - 1) * (value - forecast))
        for value in (8.0, 12.0, 25.0)
        for level, forecast in zip(QUANTILE_LEVELS, (5.0, 10.0, 20.0, 30.0), strict=True)
    ]
    assert found.pinball == pytest.approx(np.mean(losses) / 15)


def test_coverage_of_noise_is_near_what_is_promised() -> None:
    walked = walk(LastValue(), noisy(600), Walk((1,), 300, 1, 30), ticking)
    assert 0.85 < score(walked, 0, 0).coverage_p90 < 0.95


def test_windows_that_nobody_knows_are_not_scored() -> None:
    known = noisy(100)
    known.values[70:80] = np.nan
    walked = walk(LastValue(), known, Walk((1,), 50, 1, 10), ticking)
    assert score(walked, 0, 0).count == 40


def test_a_series_without_traffic_has_no_score() -> None:
    found = score(walk(LastValue(), series([0.0] * 60), Walk((1,), 30), ticking), 0, 0)
    assert np.isnan(found.wape)


@dataclass(frozen=True)
class Failing:
    """Cannot be fitted, or cannot answer."""

    fits: bool

    def fit(self, series: Series) -> Fitted:
        if not self.fits:
            raise ForecastFailed("no")
        return self

    def points(self, series: Series, horizon_count: int) -> Floats:
        if len(series) >= 50:
            raise ZeroDivisionError
        return np.tile(series.last, (horizon_count, 1))


@pytest.mark.parametrize(("fits", "failure_count"), [(False, 5), (True, 10 + 4)])
def test_failures_are_counted_and_the_last_value_stands_in(fits: bool, failure_count: int) -> None:
    plan = Walk((1,), 50, 1, 10)
    walked = walk(Failing(fits), noisy(100), plan, ticking)
    assert walked.failure_count == failure_count
    assert np.array_equal(walked.curves[..., 1], walk(LastValue(), noisy(100), plan, ticking).curves[..., 1])


@pytest.mark.parametrize("changes", [{"leads": ()}, {"leads": (0,)}, {"first": 1}, {"step": 0}, {"refit": 0}])
def test_a_senseless_walk_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Walk(**{"leads": (1,), "first": 10, **changes})  # type: ignore[arg-type]
