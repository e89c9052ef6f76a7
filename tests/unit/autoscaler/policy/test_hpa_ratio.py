"""Kubernetes' ratio, with values computed by hand: ceil(n * value / target), tolerance 0.1, window 300 s."""

import pytest

from forebay.autoscaler.policy.autoscaler.base import Samples
from forebay.autoscaler.policy.autoscaler.hpa_ratio import HpaRatio
from tests.unit.autoscaler.policy.kit import NOW, S, view


@pytest.mark.parametrize(
    ("concurrency", "current", "expected"),
    [
        (30.0, 1, 3),  # ceil(30 / 10)
        (31.0, 1, 4),  # ceil(31 / 10)
        (21.9, 2, 2),  # 1.095 of the target: within 0.1
        (22.0, 2, 2),  # 1.1: still within
        (22.1, 2, 3),  # 1.105: ceil(22.1 / 10)
        (18.0, 2, 2),  # 0.9: within
        (9.0, 2, 1),  # 0.45: ceil(9 / 10)
        (0.0, 2, 0),
        (5.0, 0, 1),
        (10.5, 0, 2),  # nothing is there, so the tolerance does not apply
        (96.0, 10, 10),
    ],
)
def test_the_ratio_of_load_to_target(concurrency: float, current: int, expected: int) -> None:
    assert HpaRatio().choose(view(concurrency, wanted=current)).instances_wanted == expected


def test_the_value_is_the_mean_of_fifteen_seconds() -> None:
    samples: Samples = ((NOW - 20 * S, 1_000.0), (NOW - 10 * S, 20.0), (NOW, 40.0))
    choice = HpaRatio().choose(view(samples, wanted=1))
    assert choice.inputs["concurrency_mean"] == 30.0
    assert choice.instances_wanted == 3


def test_the_highest_recommendation_of_the_window_holds_the_fleet_up() -> None:
    recent: Samples = ((NOW - 299 * S, 4.0), (NOW - 100 * S, 3.0))
    choice = HpaRatio().choose(view(10.0, wanted=5, recommendations=recent))
    assert (choice.instances_wanted, choice.recommended) == (4, 1)
    assert "the last 300 s needed 4" in choice.reason


def test_what_the_window_remembers_never_grows_a_fleet() -> None:
    recent: Samples = ((NOW - 100 * S, 9.0),)
    assert HpaRatio().choose(view(10.0, wanted=2, recommendations=recent)).instances_wanted == 2


def test_recommendations_older_than_the_window_are_forgotten() -> None:
    recent: Samples = ((NOW - 300 * S, 4.0),)
    assert HpaRatio().choose(view(10.0, wanted=5, recommendations=recent)).instances_wanted == 1


def test_growth_is_not_delayed() -> None:
    recent: Samples = ((NOW - 1 * S, 1.0),)
    assert HpaRatio().choose(view(75.0, wanted=1, recommendations=recent)).instances_wanted == 8


@pytest.mark.parametrize("parameters", [{"tolerance": -0.1}, {"window_s": 0.0}, {"stabilization_s": -1.0}])
def test_parameters_that_cannot_work_are_refused(parameters: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        HpaRatio(**parameters)
