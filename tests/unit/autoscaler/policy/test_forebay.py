"""Forebay's plan: what cannot wait sets the level, what can wait fills the valleys."""

from dataclasses import replace
from typing import Any

import pytest

from forebay.autoscaler.policy.autoscaler.base import (
    Arrived,
    Capability,
    DemandView,
    FleetView,
    ForecastWindow,
    InstanceView,
    Lead,
    PoolView,
    Stock,
)
from forebay.autoscaler.policy.autoscaler.forebay import Forebay
from forebay.core.pressure import InstancePressure, WaitingGroup
from forebay.core.promises import Promise
from forebay.core.values import ModelLoad, SloClass

S = 1_000_000
NOW = 6_000 * S
FAST, DEFERRED = SloClass.INTERACTIVE_FAST, SloClass.DEFERRED
ABLE = Capability(1_000.0, 100.0, 1_100.0)


def pool(name: str = "m", **changes: Any) -> PoolView:
    """A pool whose instances do 100 response tokens a second and start within 90 s."""
    plain = PoolView(
        model="m",
        now_us=NOW,
        ready_count=2,
        starting_count=0,
        draining_count=0,
        instances_wanted=2,
        instances_min=0,
        instances_max=50,
        instances_initial=1,
        concurrency_target=10.0,
        load=ModelLoad("m"),
        concurrency=((NOW, 35.0),),
        pool=name,
        gpu="H100",
        capability=ABLE,
        lead=Lead(60 * S, 90 * S),
    )
    return replace(plain, **changes)


def windows(*responses: float, spread: float = 0.0) -> tuple[ForecastWindow, ...]:
    """Windows of a minute from now on with so many response tokens a second, p90 above it by `spread`."""
    made = []
    for number, rate in enumerate(responses):
        tokens = (60 * (rate - spread), 60 * rate, 60 * (rate + spread), 60 * (rate + 1.5 * spread))
        made.append(ForecastWindow(NOW + number * 60 * S, (1.0,) * 4, (0.0,) * 4, tokens))
    return tuple(made)


def demand(*responses: float, slo_class: SloClass = FAST, region: str = "local", now: float = 0.0) -> DemandView:
    """Forecasts of one class, and `now` response tokens a second that have arrived over the last minutes."""
    arrived = (Arrived(NOW - 120 * S, 0.0, 0.0, 0.0), Arrived(NOW, 120.0, 0.0, 120.0 * now))
    return DemandView("m", region, slo_class, arrived, windows(*responses))


def fleet(*demands: DemandView, pools: tuple[PoolView, ...] = (), **changes: Any) -> FleetView:
    return FleetView(NOW, pools or (pool(),), demands, **changes)


def wanted(view: FleetView, policy: Forebay | None = None) -> dict[str, int]:
    choice = (policy or Forebay()).plan(view)
    return {name: one.instances_wanted for name, one in choice.pools.items()}


def test_what_is_forecast_within_two_leads_is_provided_for() -> None:
    assert wanted(fleet(demand(100.0, 100.0, 290.0, 900.0))) == {"m": 3}, "the third minute begins within 2 x 90 s"


def test_a_forecast_that_is_sure_needs_less_than_one_that_is_not() -> None:
    sure, unsure = (DemandView("m", "local", FAST, (), windows(290.0, spread=wide)) for wide in (1.0, 120.0))
    assert wanted(fleet(sure)) == {"m": 3}
    assert wanted(fleet(unsure)) == {"m": 5}
    assert wanted(fleet(unsure), Forebay(miss_price=2.0)) == {"m": 3}, "misses are cheap"


def test_arrivals_above_the_forecast_and_held_requests_count_at_once() -> None:
    assert wanted(fleet(demand(100.0, now=420.0))) == {"m": 5}
    held = WaitingGroup("m", "local", FAST, NOW + S, NOW, 10, 0, 12_000.0)
    assert wanted(fleet(demand(100.0), waiting=(held,))) == {"m": 2}, "12,000 tokens within a minute are 200 a second"


def test_what_instances_are_expected_to_hold_is_a_floor() -> None:
    pressed = tuple(
        InstanceView(f"i{number}", 0, None, InstancePressure(f"i{number}", 10, 0, peak_share=0.85)) for number in (1, 2)
    )
    assert wanted(fleet(demand(10.0), pools=(pool(instances=pressed),))) == {"m": 2}, "1.7 of 0.9"
    deferred = tuple(
        InstanceView(f"i{number}", 0, None, InstancePressure(f"i{number}", 0, 10, peak_share=0.85)) for number in (1, 2)
    )
    assert wanted(fleet(demand(10.0), pools=(pool(instances=deferred),))) == {"m": 1}, "what can wait holds nothing up"


def test_a_pool_shrinks_to_the_most_that_was_wanted_within_three_lead_times() -> None:
    def wanted(*recommended: tuple[int, float]) -> int:
        lately = pool(recommendations=tuple((NOW - ago * S, count) for ago, count in recommended), instances_wanted=6)
        return Forebay().plan(fleet(demand(250.0, 250.0, 250.0, 250.0), pools=(lately,))).pools["m"].instances_wanted

    assert wanted((200, 6.0)) == 3, "three leads are 180 s"
    assert wanted((170, 5.0), (10, 4.0)) == 5
    assert wanted((170, 9.0)) == 6, "what was wanted and never came is not asked for again"


