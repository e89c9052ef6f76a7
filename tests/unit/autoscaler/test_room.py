"""The safety kernel: how far a pool may go towards a wish."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.autoscaler.invariants import survivors_carry
from forebay.autoscaler.life import Life
from forebay.autoscaler.room import UNLIMITED, Resize, Room, resize, spare
from forebay.core.fleet import Bounds, Member, Origin
from forebay.core.values import Instance, InstanceLoad, InstanceState

S = 1_000_000


def room(**changes: object) -> Room:
    values = {
        "active": 2,
        "total": 2,
        "bounds": Bounds("m", 1, 10),
        "budget_left": 100,
        "slots_left": 100,
        "stock_left": 100,
        "start_max": 100,
        "drain_max": 100,
        "step_max": 2,
        "waiting": False,
    }
    return Room(**{**values, **changes})  # type: ignore[arg-type]


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
        (5, {"start_max": 2}, Resize(start_count=2, bound_by="a step starts at most 2")),
        (1, {"active": 9, "drain_max": 2}, Resize(drain_count=2, bound_by="a step drains at most 2")),
        (10, {"total": 8}, Resize(start_count=2, bound_by="at most 10 with those that drain")),
        (10, {"total": 12}, Resize(bound_by="at most 10 with those that drain")),
        (5, {"waiting": True}, Resize(bound_by="the next start waits after failures")),
        (1, {"waiting": True}, Resize(drain_count=1)),
        (0, {"floor": 3}, Resize(start_count=1, bound_by="requests wait for the model")),
        (0, {"floor": 2}, Resize(bound_by="requests wait for the model")),
        (5, {"floor": 1}, Resize(start_count=3)),
        (3, {"dwelling": True}, Resize(start_count=1)),
        (1, {"dwelling": True}, Resize(bound_by="it grew too lately to shrink")),
        (1, {"active": 12, "dwelling": True}, Resize(drain_count=2, bound_by="it grew too lately to shrink")),
        (1, {"active": 8, "spare": 3}, Resize(drain_count=3, bound_by="the others could not carry the load")),
        (1, {"active": 12, "spare": 0}, Resize(drain_count=2, bound_by="the others could not carry the load")),
    ],
)
def test_the_fleet_goes_as_far_as_the_tightest_limit(wanted: int, changes: dict[str, object], expected: Resize) -> None:
    assert resize(wanted, room(**changes)) == expected


def ready(number: int, seats: int = 10, state: InstanceState = InstanceState.READY) -> Life:
    instance = Instance(f"i{number}", "m", "127.0.0.1:1", f"s{number}", concurrency_max=seats, state=state)
    return Life(Member(instance, Origin.LAUNCHED, was_ready=True), True, 0)


def load(number: int, running: int, cache: float | None = None, seen_us: int = 100) -> InstanceLoad:
    return InstanceLoad(f"i{number}", "m", True, seen_us, running, 0, cache)


@pytest.mark.parametrize(
    ("loads", "expected"),
    [
        # 18 of 40 seats are taken: two instances have 20, of which 19 may be taken.
        ([load(0, 5), load(1, 5), load(2, 4), load(3, 4)], 2),
        ([load(0, 5), load(1, 5), load(2, 5), load(3, 5)], 1),
        ([load(0, 10), load(1, 10), load(2, 10), load(3, 10)], 0),
        ([load(0, 0, 0.5), load(1, 0, 0.5), load(2, 0, 0.5), load(3, 0, 0.5)], 1),
        # One that was not seen counts like the mean of the others.
        ([load(0, 5), load(1, 5)], 1),
        ([load(0, 0), load(1, 0), load(2, 0), load(3, 0)], UNLIMITED),
        ([load(0, 10, seen_us=5)], UNLIMITED),
        ([], UNLIMITED),
    ],
)
def test_so_many_may_leave_as_the_others_can_do_without(loads: list[InstanceLoad], expected: int) -> None:
    lives = [ready(number) for number in range(4)]
    assert spare(lives, {one.instance_id: one for one in loads}, 50, 0.95) == expected


def test_what_drains_is_load_and_no_room() -> None:
    lives = [ready(0), ready(1), ready(2), ready(3, state=InstanceState.DRAINING)]
    loads = {one.instance_id: one for one in (load(0, 4), load(1, 4), load(2, 4), load(3, 8))}
    # 20 requests need three instances of ten seats at 0.95; with the one that drains as room, two would seem enough.
    assert spare(lives, loads, 50, 0.95) == 0


def test_where_nobody_tells_what_fits_or_nobody_asks_nothing_is_held_back() -> None:
    full = {"i0": load(0, 9), "i1": load(1, 9)}
    assert spare([ready(0, 0), ready(1, 0)], full, 50, 0.95) == UNLIMITED
    assert spare([ready(0), ready(1)], full, 50, 0.0) == UNLIMITED
    assert spare([ready(0), ready(1)], full, 50, 0.95) == 0


@given(running=st.lists(st.integers(0, 10), min_size=1, max_size=8), share_max=st.floats(0.05, 1.0))
def test_those_that_stay_always_carry_the_load_and_nobody_stays_for_nothing(
    running: list[int], share_max: float
) -> None:
    count, full = len(running), sum(running) / (10 * len(running))
    loads = {f"i{number}": load(number, one) for number, one in enumerate(running)}
    leaving = min(count, spare([ready(number) for number in range(count)], loads, 50, share_max))
    assert leaving == 0 or survivors_carry(full, count, leaving, share_max)
    assert leaving == count or not survivors_carry(full, count, leaving + 1, share_max)
