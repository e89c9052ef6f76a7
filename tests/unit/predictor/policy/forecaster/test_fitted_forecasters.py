"""Forecasters that fit a model, or run a network."""

import numpy as np
import pytest

from forebay.core.units import US_PER_S
from forebay.predictor.policy.forecaster import (
    AutoArima,
    AutoEts,
    AutoTheta,
    Boosting,
    Ensemble,
    Forecaster,
    ForecastFailed,
    Lstm,
    Mstl,
    Smoothing,
)
from forebay.predictor.traffic.series import Floats, Series

WINDOW_US = 3_600 * US_PER_S
DAY = 24
SEED = 2


def series(requests: Floats) -> Series:
    return Series(np.column_stack((requests, 100 * requests, 30 * requests)), 0, WINDOW_US)


def daily(count: int) -> Floats:
    return 1_000 + 600 * np.sin(2 * np.pi * np.arange(count) / DAY)


@pytest.mark.parametrize(
    "policy", [AutoArima(), AutoEts(), AutoTheta(), Mstl(), Smoothing()], ids=lambda one: type(one).__name__
)
def test_a_daily_cycle_goes_on(policy: Forecaster) -> None:
    chance = np.random.default_rng(SEED)
    told = series(daily(5 * DAY) + chance.normal(0, 10, 5 * DAY))
    found = policy.fit(told).points(told, DAY)[:, 0]
    assert np.abs(found - daily(6 * DAY)[-DAY:]).mean() < 60


@pytest.mark.parametrize("policy", [AutoEts(), Mstl()], ids=lambda one: type(one).__name__)
def test_a_fit_answers_from_what_came_since(policy: Forecaster) -> None:
    chance = np.random.default_rng(SEED)
    level = 1_000 + np.cumsum(chance.normal(0, 10, 90))
    level[60:] += 1_000
    told = series(level)
    fitted = policy.fit(told.until(60))
    assert fitted.points(told.until(60), 1)[0, 0] == pytest.approx(level[59], rel=0.1)
    assert fitted.points(told, 1)[0, 0] > 1_500


def test_a_short_series_has_its_last_value() -> None:
    told = series(np.array([3.0, 9.0, 4.0]))
    assert AutoArima().fit(told).points(told, 4)[:, 0] == pytest.approx([4.0] * 4)


@pytest.mark.parametrize("kind", [AutoArima, AutoEts, AutoTheta, Mstl, Boosting])
def test_a_season_of_no_length_is_refused(kind: type) -> None:
    with pytest.raises(ValueError, match="season_s"):
        kind(season_s=0)


def test_the_lstm_walks_on_from_its_own_forecasts() -> None:
    told = series(daily(60))
    fitted = Lstm().fit(told)
    first = fitted.points(told, 2)
    longer = series(np.append(daily(60), first[0, 0]))
    assert fitted.points(longer, 1)[0] == pytest.approx(first[1], rel=1e-4)


def test_the_lstm_tells_a_constant_as_it_is() -> None:
    told = series(np.full(40, 50.0))
    assert Lstm().fit(told).points(told, 3)[:, 0] == pytest.approx([50.0] * 3)


def test_an_ensemble_is_the_mean_in_roots() -> None:
    chance = np.random.default_rng(SEED)
    told = series(daily(5 * DAY) + chance.normal(0, 10, 5 * DAY))
    found = Ensemble(candidates=("last_value", "seasonal"), best_count=2).fit(told).points(told, 6)[:, 0]
    roots = (np.sqrt(told.values[-1, 0]) + np.sqrt(told.values[-DAY : -DAY + 6, 0])) / 2
    assert found == pytest.approx(roots**2)


def test_an_ensemble_of_nobody_is_refused() -> None:
    with pytest.raises(ValueError, match="candidates"):
        Ensemble(candidates=())
    with pytest.raises(ForecastFailed, match="prophet"):
        Ensemble(candidates=("prophet",)).fit(series(daily(9)))


def test_smoothing_follows_a_level_through_noise_and_lets_its_trend_die() -> None:
    chance = np.random.default_rng(3)
    noisy = chance.poisson(100, size=400).astype(np.float64)
    told = series(noisy)
    ahead = Smoothing().fit(told).points(told, 50)[:, 0]
    assert abs(ahead[0] - 100) < abs(noisy[-30:] - 100).mean()
    rising = series(np.concatenate((np.full(20, 100.0), 100 + 10 * np.arange(1, 21))))
    steps = np.diff(np.sqrt(Smoothing().fit(rising).points(rising, 30)[:, 0]))
    assert steps[0] > 0
    assert (np.diff(steps) < 1e-9).all()


def test_smoothing_says_the_same_of_many_moments_at_once() -> None:
    chance = np.random.default_rng(4)
    told = series(200 + 50 * np.sin(np.arange(432) / 144 * 2 * np.pi) + chance.normal(0, 9, 432))
    fitted = Smoothing().fit(told.until(300))
    origins, leads = np.array([300, 350, 431]), np.array([1, 6, 12])
    batch = fitted.points_at(told, origins, leads)
    for row, origin in enumerate(origins.tolist()):
        assert batch[row] == pytest.approx(fitted.points(told.until(origin), 12)[leads - 1], rel=1e-3)
