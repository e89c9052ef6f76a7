"""Features of the past for the network of all series."""

import numpy as np
import pytest

from forebay.predictor.traffic.lags import LAG_COUNT, Past, forecast_from, lag_features, pasts_of

SEED = 5
SEASON = 48


def requests(count: int = 300) -> np.ndarray:
    chance = np.random.default_rng(SEED)
    return chance.poisson(100 + 50 * np.sin(2 * np.pi * np.arange(count) / SEASON)).astype(np.float64)


def past(values: np.ndarray) -> Past:
    return pasts_of(np.column_stack((values, 10 * values, values)), SEASON)[0]


def pairs() -> tuple[np.ndarray, np.ndarray]:
    origins, leads = np.meshgrid([1, 2, 5, 30, 49, 150, 200], [1, 2, 6, 12, 48, 49, 144])
    return origins.ravel(), leads.ravel()


def test_there_are_as_many_features_as_said_and_all_are_numbers() -> None:
    features, *_ = lag_features(past(requests()), *pairs())
    assert features.shape == (49, LAG_COUNT)
    assert np.isfinite(features).all()


def test_nothing_after_the_origin_is_read() -> None:
    changed = requests()
    changed[200:] = 1e6
    for one, other in zip(lag_features(past(requests()), *pairs()), lag_features(past(changed), *pairs()), strict=True):
        assert np.array_equal(one, other)


def test_a_pair_has_the_same_features_in_any_company() -> None:
    origins, leads = pairs()
    together, *_ = lag_features(past(requests()), origins, leads)
    for row in range(0, len(origins), 5):
        alone, *_ = lag_features(past(requests()), origins[row : row + 1], leads[row : row + 1])
        assert alone[0] == pytest.approx(together[row])


def test_features_do_not_tell_the_level() -> None:
    """Ten times the traffic looks the same, but for chance, which is smaller."""
    small, big = (pasts_of(np.column_stack((told,) * 3), SEASON)[0] for told in (requests(), 10 * requests()))
    big.unit = 10 * big.unit
    for one, other in zip(lag_features(small, *pairs())[:3], lag_features(big, *pairs())[:3], strict=True):
        assert one == pytest.approx(other, abs=1e-6)


def test_no_step_is_the_last_value() -> None:
    origins, leads = pairs()
    _, last, step, scale = lag_features(past(requests()), origins, leads)
    assert forecast_from(np.zeros(len(origins)), last, step, scale) == pytest.approx(requests()[origins - 1])
    assert (forecast_from(np.full(len(origins), -1e9), last, step, scale) == 0).all()


@pytest.mark.parametrize("values", [[0.0], [7.0], [0.0] * 100, [5.0] * 100, [0.0] * 60 + [9.0]])
def test_silence_and_constants_are_no_trouble(values: list[float]) -> None:
    features, _, step, _ = lag_features(past(np.array(values)), np.array([len(values)] * 2), np.array([1, 144]))
    assert np.isfinite(features).all()
    assert (step > 0).all()
