from itertools import count
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.core.scheduling import Placement
from forebay.core.values import InstanceLoad, InstanceState, LengthQuantiles, SloClass
from forebay.scheduler.fleet import Fleet
from forebay.scheduler.lanes import COUNTED, turn_after
from forebay.scheduler.leases import Lease
from forebay.scheduler.policy.puller.base import PullView
from forebay.scheduler.policy.puller.fixed_cap import FixedCap
from tests.unit.scheduler.kit import instance, request

NONE: frozenset[str] = frozenset()


def fleet(*names: str, **changes: Any) -> Fleet:
    made = Fleet(FixedCap())
    made.replace([instance(name, **changes) for name in names])
    return made


NUMBERS = count()
"""So that no two leases have one name."""


def lease(instance_id: str, tokens: int = 50, prompt_tokens: int = 10, opened_us: int = 5) -> Lease:
    quantiles = LengthQuantiles(0, tokens, tokens, tokens)
    placement = Placement("r", f"l{next(NUMBERS)}", "d", instance_id, "", quantiles, "", 60)
    return Lease(placement, request("r", prompt=prompt_tokens), "", 0, opened_us, 60, remaining_tokens=tokens)


def opened(of: Fleet, *leases: Lease) -> None:
    for one in leases:
        lanes, index = of.lane(one.placement.instance_id)
        lanes.open(index, one)


def ended(of: Fleet, one: Lease) -> None:
    lanes, index = of.lane(one.placement.instance_id)
    lanes.end(index, one)


def eligible(of: Fleet, excluded: frozenset[str] = NONE, tokens: int = 1) -> list[str]:
    lanes = of.models["m"]
    return [name for name, yes in zip(lanes.ids, lanes.eligible_for(excluded, tokens), strict=True) if yes]


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
    first = lease("a/m")
    opened(one, first, lease("a/m"))
    assert eligible(one) == []
    ended(one, first)
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
    one.observe([InstanceLoad("a/m", "m", False)], 9)
    assert (eligible(one), one.has_unreachable) == (["b/m"], True)
    one.observe([InstanceLoad("a/m", "m", True)], 9)
    assert (eligible(one), one.has_unreachable) == (["a/m", "b/m"], False)


def test_what_was_never_seen_counts_as_reachable() -> None:
    one = fleet("a")
    one.observe([], 9)
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
    first = lease("a/m", 30)
    opened(one, first, lease("a/m", 40))
    one.replace([instance("b")])
    assert one.load_of("a/m") == (2, 70)
    ended(one, first)
    one.replace([instance("a"), instance("b")])
    assert one.load_of("a/m") == (1, 40)
    assert one.models["m"].tokens_total == 40


def test_leases_may_be_known_before_the_fleet_is() -> None:
    one = Fleet(FixedCap())
    opened(one, lease("a/m", 30), lease("a/m", 40))
    one.replace([instance("a")])
    assert (one.load_of("a/m"), eligible(one)) == ((2, 70), [])


def test_the_same_fleet_again_changes_nothing() -> None:
    one = fleet("a", "b")
    revision = one.revision
    assert one.replace([instance("b"), instance("a")]) == []
    assert one.revision == revision


def test_the_same_load_again_changes_nothing() -> None:
    one = fleet("a")
    one.observe([InstanceLoad("a/m", "m", True, running_count=1)], 9)
    revision = one.revision
    one.observe([InstanceLoad("a/m", "m", True, running_count=2)], 9)
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
    opened(one, lease("a/m", 10))
    one.observe([InstanceLoad("a/m", "m", True, running_count=3, waiting_count=4, kv_utilization=0.5)], 9)
    assert seen[-1] == PullView("a/m", "m", 2, 1, 3, 4, 0.5)
    assert one.models["m"].cap_of(0) == 5


def test_a_kept_view_does_not_change_with_the_fleet() -> None:
    one = fleet("a")
    lanes = one.models["m"]
    before = *lanes.counts()[:2], lanes.standing.concurrency_cap, lanes.eligible_for(NONE, 1)
    opened(one, lease("a/m"), lease("a/m"))
    one.observe([InstanceLoad("a/m", "m", False)], 9)
    assert [array.tolist() for array in before] == [[0], [0], [2], [True]]
    for array in before:
        with pytest.raises(ValueError, match="read-only"):
            np.asarray(array)[0] = 0


@pytest.mark.parametrize(("last", "turn"), [("", 0), ("a", 1), ("b", 2), ("c", 0), ("bb", 2), ("z", 0)])
def test_the_turn_goes_on_after_the_last_one_even_when_it_is_gone(last: str, turn: int) -> None:
    assert turn_after(("a", "b", "c"), last) == turn


def test_there_is_a_turn_without_instances() -> None:
    assert turn_after((), "a") == 0


def counts(of: Fleet) -> dict[str, list[int]]:
    return dict(zip(COUNTED, (row.tolist() for row in of.models["m"].counts()), strict=True))


def test_a_prompt_is_pending_until_the_first_token() -> None:
    one = fleet("a", "b")
    first, second = lease("a/m", prompt_tokens=30), lease("a/m", prompt_tokens=7)
    opened(one, first, second)
    assert counts(one)["prompt_tokens_pending"] == [37, 0]
    lanes, index = one.lane("a/m")
    lanes.start(index, first)
    first.generated_tokens = 1
    assert counts(one)["prompt_tokens_pending"] == [7, 0]
    assert counts(one)["prompt_tokens_in_flight"] == [37, 0]
    ended(one, first)
    ended(one, second)
    assert all(row == [0, 0] for row in counts(one).values())


