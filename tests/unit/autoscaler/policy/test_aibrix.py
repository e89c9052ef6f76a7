"""AIBrix' two autoscalers, with values computed by hand."""

import pytest

from forebay.autoscaler.policy.autoscaler.aibrix_apa import AibrixApa
from forebay.autoscaler.policy.autoscaler.aibrix_kpa import AibrixKpa
from forebay.autoscaler.policy.autoscaler.base import Samples
from tests.unit.autoscaler.policy.kit import NOW, S, view

CALM = {"crossed_us": -1.0, "highest": 0.0}


@pytest.mark.parametrize(
    ("load", "count", "expected"),
    [
        (22.0, 2, 2),  # q = 1.1: inside the band
        (22.1, 2, 3),  # ceil(2 * 1.105)
        (90.0, 2, 4),  # min(9, ceil(2 * 2))
        (18.0, 2, 2),
        (17.9, 2, 2),  # q = 0.895, ceil(1.79) = 2
        (9.0, 2, 1),  # max(ceil(0.9), floor(2 / 2))
        (5.0, 8, 4),  # max(1, floor(8 / 2))
        (0.0, 1, 0),
        (35.0, 0, 4),  # from none, what is needed
        (0.0, 0, 0),
    ],
)
def test_apa_follows_the_ratio_within_its_rates(load: float, count: int, expected: int) -> None:
    assert AibrixApa().choose(view(load, ready=count, wanted=count)).instances_wanted == expected


def kpa(load: float | Samples, count: int, memo: dict[str, float] | None = None, **parameters: float) -> int:
    policy = AibrixKpa(**parameters)  # type: ignore[arg-type]
    return policy.choose(view(load, ready=count, wanted=count, memo=memo or CALM)).instances_wanted


def test_kpa_changes_nothing_within_a_tenth_of_the_target() -> None:
    assert [kpa(load, 2, scale_down_cooldown_s=0.0) for load in (22.0, 18.0)] == [2, 2]
    assert [kpa(load, 4, scale_down_cooldown_s=0.0) for load in (44.1, 35.0, 90.0, 5.0)] == [5, 4, 8, 2]


def test_kpa_panics_by_the_ratio_of_its_windows() -> None:
    quiet = tuple((NOW - second * S, 4.0) for second in range(179, 59, -1))
    burst = tuple((NOW - second * S, 40.0) for second in range(59, -1, -1))
    choice = AibrixKpa().choose(view((*quiet, *burst), memo=CALM))
    # stable (120 * 4 + 60 * 40) / 180 = 16 -> 2; panic 40 -> 4, clamped to 2; 40 / 16 = 2.5 > 2.
    assert choice.inputs["stable_mean"] == pytest.approx(16.0)
    assert choice.inputs["panic_mean"] == 40.0
    assert (choice.instances_wanted, choice.inputs["panicking"]) == (2, 1.0)
    assert choice.memo == {"crossed_us": float(NOW), "highest": 2.0}


def test_in_panic_the_highest_wish_holds_for_a_stable_window() -> None:
    memo = {"crossed_us": float(NOW - 180 * S), "highest": 6.0}
    assert kpa(20.0, 4, memo, scale_down_cooldown_s=0.0) == 6
    memo["crossed_us"] -= S
    assert kpa(20.0, 4, memo, scale_down_cooldown_s=0.0) == 2


def test_a_shrink_waits_for_the_cool_down() -> None:
    recent: Samples = ((NOW - 299 * S, 4.0),)
    policy = AibrixKpa()
    assert policy.choose(view(20.0, ready=5, wanted=5, recommendations=recent, memo=CALM)).instances_wanted == 4
    assert policy.choose(view(20.0, ready=5, wanted=5, memo=CALM)).instances_wanted == 2


def test_an_idle_fleet_shrinks_unless_the_code_is_followed_to_the_letter() -> None:
    assert kpa(0.0, 1, scale_down_cooldown_s=0.0) == 0
    assert kpa(0.0, 4, scale_down_cooldown_s=0.0) == 2
    literal = AibrixKpa(scale_down_cooldown_s=0.0, panics_when_idle=True)
    memo = {"crossed_us": float(NOW - S), "highest": 4.0}
    assert literal.choose(view(0.0, ready=4, wanted=4, memo=memo)).instances_wanted == 4


@pytest.mark.parametrize("parameters", [{"up_tolerance": -1.0}, {"window_s": 0.0}, {"scale_up_rate_max": 1.0}])
def test_parameters_of_apa_that_cannot_work_are_refused(parameters: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        AibrixApa(**parameters)


@pytest.mark.parametrize(
    "parameters", [{"panic_window_s": 181.0}, {"panic_threshold": 1.0}, {"tolerance": -0.1}, {"scale_down_rate_max": 1}]
)
def test_parameters_of_kpa_that_cannot_work_are_refused(parameters: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        AibrixKpa(**parameters)  # type: ignore[arg-type]
