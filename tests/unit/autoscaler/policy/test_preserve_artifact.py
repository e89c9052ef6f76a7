"""The released PreServe's two wishes, freezes and emergency, with values computed by hand; a window is 20 s."""

from typing import Any

import pytest

from forebay.autoscaler.policy.autoscaler.base import Choice, InstanceView
from forebay.autoscaler.policy.autoscaler.preserve_artifact import PreserveArtifact
from tests.unit.autoscaler.policy.kit import RATES, S, fleet, heard, view, window


class Stage:
    """One pool over time: what the policy answers is there at once."""

    def __init__(self, wanted: int = 4) -> None:
        self.wanted = wanted
        self.memo: dict[str, float] = {}

    def choice(self, second: float, rho: float | None, needed: float | None = None, **others: Any) -> Choice:
        count = self.wanted
        instances = tuple(
            InstanceView(str(number), 0) if rho is None else heard(str(number), peak_share=rho)
            for number in range(count)
        )
        # 100 response tokens a second and instance, for 20 s.
        forecast = () if needed is None else (window(0, 0.0, 0.0, needed * 2_000.0),)
        settings = {"instances": instances, "capability": RATES, "kv_tokens": 1_000, **others}
        pool = view(ready=count, wanted=count, now_us=int(second * S), memo=self.memo, forecast=forecast, **settings)
        choice = PreserveArtifact().plan(fleet(pool)).pools["m"]
        self.wanted, self.memo = choice.instances_wanted, dict(choice.memo)
        return choice

    def step(self, second: float, rho: float | None, needed: float | None = None, **others: Any) -> int:
        return self.choice(second, rho, needed, **others).instances_wanted


@pytest.mark.parametrize(
    ("needed", "rho", "expected"),
    [
        (4.7, 0.5, 4 + 1),  # ceil(4.9)
        (4.9, 0.5, 4 + 2),  # ceil(5.1): padding makes it one more
        (3.75, 0.5, 4),  # ceil(3.95) = 4, and ceil(4.05) is not below
        (1.5, 0.5, 4),  # ceil(1.8) = 2, but the look-ahead keeps 4
        (1.5, 0.1, 3),  # both want fewer: the higher wish is 3
        (3.9, 0.1, 5),  # ceil(4.1) = 5 > 4
        (2.0, 0.75, 5),
        (2.0, 0.79, 5),
        (7.7, 0.75, 8),
    ],
)
def test_the_higher_of_both_wishes_is_followed(needed: float, rho: float, expected: int) -> None:
    assert Stage().step(100, rho, needed) == expected


def test_far_above_it_takes_two() -> None:
    # rho 0.86 is an emergency as well: floor(0.86 * 1 / 0.40) = 2, and 1 + 2 = 3.
    assert Stage(1).step(100, 0.86) == 3


def test_in_an_emergency_it_jumps_whatever_is_frozen() -> None:
    stage = Stage()
    assert stage.step(100, 0.75) == 5
    assert stage.step(105, 0.81) == 10  # floor(0.81 * 5 / 0.4)
    assert stage.step(110, 0.9) == 10  # three periods of 5 s
    assert stage.step(120, 0.9) == 22


def test_what_starts_is_not_asked_for_again_in_an_emergency() -> None:
    stage = Stage(8)
    full = tuple(heard(str(number), peak_share=0.81) for number in range(4))
    answer = stage.step(100, 0.0, instances=full, ready_count=4, starting_count=4)
    assert answer == 9  # floor(0.81 * 4 / 0.4) = 8 are there; above 0.70 it is one more


def test_after_a_change_all_is_frozen_and_what_is_wished_is_dropped() -> None:
    stage = Stage()
    assert stage.step(100, 0.75) == 5
    assert stage.step(130, 0.75, 7.0) == 5
    frozen = stage.choice(159, 0.5, 7.0)
    assert frozen.instances_wanted == 5
    assert "frozen" in frozen.reason


def test_each_wish_is_made_once_a_window_or_period() -> None:
    stage = Stage()
    assert stage.step(100, 0.5, 2.0) == 4  # the workload's wish is 3 and frozen until 160
    assert stage.step(101, 0.1) == 4  # this period has been looked at
    assert stage.step(105, 0.1) == 3


def test_without_a_forecast_the_look_ahead_does_not_shrink_below_the_workload_wish() -> None:
    assert Stage().step(100, 0.1) == 4
    assert Stage().step(100, 0.75) == 5


def test_nothing_leaves_while_one_starts_or_is_not_heard_of() -> None:
    assert Stage().step(100, 0.1, 2.0, ready_count=3, starting_count=1) == 4
    partly = (heard("a", peak_share=0.1), InstanceView("b", 0))
    assert Stage(2).step(100, 0.1, 0.5, instances=partly) == 2
    assert Stage().step(100, None, 2.0) == 4
    assert Stage().step(100, None, 6.0) == 7


def test_where_nobody_measured_an_instance_the_plan_holds_and_says_so() -> None:
    choice = PreserveArtifact().plan(fleet(view(wanted=3)))
    assert choice.pools["m"].instances_wanted == 3
    assert "forebay profile" in choice.warnings[0]


def test_it_asks_for_its_window_and_for_pressure() -> None:
    needs = PreserveArtifact().needs
    assert (needs.forecast_window_us, needs.pressure) == (20 * S, True)


@pytest.mark.parametrize("parameters", [{"period_s": 30.0}, {"freeze_s": -1.0}, {"low": 0.8}, {"emergency": 0.3}])
def test_parameters_that_cannot_work_are_refused(parameters: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="needs"):
        PreserveArtifact(**parameters)  # type: ignore[arg-type]
