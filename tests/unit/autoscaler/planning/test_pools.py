"""Pools and demands by name become a program, and its plan becomes their sizes."""

import pytest

from forebay.autoscaler.planning.pools import Pool, table_of
from forebay.autoscaler.planning.solve import solve
from forebay.autoscaler.planning.utilization import utilization
from forebay.core.values import InstanceLoad


def pool(name: str, model: str = "m", region: str = "east", gpu: str = "H100", rate: float = 10.0) -> Pool:
    return Pool(name, model, region, gpu, instances=0, rate=rate, price=1.0)


def test_each_pool_gets_its_own_count() -> None:
    pools = [pool("a"), pool("b", region="west"), pool("c", model="n", rate=5.0)]
    demands = {("m", "east"): [5.0, 25.0], ("m", "west"): [11.0, 1.0], ("n", "east"): [14.0, 14.0]}
    table = table_of(pools, demands, {}, 1.0)
    assert table.counts(solve(table.program)) == {"a": 3, "b": 2, "c": 3}


def test_the_total_is_that_of_one_window_and_not_of_the_highest_of_each() -> None:
    demands = {("m", "east"): [5.0, 25.0], ("m", "west"): [11.0, 1.0]}
    program = table_of([pool("a"), pool("b", region="west")], demands, {}, 0.5).program
    assert (program.local.tolist(), program.total.tolist()) == ([[12.5, 5.5]], [26.0])


def test_load_that_is_told_for_fewer_windows_goes_on_as_it_ends() -> None:
    program = table_of(
        [pool("a"), pool("c", model="n")], {("m", "east"): [5.0], ("n", "east"): [1.0, 2.0]}, {}, 1.0
    ).program
    assert program.total.tolist() == [5.0, 2.0]


def test_a_region_without_a_pool_needs_nothing_of_its_own() -> None:
    program = table_of([pool("a")], {("m", "east"): [5.0], ("m", "south"): [30.0]}, {}, 1.0).program
    assert (program.local.tolist(), program.total.tolist()) == ([[5.0, 0.0]], [35.0])


def test_models_share_the_stock_of_their_region() -> None:
    pools = [pool("a"), pool("c", model="n")]
    table = table_of(pools, {("m", "east"): [40.0], ("n", "east"): [40.0]}, {("east", "H100"): 5}, 1.0)
    assert sum(table.counts(solve(table.program)).values()) == 5


def test_two_pools_that_are_alike_are_told_apart() -> None:
    table = table_of([pool("a", rate=5.0), pool("b")], {("m", "east"): [20.0]}, {("east", "H100"): 9}, 1.0)
    assert table.counts(solve(table.program)) == {"a": 0, "b": 2}


def load(used: float | None) -> InstanceLoad:
    return InstanceLoad("i", "m", True, kv_utilization=used)


def test_utilization_is_of_all_caches_together() -> None:
    assert utilization([(load(1.0), 100), (load(0.0), 300), (load(None), 900), (None, 900)]) == pytest.approx(0.25)
    assert utilization([(load(0.5), 0), (load(1.0), 0)]) == pytest.approx(0.75)
    assert utilization([(load(None), 100)]) is None
