"""Ray Serve's delays, step by step."""

import pytest

from forebay.autoscaler.policy.autoscaler.ray_serve import RayServe
from tests.unit.autoscaler.policy.kit import NOW, S, view


def run(policy: RayServe, steps: list[tuple[int, float, int]]) -> list[int]:
    """The answers to (time in seconds, load, instances)."""
    memo: dict[str, float] = {}
    answers = []
    for second, load, count in steps:
        choice = policy.choose(view(load, ready=count, wanted=count, memo=memo, now_us=NOW + second * S))
        memo = dict(choice.memo)
        answers.append(choice.instances_wanted)
    return answers


def test_a_wish_for_more_is_followed_once_it_has_lasted() -> None:
    assert run(RayServe(), [(0, 35.0, 2), (29, 45.0, 2), (30, 31.0, 2)]) == [2, 2, 4]


def test_a_break_begins_anew() -> None:
    assert run(RayServe(), [(0, 35.0, 2), (29, 15.0, 2), (30, 35.0, 2), (59, 35.0, 2), (60, 35.0, 2)]) == [
        2,
        2,
        2,
        2,
        4,
    ]


def test_a_wish_for_fewer_has_to_last_longer() -> None:
    assert run(RayServe(), [(0, 5.0, 2), (599, 5.0, 2), (600, 5.0, 2)]) == [2, 2, 1]


def test_from_none_nobody_waits_and_the_target_may_be_its_own() -> None:
    assert run(RayServe(target_ongoing_requests=2.0), [(0, 5.0, 0)]) == [3]


@pytest.mark.parametrize("parameters", [{"look_back_s": 0.0}, {"upscale_delay_s": -1.0}])
def test_parameters_that_cannot_work_are_refused(parameters: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        RayServe(**parameters)