def test_work_that_can_wait_asks_for_nothing_as_long_as_valleys_suffice() -> None:
    day = demand(*([180.0] * 10 + [20.0] * 50))
    waiting = WaitingGroup("m", "local", DEFERRED, NOW + 3_600 * S, NOW, 100, 0, 50 * 60 * 60.0)
    policy = Forebay(margin=0.0)
    assert wanted(fleet(day, waiting=(waiting,)), policy) == {"m": 2}, "180 now; the valley takes 60 a second"
    more = replace(waiting, mean_tokens=60 * 60 * 250.0)
    assert wanted(fleet(day, waiting=(more,)), policy) == {"m": 3}, "(10 x 180 + 50 x 20) / 60 + 250 is 297 a second"
    due = replace(waiting, due_us=NOW + 600 * S)
    assert wanted(fleet(day, waiting=(due,)), policy) == {"m": 5}, "180,000 tokens in 600 s beside 180 a second"


def test_deferred_work_that_is_forecast_leaves_valleys_less_deep() -> None:
    held = WaitingGroup("m", "local", DEFERRED, NOW + 3_600 * S, NOW, 100, 0, 3_600 * 190.0)
    coming = demand(*([0.0] * 30 + [600.0] * 30), slo_class=DEFERRED)
    soon, late = ({DEFERRED: Promise(e2e_s=span_s)} for span_s in (600.0, 86_400.0))
    policy = Forebay(margin=0.0)
    assert wanted(fleet(coming, waiting=(held,), promises=late), policy) == {"m": 2}, "later work has a day"
    assert wanted(fleet(coming, waiting=(held,), promises=soon), policy) == {"m": 4}, "later work fills its own time"
    assert wanted(fleet(coming, promises=soon), policy) == {"m": 0}, "nothing waits yet"


def test_two_regions_share_what_is_cheapest_and_serve_their_own() -> None:
    pools = (
        pool("east", region="east", gpu_hour_price=2.0),
        pool("west", region="west", gpu_hour_price=1.0, instances_max=9),
    )
    view = fleet(demand(250.0, region="east"), demand(150.0, region="west"), pools=pools)
    assert wanted(view) == {"east": 3, "west": 2}
    assert wanted(view, Forebay(local_share=0.0)) == {"east": 0, "west": 4}


def test_what_a_stock_forbids_is_told_with_what_would_mend_it() -> None:
    pools = (pool("east", region="east"), pool("west", region="west"))
    view = fleet(
        demand(550.0, region="east"),
        demand(50.0, region="west"),
        pools=pools,
        stocks=(Stock("east", "H100", 3), Stock("west", "H100", 1)),
    )
    choice = Forebay().plan(view)
    assert {name: one.instances_wanted for name, one in choice.pools.items()} == {"east": 3, "west": 1}
    assert choice.warnings
    assert all(text.startswith("m: ") for text in choice.warnings)


def test_a_forecast_that_keeps_missing_is_not_used_and_said_so() -> None:
    policy, memo = Forebay(miss_weight=0.5), dict[str, float]()
    low = demand(10.0, 10.0, now=300.0)
    for minute in range(4):
        now_us = NOW + minute * 60 * S
        arrived = tuple(
            Arrived(now_us - back * 60 * S, 0.0, 0.0, 300.0 * 60.0 * (99 - back)) for back in range(3, -1, -1)
        )
        forecast = tuple(
            replace(one, start_us=now_us + number * 60 * S) for number, one in enumerate(windows(10.0, 10.0))
        )
        seen = replace(low, arrived=arrived, forecast=forecast)
        mine = pool(now_us=now_us, forecast=forecast)
        choice = policy.plan(FleetView(now_us, (mine,), (seen,), memo=memo))
        memo = dict(choice.memo)
    assert choice.pools["m"].instances_wanted == 4, "300 a second and 30 % more, with no forecast to go by"
    assert "the forecast is not used" in choice.pools["m"].reason


def test_without_rates_the_concurrency_target_holds_and_the_remedy_is_named() -> None:
    choice = Forebay().plan(fleet(demand(100.0), pools=(pool(capability=Capability()),)))
    assert choice.pools["m"].instances_wanted == 4
    assert choice.warnings == ("m: no rates are known; `forebay profile` measures them",)


def test_a_reason_names_every_part_and_what_would_change_it() -> None:
    choice = Forebay().plan(fleet(demand(290.0))).pools["m"]
    assert "3 for what is forecast" in choice.reason
    assert choice.flip == "0 would do without the 3 for what is forecast"
    assert choice.inputs["coming"] == 3.0


@pytest.mark.parametrize("wrong", [{"miss_price": 1.0}, {"fill": 0.0}, {"window_s": 0.0}, {"margin": 1.0}])
def test_parameters_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Forebay(**wrong)  # type: ignore[arg-type]