def test_what_was_put_there_before_the_last_sight_was_seen() -> None:
    one = fleet("a", "b")
    older, newer = lease("a/m", prompt_tokens=30, opened_us=4), lease("a/m", prompt_tokens=7, opened_us=6)
    opened(one, older, newer, lease("b/m", prompt_tokens=1, opened_us=4))
    assert counts(one)["unseen_prompt_tokens"] == [37, 1]
    one.observe([InstanceLoad("a/m", "m", True, seen_us=5, waiting_count=0)], 9)
    one.count_unseen(newer)
    one.count_unseen(older)
    assert counts(one)["unseen_prompt_tokens"] == [7, 1]
    assert counts(one)["unseen_count"] == [1, 1]
    ended(one, older)
    ended(one, newer)
    assert counts(one)["unseen_count"] == [0, 1]


def test_what_is_on_a_vanished_instance_is_not_counted_twice_when_others_are_seen() -> None:
    one = fleet("a", "b")
    one.observe([InstanceLoad("b/m", "m", True, seen_us=5, waiting_count=0)], 9)
    one.replace([instance("a")])
    newer = lease("b/m", opened_us=6)
    opened(one, newer)
    one.observe([InstanceLoad("a/m", "m", True, seen_us=7, waiting_count=0)], 9)
    one.count_unseen(newer)
    one.replace([instance("a"), instance("b")])
    assert counts(one)["unseen_count"] == [0, 1]


def test_what_was_seen_of_an_instance_stays_when_the_fleet_changes() -> None:
    one = fleet("a")
    one.observe([InstanceLoad("a/m", "m", True, seen_us=5, running_count=3, kv_utilization=0.25)], 9)
    one.replace([instance("a"), instance("b", kv_tokens_max=5_000)])
    seen = one.models["m"].standing.observed
    assert (seen.told.tolist(), seen.running_count.tolist()) == ([True, False], [3, 0])
    assert (seen.kv_utilization.tolist(), seen.kv_tokens_max.tolist()) == ([0.25, 0.0], [100_000, 5_000])
    assert one.seen_us_min() == 5


CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("open"), st.sampled_from("abc"), st.integers(1, 50)),
        st.tuples(st.sampled_from(["start", "end"]), st.integers(0, 20), st.just(0)),
        st.tuples(st.just("observe"), st.sampled_from(["a", "b", "ab", ""]), st.integers(0, 3)),
        st.tuples(st.just("replace"), st.sampled_from(["a", "ab", "bc", "abc", ""]), st.integers(1, 3)),
    ),
    max_size=40,
)


@given(CHANGES)
def test_inv_counts_the_counts_are_those_of_the_open_leases(changes: list[tuple[str, Any, int]]) -> None:
    one, leases, seen = Fleet(FixedCap()), list[Lease](), dict[str, int]()
    for now_us, (kind, what, number) in enumerate(changes, start=10):
        if kind == "open":
            leases.append(lease(f"{what}/m", number, number, now_us))
            opened(one, leases[-1])
        elif kind == "start" and what < len(leases) and not leases[what].generated_tokens:
            lanes, index = one.lane(leases[what].placement.instance_id)
            lanes.start(index, leases[what])
            leases[what].generated_tokens = 1
        elif kind == "end" and what < len(leases):
            ended(one, leases.pop(what))
        elif kind == "observe":
            loads = [InstanceLoad(f"{name}/m", "m", True, now_us - number, waiting_count=0) for name in what]
            one.observe(loads, now_us)
            known = one.models["m"].ids if one.models else ()
            seen |= {name: -1 for name in known} | {x.instance_id: x.seen_us for x in loads if x.instance_id in known}
            for each in leases:
                one.count_unseen(each)
        elif kind == "replace":
            one.replace([instance(name, concurrency_max=number) for name in what])
            held = {each.placement.instance_id for each in leases}
            seen = {name: at for name, at in seen.items() if name in held or name[0] in what}
        check_counts(one, leases, seen)


def check_counts(of: Fleet, leases: list[Lease], seen: dict[str, int]) -> None:
    if "m" not in of.models:
        return
    lanes = of.models["m"]
    for index, instance_id in enumerate(lanes.ids):
        on_it = [one for one in leases if one.placement.instance_id == instance_id]
        unseen = [one for one in on_it if one.opened_us >= seen.get(instance_id, -1)]
        expected = {
            "in_flight_count": len(on_it),
            "predicted_tokens": sum(one.remaining_tokens for one in on_it),
            "prompt_tokens_in_flight": sum(one.request.prompt_tokens for one in on_it),
            "prompt_tokens_pending": sum(one.request.prompt_tokens for one in on_it if not one.generated_tokens),
            "unseen_count": len(unseen),
            "unseen_prompt_tokens": sum(one.request.prompt_tokens for one in unseen),
            "deferred_count": sum(one.request.slo_class is SloClass.DEFERRED for one in on_it),
            "released_count": 0,
        }
        assert {name: row[index] for name, row in counts(of).items()} == expected
        assert bool(lanes.eligible[index]) == (len(on_it) < lanes.cap_of(index))
    assert lanes.eligible_count == int(lanes.eligible.sum())
    assert lanes.tokens_total == int(lanes.counts()[1].sum())
