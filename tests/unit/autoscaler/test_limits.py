"""The safety kernel, limit by limit."""

import pytest

from forebay.autoscaler.config import Config
from forebay.autoscaler.limits import Resize, Room, Spans, clamp, is_busy, resize
from forebay.core.fleet import Bounds
from forebay.core.values import InstanceLoad

S = 1_000_000


def room(**changes: object) -> Room:
    values = {
        "active": 2,
        "total": 2,
        "bounds": Bounds("m", 1, 10),
        "budget_left": 100,
        "slots_left": 100,
        "stock_left": 100,
        "step_max": 100,
        "waiting": False,
    }
    return Room(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(("wanted", "expected"), [(0, 1), (1, 1), (5, 5), (10, 10), (11, 10)])
def test_bounds_clamp(wanted: int, expected: int) -> None:
    assert clamp(wanted, Bounds("m", 1, 10)) == expected


@pytest.mark.parametrize(
    ("wanted", "changes", "expected"),
    [
        (2, {}, Resize()),
        (5, {}, Resize(start_count=3)),
        (1, {}, Resize(drain_count=1)),
        (0, {}, Resize(drain_count=1, bound_by="at least 1 by the bounds")),
        (20, {}, Resize(start_count=8, bound_by="at most 10 by the bounds")),
        (5, {"budget_left": 1}, Resize(start_count=1, bound_by="the budget of the fleet is used up")),
        (5, {"budget_left": -2}, Resize(bound_by="the budget of the fleet is used up")),
        (5, {"slots_left": 2}, Resize(start_count=2, bound_by="no server has room for one more")),
        (5, {"stock_left": 1}, Resize(start_count=1, bound_by="no GPU of its kind is left in its region")),
        (5, {"step_max": 2}, Resize(start_count=2, bound_by="a step starts at most 2")),
        (1, {"active": 9, "step_max": 2}, Resize(drain_count=2, bound_by="a step drains at most 2")),
        (10, {"total": 8}, Resize(start_count=2, bound_by="at most 10 with those that drain")),
        (10, {"total": 12}, Resize(bound_by="at most 10 with those that drain")),
        (5, {"waiting": True}, Resize(bound_by="the next start waits after failures")),
        (1, {"waiting": True}, Resize(drain_count=1)),
    ],
)
def test_the_fleet_goes_as_far_as_the_tightest_limit(wanted: int, changes: dict[str, object], expected: Resize) -> None:
    assert resize(wanted, room(**changes)) == expected


def test_waiting_doubles_up_to_the_most() -> None:
    spans = Spans.of(Config(backoff_s_min=1.0, backoff_s_max=60.0))
    assert [spans.backoff_us(n) // S for n in (0, 1, 2, 3, 6, 7, 500)] == [0, 1, 2, 4, 32, 60, 60]


def test_a_server_is_busy_when_it_was_lately_seen_to_run_something() -> None:
    seen = InstanceLoad("i", "m", True, seen_us=10, running_count=1, waiting_count=0)
    assert is_busy(seen, 9)
    assert not is_busy(seen, 10)
    assert not is_busy(InstanceLoad("i", "m", True, seen_us=10), 9)
    assert not is_busy(InstanceLoad("i", "m", False, seen_us=10, running_count=1), 9)
    assert not is_busy(None, 0)
