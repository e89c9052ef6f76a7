import numpy as np
import pytest

from forebay.core.prediction import WorkloadForecast
from forebay.core.units import US_PER_S
from forebay.core.values import WorkloadPoint
from forebay.predictor.policy.forecaster import (
    FORECASTERS,
    Forecaster,
    LastValue,
    LeastError,
    Seasonal,
    WorkloadHistory,
)
from forebay.predictor.traffic.intervals import forecast_at_once

WINDOW_US = 60 * US_PER_S
START_US = 1_700_000_000 * US_PER_S // WINDOW_US * WINDOW_US
SEED = 11


def history(counts: list[int], horizon_count: int = 3, ahead: int = 1) -> WorkloadHistory:
    points = [
        WorkloadPoint(START_US + index * WINDOW_US, count, count * 100, count * 30)
        for index, count in enumerate(counts)
    ]
    return WorkloadHistory(points, WINDOW_US, START_US + (len(counts) - 1 + ahead) * WINDOW_US, horizon_count)


def medians(forecasts: tuple[WorkloadForecast, ...]) -> list[float]:
    return [round(forecast.requests.p50, 6) for forecast in forecasts]


QUICK = ("boosting", "last_value", "least_error", "seasonal", "smoothing")
"""Those that fit in no time; tests/contract has all of them."""


@pytest.fixture(params=QUICK)
def forecaster(request: pytest.FixtureRequest) -> Forecaster:
    return FORECASTERS[request.param]()


@pytest.mark.parametrize("counts", [[], [0] * 20, [5], [0, 0, 7, 0], list(range(300)), [1_000_000] * 50])
@pytest.mark.parametrize("horizon", [1, 100])
def test_every_history_has_an_orderly_forecast(forecaster: Forecaster, counts: list[int], horizon: int) -> None:
    found = forecast_at_once(forecaster, history(counts, horizon))
    assert len(found) == horizon
    for index, one in enumerate(found):
        assert one.start_us == found[0].start_us + index * WINDOW_US
        for quantiles in (one.requests, one.prompt_tokens, one.response_tokens):
            values = (quantiles.p10, quantiles.p50, quantiles.p90, quantiles.p97)
            assert all(np.isfinite(values))
            assert 0 <= values[0] <= values[1] <= values[2] <= values[3]


def test_nothing_known_forecasts_nothing(forecaster: Forecaster) -> None:
    assert medians(forecast_at_once(forecaster, history([0] * 30))) == [0, 0, 0]


def test_the_future_does_not_change_the_past(forecaster: Forecaster) -> None:
    generator = np.random.default_rng(SEED)
    counts = generator.poisson(40, 200).tolist()
    whole = history(counts)
    cut = WorkloadHistory(whole.points[:150], WINDOW_US, START_US + 150 * WINDOW_US, 3)
    shuffled_later = history(counts[:150] + counts[:149:-1])
    again = WorkloadHistory(shuffled_later.points[:150], WINDOW_US, START_US + 150 * WINDOW_US, 3)
    assert forecast_at_once(forecaster, cut) == forecast_at_once(forecaster, again)


def test_points_may_come_in_any_order(forecaster: Forecaster) -> None:
    whole = history(list(range(1, 60)))
    turned = WorkloadHistory(whole.points[::-1], WINDOW_US, whole.first_start_us, 3)
    assert forecast_at_once(forecaster, whole) == forecast_at_once(forecaster, turned)


def test_windows_before_the_first_traffic_are_not_history(forecaster: Forecaster) -> None:
    busy = [40, 42, 38, 41] * 10
    late = WorkloadHistory(history([0] * 500 + busy).points, WINDOW_US, START_US + 540 * WINDOW_US, 2)
    plain = WorkloadHistory(history([0] * 500 + busy).points[500:], WINDOW_US, START_US + 540 * WINDOW_US, 2)
    assert forecast_at_once(forecaster, late) == forecast_at_once(forecaster, plain)


def test_the_last_value_is_the_median() -> None:
    assert medians(forecast_at_once(LastValue(), history([3, 9, 4, 7]))) == [7, 7, 7]


def test_a_gap_is_not_zero() -> None:
    whole = history([20] * 30 + [20] * 3)
    holed = WorkloadHistory([*whole.points[:28], whole.points[29]], WINDOW_US, whole.first_start_us, 1)
    (found,) = forecast_at_once(LastValue(), holed)
    assert found.requests.p10 == pytest.approx(20)
    assert found.requests.p97 == pytest.approx(20)


