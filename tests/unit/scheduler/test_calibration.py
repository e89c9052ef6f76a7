"""What the scheduler learns of the lengths that it acted on."""

import pytest

from forebay.core.values import LengthQuantiles
from forebay.scheduler.calibration import WINDOW, Calibrations
from forebay.scheduler.policy.router.base import UNCALIBRATED

PREDICTED = LengthQuantiles(100, 100, 100, 100)
"""Expected to have 97.5 tokens: half of the first tenth of the curve lies below p10."""


def test_nothing_is_known_before_the_first_answer() -> None:
    assert Calibrations().of("m") is UNCALIBRATED


def test_the_shift_is_the_ninth_of_ten_excesses_and_unknown_for_fewer() -> None:
    seen = Calibrations()
    for number in range(8):
        seen.add("m", PREDICTED, 100 + number)
    assert seen.of("m").shift_tokens is None
    seen.add("m", PREDICTED, 1)
    assert seen.of("m").shift_tokens == 7
    assert seen.of("m").outcome_count == 9


def test_maps_takes_the_451st_of_500() -> None:
    seen = Calibrations()
    for number in range(WINDOW):
        seen.add("m", PREDICTED, 101 + number)
    assert seen.of("m").shift_tokens == 451


def test_coverage_and_overstatement_are_those_of_the_newest() -> None:
    seen = Calibrations()
    for _ in range(WINDOW):
        seen.add("m", PREDICTED, 1_000)
    for _ in range(WINDOW):
        seen.add("m", PREDICTED, 25)
    assert seen.of("m").coverage_p90 == 1.0
    assert seen.of("m").overstatement == pytest.approx(97.5 / 25)
    assert seen.of("m").shift_tokens == 0
    assert seen.of("n") is UNCALIBRATED
