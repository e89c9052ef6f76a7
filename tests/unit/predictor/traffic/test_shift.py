"""Where a series changed its level for good."""

import numpy as np

from forebay.core.units import US_PER_S
from forebay.predictor.traffic.series import Series
from forebay.predictor.traffic.shift import since_shift

HOUR_US = 3_600 * US_PER_S


def series(requests: np.ndarray) -> Series:
    return Series(np.column_stack((requests,) * 3).astype(np.float64), 0, HOUR_US)


def day(count: int, level: float) -> np.ndarray:
    return level * (1 + 0.3 * np.sin(2 * np.pi * np.arange(count) / 24))


def test_a_lasting_shift_makes_gaps_of_what_was_before() -> None:
    told = since_shift(series(np.concatenate((day(240, 100), day(96, 1_000)))))
    assert len(told) == 336
    assert np.isnan(told.values[:216]).all()
    assert not np.isnan(told.values[246:]).any()


def test_a_daily_cycle_is_no_shift() -> None:
    told = series(day(336, 100))
    assert since_shift(told) is told


def test_a_peak_that_goes_away_is_no_shift() -> None:
    requests = day(336, 100)
    requests[300:310] *= 20
    told = series(requests)
    assert since_shift(told) is told


def test_noise_is_no_shift() -> None:
    told = series(np.random.default_rng(3).poisson(10, 400))
    assert since_shift(told) is told


def test_a_short_series_is_left_alone() -> None:
    told = series(np.concatenate((day(48, 100), day(24, 1_000))))
    assert since_shift(told) is told
