"""Bursts, the time until promises are kept again, and the worst seconds, on cases that one can count."""

import numpy as np
import pytest

from forebay.simulator.bursts import find_bursts, peak, recovery_s

S = 1_000_000


def steady(rate: float, start_s: float, end_s: float) -> np.ndarray:
    return np.arange(start_s, end_s, 1 / rate) * S


def arrivals(*parts: np.ndarray) -> np.ndarray:
    return np.sort(np.concatenate(parts)).astype(np.int64)


def test_a_burst_begins_where_the_rate_doubles() -> None:
    assert find_bursts(arrivals(steady(1, 0, 1_800), steady(7, 900, 1_020))) == [900 * S]


def test_steady_traffic_and_slow_growth_have_no_burst() -> None:
    assert find_bursts(arrivals(steady(2, 0, 3_600))) == []
    growing = arrivals(*(steady(1 + step / 10, 60 * step, 60 * step + 60) for step in range(60)))
    assert find_bursts(growing) == []


def test_a_handful_of_requests_is_no_burst() -> None:
    assert find_bursts(arrivals(steady(0.01, 0, 3_600), steady(1, 1_800, 1_815))) == []


def test_a_burst_needs_five_minutes_before_it() -> None:
    assert find_bursts(arrivals(steady(1, 0, 1_800), steady(7, 100, 220))) == []


def test_two_bursts_apart_are_two() -> None:
    assert find_bursts(arrivals(steady(1, 0, 3_600), steady(7, 900, 960), steady(7, 2_400, 2_460))) == [
        900 * S,
        2_400 * S,
    ]


def recovered(shares: list[float], starts_s: tuple[int, ...] = (0,)) -> float | None:
    """A hundred requests in each minute, of which such a share keeps its promises."""
    at_us, met = [], []
    for minute, share in enumerate(shares):
        at_us += [(60 * minute) * S + index * 590_000 for index in range(100)]
        met += [index < round(100 * share) for index in range(100)]
    return recovery_s(np.array(at_us), np.array(met), [start * S for start in starts_s], 60 * len(shares) * S)


def test_recovery_ends_with_the_last_window_below_95_per_cent_before_two_that_are_not() -> None:
    assert recovered([0.5, 0.9, 0.95, 1.0, 0.2, 1.0]) == 120.0


def test_one_good_window_between_bad_ones_is_no_recovery() -> None:
    assert recovered([0.5, 1.0, 0.9, 1.0, 1.0]) == 180.0


def test_who_never_falls_below_recovers_at_once_and_who_never_recovers_takes_to_the_end() -> None:
    assert recovered([0.95, 1.0, 1.0]) == 0.0
    assert recovered([0.5, 0.5, 0.5]) == 180.0


def test_the_worst_burst_counts_and_each_ends_where_the_next_begins() -> None:
    assert recovered([1.0, 0.5, 1.0, 1.0, 0.5, 0.5], starts_s=(0, 240)) == 120.0


def test_without_a_burst_there_is_no_recovery() -> None:
    assert recovered([0.1], starts_s=()) is None


def test_the_peak_is_the_worst_mean_of_five_seconds() -> None:
    at_us = np.array([0, 4, 6, 9, 31]) * S
    assert peak(at_us, np.array([1.0, 3.0, 4.0, 5.0, 4.4])) == pytest.approx(4.5)
    assert peak(at_us[:0], np.array([])) is None
