from typing import Any

import numpy as np
import pytest

from forebay.core.values import InstanceLoad, InstanceState
from forebay.scheduler.fleet import Fleet, turn_after
from forebay.scheduler.policy.puller.base import PullView
from forebay.scheduler.policy.puller.fixed_cap import FixedCap
from tests.unit.scheduler.kit import instance

NONE: frozenset[str] = frozenset()


def fleet(*names: str, **changes: Any) -> Fleet:
    made = Fleet(FixedCap())
    made.replace([instance(name, **changes) for name in names])
    return made


def eligible(of: Fleet, excluded: frozenset[str] = NONE, tokens: int = 1) -> list[str]:
    lanes = of.models["m"]
    return [name for name, yes in zip(lanes.ids, lanes.eligible(excluded, tokens), strict=True) if yes]


def test_instances_stand_in_the_order_of_ids() -> None:
    assert fleet("c", "a", "b").models["m"].ids == ("a/m", "b/m", "c/m")


@pytest.mark.parametrize("state", [state for state in InstanceState if state is not InstanceState.READY])
def test_only_ready_instances_take_requests(state: InstanceState) -> None:
    one = fleet("a", "b")
    one.replace([instance("a", state=state), instance("b")])
    assert eligible(one) == ["b/m"]


def test_a_stopped_instance_is_not_part_of_the_fleet() -> None:
    one = fleet("a", "b")
    one.replace([instance("a", state=InstanceState.STOPPED), instance("b")])
    assert [scheduled.instance.instance_id for scheduled in one.scheduled("")] == ["b/m"]


def test_a_full_instance_takes_requests_again_when_one_ends() -> None:
    one = fleet("a")
    one.add("a/m", 2, 100)
    assert eligible(one) == []
    one.add("a/m", -1, -50)
    assert eligible(one) == ["a/m"]


def test_a_draining_instance_stays_closed_until_it_leaves() -> None:
    one = fleet("a", "b")
    one.drain("a/m")
    one.replace([instance("a", state_us=1), instance("b")])
    assert eligible(one) == ["b/m"]
    one.replace([instance("b")])
    one.replace([instance("a"), instance("b")])
    assert eligible(one) == ["a/m", "b/m"]


def test_an_unreachable_instance_is_avoided_until_it_answers() -> None:
    one = fleet("a", "b")
    one.observe([InstanceLoad("a/m", "m", False)])
    assert (eligible(one), one.has_unreachable) == (["b/m"], True)
    one.observe([InstanceLoad("a/m", "m", True)])
    assert (eligible(one), one.has_unreachable) == (["a/m", "b/m"], False)


def test_what_was_never_seen_counts_as_reachable() -> None:
    one = fleet("a")
    one.observe([])
    assert eligible(one) == ["a/m"]


def test_excluded_instances_and_short_contexts_are_passed_over() -> None:
    one = Fleet(FixedCap())
    one.replace([instance("a", context_tokens_max=100), instance("b", context_tokens_max=200), instance("c")])
    assert eligible(one, frozenset({"c/m", "unknown"})) == ["a/m", "b/m"]
    assert eligible(one, tokens=150) == ["b/m", "c/m"]
    assert eligible(one, tokens=200) == ["b/m", "c/m"]
    assert eligible(one, tokens=201) == ["c/m"]


def test_leases_outlive_their_instance_and_meet_it_again() -> None:
    one = fleet("a", "b")
    one.add("a/m", 2, 70)
    one.replace([instance("b")])
    assert one.load_of("a/m") == (2, 70)
    one.add("a/m", -1, -30)
    one.replace([instance("a"), instance("b")])
    assert one.load_of("a/m") == (1, 40)
    assert one.models["m"].tokens_total == 40


def test_leases_may_be_known_before_the_fleet_is() -> None:
    one = Fleet(FixedCap())
    one.add("a/m", 2, 70)
    one.replace([instance("a")])
    assert (one.load_of("a/m"), eligible(one)) == ((2, 70), [])


def test_the_same_fleet_again_changes_nothing() -> None:
    one = fleet("a", "b")
    revision = one.revision
    assert one.replace([instance("b"), instance("a")]) == []
    assert one.revision == revision


def test_the_same_load_again_changes_nothing() -> None:
    one = fleet("a")
    one.observe([InstanceLoad("a/m", "m", True, running_count=1)])
    revision = one.revision
    one.observe([InstanceLoad("a/m", "m", True, running_count=2)])
    assert one.revision == revision


def test_a_model_without_instances_is_still_known() -> None:
    one = fleet("a")
    assert one.replace([]) == ["m"]
    assert one.knows("m")
    assert not one.knows("n")
    assert eligible(one) == []


def test_a_puller_sees_what_was_put_there_and_what_was_seen() -> None:
    seen: list[PullView] = []

    class Recorder:
        def cap(self, view: PullView) -> int:
            seen.append(view)
            return 5

    one = Fleet(Recorder())
    one.replace([instance("a")])
    one.add("a/m", 1, 10)
    one.observe([InstanceLoad("a/m", "m", True, running_count=3, waiting_count=4, kv_utilization=0.5)])
    assert seen[-1] == PullView("a/m", "m", 2, 1, 3, 4, 0.5)
    assert one.models["m"].cap_of("a/m") == 5


def test_a_kept_view_does_not_change_with_the_fleet() -> None:
    one = fleet("a")
    lanes = one.models["m"]
    before = lanes.in_flight(), lanes.tokens(), lanes.caps, lanes.eligible(NONE, 1)
    one.add("a/m", 2, 9)
    one.observe([InstanceLoad("a/m", "m", False)])
    assert [array.tolist() for array in before] == [[0], [0], [2], [True]]
    for array in before:
        with pytest.raises(ValueError, match="read-only"):
            np.asarray(array)[0] = 0


@pytest.mark.parametrize(("last", "turn"), [("", 0), ("a", 1), ("b", 2), ("c", 0), ("bb", 2), ("z", 0)])
def test_the_turn_goes_on_after_the_last_one_even_when_it_is_gone(last: str, turn: int) -> None:
    assert turn_after(("a", "b", "c"), last) == turn


def test_there_is_a_turn_without_instances() -> None:
    assert turn_after((), "a") == 0
