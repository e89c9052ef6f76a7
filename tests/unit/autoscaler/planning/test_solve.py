"""Plans are the cheapest, or as far from it as they say, and what cannot be had is told."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forebay.autoscaler.planning.linear import Effort, relaxed
from forebay.autoscaler.planning.program import Ints, Program, needs_of
from forebay.autoscaler.planning.rounding import rounded
from forebay.autoscaler.planning.solve import CLOSED, HIGHS, REGIONS, ROUNDED, solve
from tests.unit.autoscaler.planning.small import best_value, program, programs

EXACT = Effort(gap=0.0)


def assert_allowed(of: Program, instances: Ints) -> None:
    assert (instances >= of.least).all()
    assert (instances <= of.most).all()
    assert ((of.gpus * instances).sum(axis=0) <= of.stocks).all()


@settings(deadline=None)
@given(
    st.lists(st.lists(st.floats(0, 1e4), min_size=3, max_size=3), min_size=1, max_size=4),
    st.floats(1, 500),
    st.integers(0, 40),
)
def test_with_one_kind_and_all_of_it_local_the_plan_is_the_closed_form(
    demand: list[list[float]], rate: float, instances: int
) -> None:
    local, total = needs_of(np.array(demand)[:, None, :], 1.0)
    found = solve(program(local, total, rates=rate, instances=instances, most=20_000))
    assert found.instances.ravel().tolist() == np.ceil(local.ravel() * (1 - 1e-9) / rate).tolist()
    assert (found.method, found.gap, found.shortages) == (CLOSED, 0.0, ())


@settings(max_examples=60, deadline=None)
@given(programs())
def test_with_finite_stocks_no_plan_is_cheaper(of: Program) -> None:
    found = solve(of, EXACT)
    assert_allowed(of, found.instances)
    assert found.cost == pytest.approx(best_value(of), rel=1e-6)
    assert found.bound == pytest.approx(found.cost, rel=1e-6)


@settings(max_examples=60, deadline=None)
@given(programs(with_stocks=False))
def test_without_stocks_no_plan_is_cheaper(of: Program) -> None:
    found = solve(of, EXACT)
    assert_allowed(of, found.instances)
    assert found.cost == pytest.approx(best_value(of), rel=1e-6)


@settings(max_examples=60, deadline=None)
@given(programs())
def test_a_rounded_plan_keeps_to_all_limits_and_its_bound_is_below_every_plan(of: Program) -> None:
    plan, bound = rounded(of)
    best = best_value(of)
    assert_allowed(of, plan)
    assert relaxed(of).value <= best * (1 + 1e-6) + 1e-6
    assert bound <= best * (1 + 1e-6) + 1e-6
    assert of.value(plan) >= best * (1 - 1e-6) - 1e-6


def test_what_may_be_served_elsewhere_is_added_where_it_is_cheapest() -> None:
    of = program([[10, 10, 10]], 60, prices=[[[1], [2], [3]]])
    assert solve(of, EXACT).instances.ravel().tolist() == [4, 1, 1]


def test_an_instance_that_is_there_stays_where_a_new_one_would_be_cheaper_by_less_than_its_start() -> None:
    of = program([[10]], 10, prices=[[[2.0, 1.5]]], starts=[[[1.0, 1.0]]], instances=[[[1, 0]]], kinds=2)
    dearer = program([[10]], 10, prices=[[[2.0, 0.5]]], starts=[[[1.0, 1.0]]], instances=[[[1, 0]]], kinds=2)
    assert solve(of).instances.ravel().tolist() == [1, 0]
    assert solve(dearer).instances.ravel().tolist() == [0, 1]


def test_models_that_share_a_stock_are_planned_together() -> None:
    of = program([[20], [20]], [20, 20], prices=[[[1, 5]], [[1, 2]]], most=3, stocks=[[2, 100]], kinds=2)
    found = solve(of, EXACT)
    assert found.instances[:, 0].tolist() == [[2, 0], [0, 2]], "who would pay most elsewhere gets the cheap ones"
    assert found.method == HIGHS


def test_each_part_is_solved_in_the_simplest_way() -> None:
    kinds = program([[25, 35]], 60, rates=[[[10, 7]]], prices=[[[1.0, 0.8]]], kinds=2)
    assert solve(kinds).method == REGIONS
    assert solve(program([[10, 10]], 60)).method == HIGHS
    assert solve(program([[10, 10]], 60), Effort(pools_max=1)).method == ROUNDED


def test_what_is_cheaper_to_leave_unmet_is_served_all_the_same_where_there_is_room() -> None:
    for of in (program([[100.001]], 100.001, kinds=2), program([[100.001]], 100.001, stocks=20.0)):
        found = solve(of)
        assert found.instances.sum() == 11
        assert found.shortages == ()


def test_a_stock_that_lacks_gpus_is_named_with_how_many_would_do() -> None:
    of = program([[50], [50]], [50, 50], gpus=4, most=10, stocks=20.0)
    found = solve(of, EXACT)
    assert (of.gpus * found.instances).sum() == 20
    assert sum(one.gpu_count for one in found.shortages) == 20
    assert {(one.gpu, one.mend_region) for one in found.shortages} == {("g0", "r0")}
    mended = program([[50], [50]], [50, 50], gpus=4, most=10, stocks=40.0)
    assert solve(mended, EXACT).shortages == ()


def test_a_pool_at_its_most_is_named_with_how_many_instances_would_do() -> None:
    [shortage] = solve(program([[50]], 50, most=3)).shortages
    assert (shortage.region, shortage.tokens_per_s, shortage.gpu_count, shortage.instance_count) == ("r0", 20, 0, 2)
    assert "at its most: 2 more" in shortage.bound_by


def test_load_that_no_region_can_take_is_told_once() -> None:
    [shortage] = solve(program([[5, 5]], 100, most=[[[3], [3]]])).shortages
    assert (shortage.region, shortage.tokens_per_s, shortage.instance_count) == ("", 40.0, 4)


def test_a_model_without_a_pool_in_a_region_is_told() -> None:
    [shortage] = solve(program([[10, 10]], 10, most=[[[0], [5]]])).shortages
    assert (shortage.region, shortage.bound_by) == ("r0", "it has no pool there that could grow")


def test_instances_that_must_be_there_and_do_not_fit_are_left_out_and_told() -> None:
    of = program([[0], [0]], 0, gpus=2, least=2, most=2, stocks=6.0)
    found = solve(of)
    assert found.instances.ravel().tolist() == [2, 1]
    assert [(one.model, one.gpu_count) for one in found.shortages] == [("m1", 2)]


def test_needs_are_the_highest_windows() -> None:
    local, total = needs_of(np.array([[[10.0, 2.0]], [[4.0, 6.0]]]), 0.5)
    assert (local.tolist(), total.tolist()) == ([[5.0, 3.0]], [12.0])


@pytest.mark.parametrize("wrong", [{"least": 5, "most": 2}, {"rates": 0.0}, {"least": -1}])
def test_contradictions_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must be from 0|rate above 0"):
        program([[1]], **wrong)
