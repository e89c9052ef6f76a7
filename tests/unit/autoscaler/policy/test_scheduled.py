"""Bounds by the clock, with times counted by hand from Thursday, 1 January 1970."""

from typing import Any

import pytest

from forebay.autoscaler.policy.autoscaler.base import Lead
from forebay.autoscaler.policy.autoscaler.scheduled import Period, Scheduled
from forebay.core.config import from_mapping
from tests.unit.autoscaler.policy.kit import S, view

H = 3_600 * S
DAY = 24 * H


def wanted(policy: Scheduled, now_us: int, load: float = 0.0, **others: Any) -> int:
    return policy.choose(view(load, initial=2, now_us=now_us, **others)).instances_wanted


def test_inside_a_period_its_number_holds_and_outside_the_initial_one() -> None:
    policy = Scheduled((Period(5, from_hour=8.0, until_hour=18.5),), is_early=False)
    hours = [(8 * H, 5), (8 * H - 1, 2), (int(18.49 * H), 5), (int(18.5 * H), 2), (DAY + 9 * H, 5)]
    assert [wanted(policy, now_us) for now_us, _ in hours] == [count for _, count in hours]


def test_days_are_those_of_the_week() -> None:
    policy = Scheduled((Period(5, days=("thu", "mon")),), is_early=False)
    assert [wanted(policy, day * DAY) for day in range(8)] == [5, 2, 2, 2, 5, 2, 2, 5]


def test_a_period_past_midnight_belongs_to_the_day_it_begins_on() -> None:
    policy = Scheduled((Period(5, days=("thu",), from_hour=22.0, until_hour=2.0),), is_early=False)
    assert [wanted(policy, hour * H) for hour in (1, 21, 22, 25, 26, 47)] == [2, 2, 5, 5, 2, 2]


def test_the_last_period_that_holds_wins_and_pools_have_their_own() -> None:
    policy = Scheduled((Period(5), Period(7, from_hour=12.0), Period(1, pool="other", from_hour=12.0)))
    assert [wanted(policy, hour * H) for hour in (1, 13)] == [5, 7]
    assert wanted(policy, 13 * H, pool="other") == 1


def test_between_bounds_the_load_decides() -> None:
    policy = Scheduled((Period(2, instances_max=4),))
    assert [wanted(policy, H, load) for load in (0.0, 25.0, 90.0)] == [2, 3, 4]
    assert policy.needs.history_us == 60 * S
    assert Scheduled((Period(2),)).needs.history_us == 0


def test_a_start_is_early_enough_to_be_done_in_time() -> None:
    policy = Scheduled((Period(5, from_hour=8.0, until_hour=9.0),))
    lead = Lead(60 * S, 120 * S)
    assert [wanted(policy, 8 * H - ago * S, lead=lead) for ago in (121, 120)] == [2, 5]
    # Nothing ends early.
    assert wanted(policy, 9 * H - 60 * S, lead=lead) == 5


def test_the_clock_may_be_elsewhere() -> None:
    policy = Scheduled((Period(5, from_hour=8.0, until_hour=9.0),), utc_offset_h=-2.0, is_early=False)
    assert [wanted(policy, hour * H) for hour in (8, 10)] == [2, 5]


def test_a_table_comes_from_a_file() -> None:
    table = {"periods": [{"pool": "m", "days": ["sat", "sun"], "instances": 1}], "is_early": False}
    assert wanted(from_mapping(Scheduled, table, "parameters"), 2 * DAY) == 1


@pytest.mark.parametrize(
    "period",
    [
        {"instances": -1},
        {"instances": 3, "instances_max": 2},
        {"instances": 1, "from_hour": 24.0},
        {"instances": 1, "from_hour": 3.0, "until_hour": 3.0},
        {"instances": 1, "days": ("monday",)},
    ],
)
def test_a_period_that_cannot_be_is_refused(period: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"period|unknown days"):
        Period(**period)  # type: ignore[arg-type]


@pytest.mark.parametrize("parameters", [{"window_s": 0.0}, {"utc_offset_h": 24.0}])
def test_parameters_that_cannot_work_are_refused(parameters: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        Scheduled(**parameters)  # type: ignore[arg-type]
