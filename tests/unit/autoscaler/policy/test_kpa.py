"""Knative's formulas, with values computed by hand."""

import pytest

from forebay.autoscaler.policy.autoscaler.base import Choice, Samples
from forebay.autoscaler.policy.autoscaler.kpa import Kpa
from tests.unit.autoscaler.policy.kit import CALM, NOW, S, view


def calm(concurrency: float | Samples, ready: int, **parameters: float) -> Choice:
    return Kpa(**parameters).choose(view(concurrency, ready=ready, wanted=ready, memo=CALM))


@pytest.mark.parametrize(
    ("concurrency", "ready", "expected"),
    [
        (10.0, 1, 1),  # ceil(10 / 10)
        (10.1, 1, 2),  # ceil(10.1 / 10); pressure 2 / 1 begins a panic that wants the same
        (35.0, 3, 4),  # ceil(35 / 10)
        (20.0, 3, 2),
        (0.0, 1, 0),  # down = floor(1 / 2) = 0
        (0.0, 8, 4),  # down = floor(8 / 2) = 4
        (0.0, 3, 1),  # down = floor(3 / 2) = 1
        (0.0, 0, 0),  # r = max(1, 0)
        (25.0, 0, 3),
    ],
)
def test_the_stable_wish_is_clamped_by_the_rates(concurrency: float, ready: int, expected: int) -> None:
    assert calm(concurrency, ready).instances_wanted == expected


def test_growth_is_limited_by_the_rate_but_never_stuck() -> None:
    # up = ceil(1.1 * 2) = 3 although ceil(90 / 10) = 9.
    assert calm(90.0, 2, scale_up_rate_max=1.1).instances_wanted == 3


def test_both_windows_have_their_own_mean() -> None:
    quiet: Samples = tuple((NOW - second * S, 4.0) for second in range(59, 5, -1))
    burst: Samples = tuple((NOW - second * S, 40.0) for second in range(5, -1, -1))
    choice = calm((*quiet, *burst), ready=1)
    # stable: (54 * 4 + 6 * 40) / 60 = 7.6 -> 1; panic: 40 -> 4; pressure 4 / 1 >= 2.
    assert choice.inputs["stable_mean"] == pytest.approx(7.6)
    assert choice.inputs["panic_mean"] == 40.0
    assert (choice.inputs["stable"], choice.inputs["panic"], choice.inputs["pressure"]) == (1.0, 4.0, 4.0)
    assert choice.inputs["panicking"] == 1.0
    assert choice.instances_wanted == 4


def test_a_pressure_below_the_threshold_is_no_panic() -> None:
    # ceil(50 / 10) / 3 = 1.67 < 2.
    choice = calm(50.0, ready=3)
    assert choice.inputs["panicking"] == 0.0
    assert choice.instances_wanted == 5


def test_in_panic_the_highest_wish_holds() -> None:
    memo = {"crossed_us": float(NOW - 30 * S), "highest": 7.0}
    choice = Kpa().choose(view(20.0, ready=4, memo=memo))
    assert choice.instances_wanted == 7
    assert choice.memo == memo
    assert "in panic the highest wish of 7 holds" in choice.reason


def test_crossing_the_threshold_again_prolongs_the_panic() -> None:
    choice = Kpa().choose(view(80.0, ready=4, memo={"crossed_us": float(NOW - 59 * S), "highest": 7.0}))
    assert choice.memo == {"crossed_us": float(NOW), "highest": 8.0}
    assert choice.instances_wanted == 8


@pytest.mark.parametrize(("ago_s", "expected"), [(60, 7), (61, 2)])
def test_panic_ends_when_the_threshold_was_not_crossed_for_a_stable_window(ago_s: int, expected: int) -> None:
    choice = Kpa().choose(view(20.0, ready=4, memo={"crossed_us": float(NOW - ago_s * S), "highest": 7.0}))
    assert choice.instances_wanted == expected


def test_after_a_restart_a_fleet_of_several_is_kept_until_there_is_history() -> None:
    assert Kpa().choose(view(0.0, ready=3)).instances_wanted == 3
    assert Kpa().choose(view(0.0, ready=1)).instances_wanted == 0


def test_the_delay_keeps_the_highest_wish_of_its_window() -> None:
    recent: Samples = ((NOW - 31 * S, 9.0), (NOW - 29 * S, 5.0), (NOW - 2 * S, 3.0))
    policy = Kpa(scale_down_delay_s=30.0)
    choice = policy.choose(view(10.0, ready=2, recommendations=recent, memo=CALM))
    assert (choice.instances_wanted, choice.recommended) == (5, 1)


def test_a_panic_can_begin_at_time_zero() -> None:
    choice = Kpa().choose(view(40.0, ready=1, memo=CALM, now_us=0))
    assert choice.memo == {"crossed_us": 0.0, "highest": 4.0}
    later = Kpa().choose(view(0.0, ready=4, memo=dict(choice.memo), now_us=10 * S))
    assert later.instances_wanted == 4


@pytest.mark.parametrize(
    "parameters",
    [
        {"panic_window_s": 0.0},
        {"panic_window_s": 61.0},
        {"scale_up_rate_max": 1.0},
        {"scale_down_rate_max": 1.0},
        {"panic_threshold": 1.0},
        {"scale_down_delay_s": -1.0},
    ],
)
def test_parameters_that_cannot_work_are_refused(parameters: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        Kpa(**parameters)


def test_it_looks_back_over_the_longer_of_window_and_delay() -> None:
    assert Kpa().needs.history_us == 60 * S
    assert Kpa(scale_down_delay_s=300.0).needs.history_us == 300 * S
