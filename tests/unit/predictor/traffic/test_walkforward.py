"""Who is trusted with a series, from forecasts of its own past."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forebay.core.units import US_PER_S
from forebay.predictor.policy.forecaster import Boosting, LastValue, LeastCost, Seasonal
from forebay.predictor.traffic.fitting import Fitted, Forecaster, ForecastFailed
from forebay.predictor.traffic.intervals import lead_grid
from forebay.predictor.traffic.mixing import weights_of
from forebay.predictor.traffic.series import Floats, Series
from forebay.predictor.traffic.tracks import Costs, Track, cost_of, walk, walk_all
from forebay.predictor.traffic.walkforward import average, choose, named

WINDOW_US = 600 * US_PER_S
DAY = 24 * 6
SEED = 7
LEAD_MAX = 12


def series(requests: Floats) -> Series:
    """Of these requests, with tokens in proportion."""
    return Series(np.column_stack((requests, 100 * requests, 30 * requests)), 0, WINDOW_US)


def wandering(count: int = 600) -> Floats:
    chance = np.random.default_rng(SEED)
    return 5_000 + np.cumsum(chance.integers(-8, 9, count)).astype(np.float64)


def daily(count: int = 600) -> Floats:
    chance = np.random.default_rng(SEED)
    return np.round(1_000 + 500 * np.sin(2 * np.pi * np.arange(count) / DAY) + chance.normal(0, 8, count))


@dataclass(frozen=True)
class Says:
    """Forecasts what a function of the last value says; counts its fits."""

    what: Callable[[float], float]
    fits: list[int] = field(default_factory=list)

    def fit(self, series: Series) -> Fitted:
        self.fits.append(len(series))
        return self

    def points(self, series: Series, horizon_count: int) -> Floats:
        return np.array([[self.what(value) for value in series.last]] * horizon_count)


@dataclass(frozen=True)
class Breaks:
    """Cannot be fitted to more than so many windows."""

    count_max: int

    def fit(self, series: Series) -> Fitted:
        if len(series) > self.count_max:
            raise ZeroDivisionError("too long for me")
        return LastValue().fit(series)


def test_with_a_daily_cycle_the_season_answers_far_ahead() -> None:
    chosen = choose({"last_value": LastValue(), "seasonal": Seasonal()}, series(daily()), LEAD_MAX, Costs())
    assert (chosen.weights[-1, chosen.names.index("seasonal")] > 0.5).all()
    found = chosen.points(series(daily()), LEAD_MAX)[-1, 0]
    assert found == pytest.approx(daily(612)[-1], abs=60)


def test_without_a_cycle_the_last_value_keeps_answering() -> None:
    told = series(wandering())
    chosen = choose({"last_value": LastValue(), "seasonal": Seasonal()}, told, LEAD_MAX, Costs())
    assert (chosen.names, chosen.label) == (("last_value",), "last_value")
    assert chosen.points(told, 3) == pytest.approx(np.tile(told.values[-1], (3, 1)))


def test_nobody_wins_by_chance() -> None:
    chance = np.random.default_rng(SEED)
    noise = {
        f"noise {one}": Says(lambda value, far=far: value * far) for one, far in enumerate(chance.normal(1, 2e-3, 9))
    }
    chosen = choose({"last_value": LastValue(), **noise}, series(wandering()), 3, Costs())
    assert chosen.label == "last_value"


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (Breaks(450), "too long for me"),
        (Breaks(0), "too long for me"),
        (Says(lambda value: math.nan), "no number"),
        (Says(lambda value: -value), "negative"),
        (Says(lambda value: math.inf), "no number"),
    ],
)
def test_a_failure_is_never_the_best(wrong: Forecaster, why: str) -> None:
    candidates = {"wrong": wrong, "last_value": LastValue()}
    chosen = choose(candidates, series(daily()), LEAD_MAX, Costs())
    assert chosen.names == ("last_value",)
    assert why in chosen.failures["wrong"]
    tracks = walk_all(candidates, series(daily()), lead_grid(3), Costs())
    assert np.isinf(cost_of(tracks["wrong"], Costs())).all()


def test_a_slow_fit_is_a_failure() -> None:
    passed = iter(range(0, 1_000, 30))
    chosen = choose(
        {"last_value": LastValue()}, series(daily()), 3, Costs(fit_s_max=40.0), stopwatch=lambda: float(next(passed))
    )
    assert not chosen.failures
    with pytest.raises(ForecastFailed, match="more than 20 s"):
        choose({"last_value": LastValue()}, series(daily()), 3, Costs(fit_s_max=20.0), lambda: float(next(passed)))


def test_where_all_fail_there_is_no_forecast() -> None:
    with pytest.raises(ForecastFailed, match="too long for me"):
        choose({"a": Breaks(3), "b": Breaks(3)}, series(daily()), 3, Costs())


def test_a_candidate_is_fitted_a_few_times_and_only_to_what_was_known() -> None:
    told = Says(lambda value: value)
    walk(told, series(daily()), np.arange(200, 599), lead_grid(3), Costs(fit_count=3))
    assert told.fits == [200, 333, 466]


def test_what_a_miss_costs_settles_who_is_cheapest() -> None:
    """One candidate is right on average but wild, the other a little low and steady: spare is cheap or dear."""
    truth = np.full((40, 1, 3), 100.0)
    origins, leads = np.arange(100, 140), np.array([1])
    low = Track(origins, leads, np.sqrt(np.full(truth.shape, 90.0)), np.sqrt(truth))
    wild = np.where(np.arange(40)[:, None, None] % 2, 85.0, 112.0) * np.ones(truth.shape)
    tracks = {"low": low, "wild": Track(origins, leads, np.sqrt(wild), np.sqrt(truth))}
    even = {name: np.nanmean(cost_of(track, Costs())) for name, track in tracks.items()}
    assert even["low"] < even["wild"]
    # A steady error is provisioned for once it is known, a wild one is paid for each time.
    dear = {name: np.nanmean(cost_of(track, Costs(under_cost=9.0))[20:]) for name, track in tracks.items()}
    assert dear["low"] == pytest.approx(0.0, abs=1e-9)
    assert dear["wild"] > 0.005


@pytest.mark.parametrize(("noise", "share"), [(0.2, 1.0), (8.0, 0.0)])
def test_a_gain_must_be_beyond_twice_its_error(noise: float, share: float) -> None:
    chance = np.random.default_rng(SEED)
    truth = np.full((144, 1, 3), 100.0)
    origins, leads = np.arange(100, 244), np.array([1])
    other = truth + 0.5 + noise * np.abs(chance.normal(0, 1, (144, 1, 1))) * np.resize((1, -1), (144, 1, 1))
    tracks = {"last_value": Track(origins, leads, truth + 1.0, truth), "other": Track(origins, leads, other, truth)}
    assert weights_of(tracks, Costs(), 244)[0, 1] == pytest.approx(share)


def test_few_forecasts_must_be_better_in_each_third() -> None:
    truth = np.full((60, 1, 3), 100.0)
    origins, leads = np.arange(30, 90), np.array([1])
    # The middle of the three parts costs more, both halves less.
    errors = np.where((np.arange(60) >= 20) & (np.arange(60) < 40), 1.1, 0.0)[:, None, None]
    tracks = {
        "last_value": Track(origins, leads, truth + 1.0, truth),
        "other": Track(origins, leads, truth + errors, truth),
    }
    assert not weights_of(tracks, Costs(), 90)[0, 1].any()


def test_a_spread_follows_what_errors_were_like_lately() -> None:
    chance = np.random.default_rng(SEED)
    calm, wild = (chance.normal(0, width, 500) for width in (30, 300))
    found = []
    for noise in (np.concatenate((wild, calm)), np.concatenate((calm, wild))):
        chosen = choose(named(["last_value"]), series(10_000 + noise), 1, Costs())
        found.append(chosen.spread.shifts[0, 0, 2])
    assert found[1] > 5 * found[0] > 0


def test_two_that_err_apart_are_mixed() -> None:
    chance = np.random.default_rng(SEED)
    size = (120, 1, 3)
    truth = np.full(size, 30.0)
    origins, leads = np.arange(100, 220), np.array([1])
    tracks = {
        name: Track(origins, leads, truth + chance.normal(0, 2, size), truth) for name in ("last_value", "b", "c")
    }
    weights = weights_of(tracks, Costs(), 220)[0, :, 0]
    assert (weights > 0).sum() == 3
    assert weights.sum() == pytest.approx(1.0)


def test_an_average_leaves_out_who_fails() -> None:
    candidates = {"last_value": LastValue(), "seasonal": Seasonal(), "broken": Breaks(3)}
    chosen = average(candidates, series(daily()), LEAD_MAX, Costs(), 3)
    assert sorted(chosen.names) == ["last_value", "seasonal"]
    assert (chosen.weights == 0.5).all()


@pytest.mark.parametrize("count", [1, 2, 5, 9])
def test_a_short_series_has_the_last_value(count: int) -> None:
    told = series(np.arange(1.0, count + 1))
    chosen = choose(named(("last_value", "seasonal")), told, LEAD_MAX, Costs())
    assert chosen.label == "last_value"
    assert (np.diff(chosen.spread.around(chosen.points(told, 3), np.arange(1, 4)), axis=2) >= 0).all()


def test_a_recent_error_counts_more_than_an_old_one() -> None:
    """Until two days ago the season told all; since then it tells nothing."""
    requests = daily(5 * DAY)
    requests[-2 * DAY :] = wandering(2 * DAY) / 5
    chosen = choose(named(("last_value", "seasonal")), series(requests), LEAD_MAX, Costs(half_life=0.1))
    assert chosen.label == "last_value"


def test_most_of_what_comes_is_below_its_90_percent_quantile() -> None:
    chance = np.random.default_rng(SEED)
    requests = chance.poisson(200 + 100 * np.sin(2 * np.pi * np.arange(900) / DAY)).astype(np.float64)
    told = series(requests)
    chosen = choose(named(("last_value", "seasonal")), told.until(600), LEAD_MAX, Costs())
    below = []
    for origin in range(600, 888):
        curves = chosen.spread.around(chosen.points(told.until(origin), LEAD_MAX), np.arange(1, LEAD_MAX + 1))
        below.append(requests[origin : origin + LEAD_MAX] <= curves[:, 0, 2])
    assert 0.85 < np.mean(below) < 0.96


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ForecastFailed, match=r"prophet.*last_value"):
        named(("prophet",))


@pytest.mark.parametrize("wrong", [{"under_cost": 0.0}, {"origin_count": 0}, {"sigma_count": -1.0}, {"fit_s_max": 0}])
def test_senseless_costs_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Costs(**wrong)  # type: ignore[arg-type]


def test_least_cost_needs_a_candidate() -> None:
    with pytest.raises(ValueError, match="candidates"):
        LeastCost(candidates=())


@settings(max_examples=15, deadline=None)
@given(
    cut=st.integers(30, 199),
    later=st.lists(st.floats(0, 1e6), min_size=200, max_size=200),
    gap=st.booleans(),
)
def test_no_later_window_changes_a_forecast_or_a_choice(cut: int, later: list[float], gap: bool) -> None:
    requests = wandering(200)
    changed = requests.copy()
    changed[cut:] = later[cut:]
    if gap:
        changed[cut] = np.nan
    origins, leads = np.arange(10, 200), np.array([1, 2, 6])
    for policy in (LastValue(), Seasonal(season_s=20 * 600), Boosting(season_s=20 * 600)):
        one, other = (walk(policy, series(told), origins, leads, Costs(fit_count=190)) for told in (requests, changed))
        both = (origins[:, None] <= cut) & np.isfinite(one.roots[:, :, 0]) & np.isfinite(other.roots[:, :, 0])
        assert np.array_equal(one.roots[both], other.roots[both])
    small = Costs(origin_count=20)
    first, second = (
        choose(named(("last_value", "seasonal")), series(told).until(cut), 6, small) for told in (requests, changed)
    )
    assert first.label == second.label
    assert np.array_equal(first.weights, second.weights)
    assert np.array_equal(first.points(series(requests).until(cut), 6), second.points(series(changed).until(cut), 6))
    assert np.array_equal(first.spread.shifts, second.spread.shifts)
