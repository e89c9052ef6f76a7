"""What a fleet's view says of its parts: whose a demand is, how much of it, and what it expects."""

import pytest

from forebay.autoscaler.policy.autoscaler.base import Capability, DemandView, kept, not_profiled
from forebay.core.values import InstanceRole, SloClass
from tests.unit.autoscaler.policy.kit import RATES, S, fleet, view, window

FAST, DEFERRED = SloClass.INTERACTIVE_FAST, SloClass.DEFERRED


def test_a_demand_is_served_where_it_is_and_by_the_role_for_its_class() -> None:
    east = view(pool="east", region="east")
    west = view(pool="west", region="west", role=InstanceRole.INTERACTIVE)
    batch = view(pool="batch", region="west", role=InstanceRole.BATCH)
    whole = fleet(east, west, batch, view(pool="other", model="n"))
    assert whole.homes(DemandView("m", "west", FAST)) == (west,)
    assert whole.homes(DemandView("m", "west", DEFERRED)) == (batch,)
    assert whole.homes(DemandView("m", "east", DEFERRED)) == (east,)
    assert whole.homes(DemandView("m", "nowhere", FAST)) == (east, west)


def test_a_demand_without_a_role_for_it_goes_to_whoever_is_there() -> None:
    batch = view(pool="batch", role=InstanceRole.BATCH)
    assert fleet(batch).homes(DemandView("m", "local", FAST)) == (batch,)


def test_shares_are_as_large_as_the_pools() -> None:
    small = view(pool="small", wanted=1, capability=Capability(1.0, 1.0, 100.0))
    large = view(pool="large", wanted=3, capability=Capability(1.0, 1.0, 200.0))
    whole = fleet(small, large)
    demand = DemandView("m", "local", FAST)
    assert [whole.share(pool, demand) for pool in (small, large)] == pytest.approx([1 / 7, 6 / 7])
    assert whole.share(view(pool="else", model="n"), demand) == 0.0


def test_the_only_pool_expects_what_the_model_does() -> None:
    expected = (window(0, 1.0, 2.0, 3.0),)
    pool = view(forecast=expected)
    assert fleet(pool).forecast_of(pool) == expected


def test_one_of_several_pools_expects_its_part_of_the_demands() -> None:
    east = view(pool="east", region="east", wanted=2, forecast=(window(0, 9.0, 9.0, 9.0),))
    west = view(pool="west", region="west", wanted=1)
    demands = (
        DemandView("m", "east", FAST, forecast=(window(0, 1.0, 10.0, 100.0),)),
        DemandView("m", "west", FAST, forecast=(window(0, 2.0, 20.0, 200.0),)),
        DemandView("m", "south", FAST, forecast=(window(0, 3.0, 30.0, 300.0),)),
    )
    whole = fleet(east, west, demands=demands)
    assert whole.forecast_of(east) == (window(0, 3.0, 30.0, 300.0),)  # 1 + 2/3 of 3
    assert whole.forecast_of(west) == (window(0, 3.0, 30.0, 300.0),)  # 2 + 1/3 of 3
    bare = fleet(east, west)
    assert bare.forecast_of(east) == (window(0, 6.0, 6.0, 6.0),)
    assert bare.forecast_of(west) == ()


def test_instances_for_rates_are_those_of_the_scarcest_rate() -> None:
    assert RATES.instances_for(500.0, 10.0) == 0.5
    assert RATES.instances_for(500.0, 200.0) == 2.0
    assert RATES.instances_for(1_000.0, 100.0) == pytest.approx(1_100 / 1_050)


def test_keeping_keeps_the_number_and_the_memory() -> None:
    choice = kept(view(wanted=3, memo={"a": 1.0}), "nothing is known")
    assert (choice.instances_wanted, choice.recommended, choice.reason) == (3, 3, "nothing is known")
    assert choice.memo == {"a": 1.0}
    assert "forebay profile" in not_profiled(view(pool="chat"))


def test_times_are_in_microseconds() -> None:
    assert window(5 * S, 1.0, 1.0, 1.0).times(2.0) == window(5 * S, 2.0, 2.0, 2.0)


def test_a_step_begins_from_what_stands_until_a_shrink_is_carried_out() -> None:
    assert view(ready=5, wanted=4).standing_count == 5
    assert view(ready=3, wanted=4).standing_count == 4
    assert view(ready=3, wanted=4, starting_count=2).standing_count == 5