def test_a_window_without_traffic_is_zero() -> None:
    assert medians(forecast_at_once(LastValue(), history([20] * 30 + [0]))) == [0, 0, 0]


def test_spread_is_what_the_method_got_wrong() -> None:
    generator = np.random.default_rng(SEED)
    counts = generator.poisson(100, 2000).tolist()
    found = [forecast_at_once(LastValue(), history(counts[:end], 1))[0].requests for end in range(300, 1999, 10)]
    truth = counts[300:1999:10]
    pairs = list(zip(found, truth, strict=True))
    assert 0.85 < np.mean([actual <= one.p90 for one, actual in pairs]) < 0.95
    assert 0.05 < np.mean([actual <= one.p10 for one, actual in pairs]) < 0.15


def test_the_spread_grows_with_the_lead_where_traffic_wanders() -> None:
    generator = np.random.default_rng(SEED)
    counts = (500 + np.cumsum(generator.integers(-5, 6, 2000))).clip(1).tolist()
    found = forecast_at_once(LastValue(), history(counts, 100))
    near, far = (one.requests.p90 - one.requests.p10 for one in (found[0], found[-1]))
    assert far > 3 * near


def test_a_season_repeats() -> None:
    day = [10, 50, 90, 50]
    found = forecast_at_once(Seasonal(season_s=4 * 60), history(day * 20, 6))
    assert medians(found) == [10, 50, 90, 50, 10, 50]
    assert all(one.requests.p10 == pytest.approx(one.requests.p97) for one in found)


def test_a_season_counts_from_the_last_known_window() -> None:
    day = [10, 50, 90, 50]
    found = forecast_at_once(Seasonal(season_s=4 * 60), history(day * 20, 3, ahead=2))
    assert medians(found) == [50, 90, 50]


def test_before_a_full_season_the_last_value_answers() -> None:
    counts = [10, 20, 30]
    assert forecast_at_once(Seasonal(season_s=4 * 60), history(counts)) == forecast_at_once(
        LastValue(), history(counts)
    )


def test_tokens_are_forecast_beside_requests() -> None:
    (found,) = forecast_at_once(LastValue(), history([10] * 20, 1))
    assert (found.prompt_tokens.p50, found.response_tokens.p50) == pytest.approx((1000, 300))


def test_with_little_history_the_spread_is_that_of_chance() -> None:
    (found,) = forecast_at_once(LastValue(), history([100], 1))
    assert found.requests.p90 == pytest.approx(100 + 1.2816 * 10, abs=1)


def test_a_long_horizon_over_a_long_history_is_quick_enough_to_ask_for() -> None:
    generator = np.random.default_rng(SEED)
    counts = generator.poisson(30, 10_000).tolist()
    assert len(forecast_at_once(Seasonal(), history(counts, 1440))) == 1440


def test_a_senseless_season_is_refused() -> None:
    with pytest.raises(ValueError, match="season_s"):
        Seasonal(season_s=0)


def cycle(days: int = 12) -> list[int]:
    """Days of 48 windows with a smooth cycle; some days are busier than others."""
    generator = np.random.default_rng(SEED)
    busier = np.repeat(generator.normal(0, 150, days), 48)
    day = 1000 + 500 * np.sin(2 * np.pi * np.arange(48 * days) / 48)
    return np.round(day + busier).astype(int).tolist()


def wandering() -> list[int]:
    """Traffic without a cycle: its level goes where it goes."""
    generator = np.random.default_rng(SEED)
    return (5000 + np.cumsum(generator.integers(-8, 9, 600))).tolist()


def test_with_a_daily_cycle_the_last_value_answers_near_and_the_season_far() -> None:
    counts = cycle()
    found = medians(forecast_at_once(LeastError(season_s=48 * 60), history(counts, 24)))
    assert found[0] == counts[-1]
    assert found[12:] == counts[-48 + 12 : -48 + 24]


def test_without_a_cycle_the_last_value_answers_at_any_lead() -> None:
    counts = wandering()
    assert medians(forecast_at_once(LeastError(season_s=48 * 60), history(counts, 24))) == [counts[-1]] * 24


def test_before_a_season_is_known_the_last_value_answers_in_its_place() -> None:
    counts = cycle()[:50]
    assert forecast_at_once(LeastError(season_s=48 * 60), history(counts)) == forecast_at_once(
        LastValue(), history(counts)
    )
