from math import comb

import numpy as np
import pytest

from forebay.predictor.lengths.drift import DriftAlarm, least_unlikely


def alarm() -> DriftAlarm:
    return DriftAlarm(100, 0.1, 1e-4)


def test_the_bound_of_the_test_is_the_binomial_one() -> None:
    for count in (1, 10, 100):
        least = least_unlikely(count, 0.1, 1e-3)
        tails = [
            sum(comb(count, k) * 0.1**k * 0.9 ** (count - k) for k in range(number, count + 1))
            for number in (least - 1, least)
        ]
        assert tails[1] < 1e-3 <= tails[0]


def test_a_single_failure_proves_nothing() -> None:
    found = alarm()
    found.add(True)
    assert not found.is_ringing


@pytest.mark.parametrize("seed", range(5))
def test_failures_of_the_promised_share_do_not_ring(seed: int) -> None:
    found = alarm()
    for has_failed in np.random.default_rng(seed).random(5_000) < 0.1:
        found.add(bool(has_failed))
        assert not found.is_ringing


@pytest.mark.parametrize("share", [0.3, 0.5, 1.0])
def test_more_failures_ring_soon_and_until_the_promised_share_is_back(share: float) -> None:
    found, random = alarm(), np.random.default_rng(3)
    for has_failed in random.random(200) < 0.1:
        found.add(bool(has_failed))
    for has_failed in random.random(100) < share:
        found.add(bool(has_failed))
    assert found.is_ringing
    for number in range(60):
        found.add(number % 10 == 0)
    assert found.is_ringing, "half of the window is still from before"
    for number in range(50):
        found.add(number % 10 == 0)
    assert not found.is_ringing


def test_a_window_of_none_never_rings() -> None:
    found = DriftAlarm(0, 0.1, 1e-4)
    for _ in range(100):
        found.add(True)
    assert not found.is_ringing
