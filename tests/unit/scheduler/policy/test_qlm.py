from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forebay.core.values import SloClass
from forebay.scheduler.policy.orderer.base import OrderView
from forebay.scheduler.policy.orderer.qlm import Qlm as Orderer
from forebay.scheduler.policy.planner.base import Assignment, Group, PlanView
from forebay.scheduler.policy.planner.none import NoPlan
from forebay.scheduler.policy.planner.qlm import WAIT_WEIGHT
from forebay.scheduler.policy.planner.qlm import Qlm as Planner
from forebay.scheduler.policy.router.qlm import Qlm as Router
from tests.unit.scheduler.kit import S, frozen, route_view, routed
from tests.unit.scheduler.policy.test_orderer import START
from tests.unit.scheduler.policy.test_orderer import view as order_view

# The planner


def cost(view: PlanView, assignment: Assignment) -> float:
    """What the program makes small: seconds late, and a thousandth of the seconds until done."""
    total = 0.0
    for busy_s, queue in zip(view.busy_s, assignment, strict=True):
        done = busy_s
        for group in queue:
            done += view.groups[group].work_s
            total += max(0.0, done - view.groups[group].slack_s) + WAIT_WEIGHT * done
    return total


def best_cost(view: PlanView) -> float:
    """The least cost of all assignments."""
    count, instances = len(view.groups), len(view.busy_s)
    return min(
        cost(view, tuple(tuple(group for group in order if where[group] == i) for i in range(instances)))
        for order in permutations(range(count))
        for where in product(range(instances), repeat=count)
    )


def plan_of(view: PlanView, planner: Planner | None = None) -> Assignment:
    found = (planner or Planner()).plan(view)
    assert found is not None
    assert sorted(group for queue in found for group in queue) == list(range(len(view.groups)))
    return found


GROUPS = st.tuples(st.integers(1, 20), st.integers(-5, 30)).map(lambda one: Group(9, float(one[0]), float(one[1])))


@settings(max_examples=12, deadline=None)
@given(st.lists(GROUPS, min_size=1, max_size=4), st.lists(st.integers(0, 9), min_size=1, max_size=3))
def test_the_plan_is_the_best_of_all_where_it_may_look_long_enough(groups: list[Group], busy: list[int]) -> None:
    view = PlanView(tuple(groups), tuple(map(float, busy)))
    free = Planner(nodes_max=10_000, cells_max=1_000)
    slots = -(-len(groups) // len(busy)) + 1
    found = plan_of(view, free)
    assert max(map(len, found)) <= slots
    if len(groups) <= slots:
        assert cost(view, found) == pytest.approx(best_cost(view), abs=1e-4)


def test_a_long_group_that_can_wait_lets_the_urgent_one_before() -> None:
    view = PlanView((Group(20, 30.0, 35.0), Group(5, 4.0, 36.0)), (0.0,))
    # First deadline first would make the second wait until 34: both are in time, and yet it is done at 4 so.
    assert plan_of(view) == ((1, 0),)


def test_more_than_one_instance_is_no_contradiction_and_busy_ones_get_less() -> None:
    groups = tuple(Group(9, 10.0, 12.0) for _ in range(3))
    plan = plan_of(PlanView(groups, (0.0, 0.0, 100.0, 0.0)))
    assert [len(queue) for queue in plan] == [1, 1, 0, 1]


def test_nothing_to_plan_is_no_plan() -> None:
    assert Planner().plan(PlanView((), (1.0,))) is None
    assert Planner().plan(PlanView((Group(1, 1.0, 1.0),), ())) is None
    assert NoPlan().plan(PlanView((), ())) is None
    assert NoPlan().grouping.step_s == 0


@pytest.mark.parametrize("wrong", [{"step_s": 0}, {"width_s": 0}, {"groups_max": 0}, {"cells_max": 4}])
def test_the_planner_refuses_what_makes_no_sense(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Planner(**wrong)  # type: ignore[arg-type]


# The order


def held(now_s: float, arrived_s: list[float], due_s: list[float], classes: list[int] | None = None) -> OrderView:
    rows = [(one, 50) for one in arrived_s]
    return order_view(now_s, *rows, due_s=due_s, slo_class=classes or [SloClass.INTERACTIVE_NORMAL] * len(rows))


def order(seen: OrderView, width_s: float = 100.0) -> list[int]:
    # Buckets begin at multiples of the width since 1970; START is one of 100 s.
    assert START % (100 * S) == 0
    return np.argsort(Orderer(width_s).rank(seen)).tolist()


def test_groups_go_by_deadline_and_inside_by_arrival() -> None:
    assert order(held(300, [30, 10, 20, 5], [380, 399, 301, 400])) == [1, 2, 0, 3]


def test_classes_are_groups_of_their_own() -> None:
    assert order(held(300, [10, 20], [390, 390], [SloClass.DEFERRED, SloClass.INTERACTIVE_FAST])) == [1, 0]


def test_a_plan_goes_before_deadlines_and_newcomers_before_the_first_group_that_is_due_later() -> None:
    seen = held(300, [1, 2, 3, 290, 291], [310, 350, 900, 340, 1_000])
    # The one due at 340 s goes before the group due at 350 s, which is planned first; the last one after all.
    assert order(replace(seen, planned_rank=frozen([2, 0, 1, -1, -1], np.float64))) == [3, 1, 2, 0, 4]


def test_the_order_refuses_groups_without_width() -> None:
    with pytest.raises(ValueError, match="width_s"):
        Orderer(width_s=0)


# The router


def test_the_planned_instance_is_taken_and_else_the_emptiest() -> None:
    assert routed(Router(), route_view([1, 5, 0])._replace(planned=1)).index == 1
    assert routed(Router(), route_view([1, 5, 0])).index == 2
    full = route_view([1, 5, 0], caps=[9, 5, 9])._replace(planned=1)
    assert routed(Router(), full).index == 2
    assert routed(Router(), full).scores.tolist() == (frozen([1, 0, 1]) * 1e9 + frozen([1, 5, 0])).tolist()
