"""SageServe's plan follows its formula, and each strategy spends it in its own way."""

from dataclasses import replace

import pytest

from forebay.autoscaler.policy.autoscaler import AUTOSCALERS
from forebay.autoscaler.policy.autoscaler.base import (
    Arrived,
    Capability,
    DemandView,
    FleetChoice,
    FleetView,
    ForecastWindow,
    InstanceView,
    Lead,
    PoolView,
    Stock,
)
from forebay.autoscaler.policy.autoscaler.sageserve import LtI, LtU, LtUa, SageServe
from forebay.core.values import InstanceLoad, InstanceRole, SloClass
from tests.unit.autoscaler.policy.kit import S, view

HOUR = 3_600 * S
TOP = 10 * HOUR
FAST, NORMAL, DEFERRED = SloClass.INTERACTIVE_FAST, SloClass.INTERACTIVE_NORMAL, SloClass.DEFERRED


def pool(
    name: str = "east",
    count: int = 2,
    used: float | None = 0.5,
    *,
    region: str = "",
    role: InstanceRole = InstanceRole.MIXED,
    now_us: int = TOP,
    wanted: int | None = None,
    rate: float = 100.0,
    gpu: str = "H100",
    price: float = 1.0,
) -> PoolView:
    """A pool of `count` ready instances, each with this share of its cache in use."""
    loads = (InstanceLoad(f"{name}{n}", "m", True, kv_utilization=used) for n in range(count))
    seen = view(1.0, ready=count, wanted=count if wanted is None else wanted, now_us=now_us)
    return replace(
        seen,
        pool=name,
        region=region or name,
        role=role,
        gpu=gpu,
        gpu_hour_price=price,
        kv_tokens=1_000,
        capability=Capability(rate / 2, rate, rate),
        lead=Lead(60 * S, 90 * S),
        instances=tuple(InstanceView(load.instance_id, 0, load) for load in loads),
    )


def demand(
    region: str = "east",
    slo_class: SloClass = FAST,
    *,
    forecast: float | tuple[float, ...] = (),
    arrived: float = 0.0,
    now_us: int = TOP,
) -> DemandView:
    """Tokens/s, half of them prompts: forecast by window of 300 s, and arrived steadily over the last hour."""
    values = (forecast,) * 14 if isinstance(forecast, (int, float)) else forecast
    windows = tuple(
        ForecastWindow(now_us - now_us % (300 * S) + (n + 1) * 300 * S, (0,) * 4, (tokens,) * 4, (tokens,) * 4)
        for n, tokens in enumerate(value * 150.0 for value in values)
    )
    total = arrived * 1_800
    history = tuple(Arrived(now_us - HOUR + n * 60 * S, 0.0, total * n / 60, total * n / 60) for n in range(61))
    return DemandView("m", region, slo_class, history, windows)


def asked(
    policy: SageServe,
    pools: tuple[PoolView, ...],
    demands: tuple[DemandView, ...],
    memo: dict[str, float] | None = None,
    stocks: tuple[Stock, ...] = (),
) -> FleetChoice:
    return policy.plan(FleetView(pools[0].now_us, pools, demands, stocks=stocks, memo=memo or {}))


def sizes(choice: FleetChoice) -> dict[str, int]:
    return {name: one.instances_wanted for name, one in choice.pools.items()}


def budget(choice: FleetChoice, name: str = "east") -> float:
    return choice.memo[f"budget/{name}"]


def after(choice: FleetChoice, policy: SageServe, seconds: float, one: PoolView, *demands: DemandView) -> FleetChoice:
    """The same policy some time later, with what it remembers."""
    later = replace(one, now_us=one.now_us + int(seconds * S))
    return asked(policy, (later,), demands or (demand(forecast=1.0, now_us=later.now_us),), dict(choice.memo))


def test_the_plan_is_the_closed_form_with_one_kind_and_all_of_it_local() -> None:
    peaks = demand(forecast=(120.0, 420.0, 80.0)), demand("west", NORMAL, forecast=99.0)
    assert sizes(asked(LtI(), (pool(), pool("west")), peaks)) == {"east": 5, "west": 1}


def test_classes_add_up_and_a_tenth_of_the_last_hours_deferred_tokens_is_the_buffer() -> None:
    traffic = (demand(forecast=150.0), demand("east", NORMAL, forecast=40.0), demand("east", DEFERRED, arrived=101.0))
    assert sizes(asked(LtI(), (pool(),), traffic)) == {"east": 3}
    assert sizes(asked(LtI(buffer_share=0.0), (pool(),), traffic)) == {"east": 2}


def test_the_codes_headroom_and_prompt_tokens_are_parameters() -> None:
    traffic = (demand(forecast=190.0),)
    assert sizes(asked(LtI(headroom=0.5), (pool(),), traffic)) == {"east": 4}
    assert sizes(asked(LtI(counts="prompt"), (pool(),), (demand(forecast=220.0),))) == {"east": 3}


def test_what_need_not_be_local_goes_where_it_is_cheap() -> None:
    pools = (pool(price=2.0, count=0), pool("west", price=1.0, count=0))
    traffic = (demand(forecast=400.0), demand("west", forecast=100.0))
    assert sizes(asked(LtI(local_share=0.5), pools, traffic)) == {"east": 2, "west": 3}


def test_an_instance_that_runs_is_kept_where_another_kind_is_cheaper_by_less_than_its_start() -> None:
    pools = (pool(count=2), pool("cheap", count=0, region="east", gpu="A100", price=0.99))
    slow = replace(pools[1], lead=Lead(3_600 * S, 3_600 * S))
    assert sizes(asked(LtI(), (pools[0], slow), (demand(forecast=200.0),))) == {"east": 2, "cheap": 0}
    quick = replace(pools[1], lead=Lead(0, 0))
    assert sizes(asked(LtI(), (pools[0], quick), (demand(forecast=200.0),))) == {"east": 0, "cheap": 2}


def test_the_floor_holds_once_for_each_model_and_region() -> None:
    pools = (pool(), pool("dear", region="east", gpu="A100", price=3.0, count=0))
    assert sizes(asked(LtI(floor=2), pools, (demand(forecast=1.0),))) == {"east": 2, "dear": 0}


def test_gpus_that_lack_are_told_with_what_would_mend_it() -> None:
    choice = asked(LtI(), (pool(),), (demand(forecast=500.0),), stocks=(Stock("east", "H100", 3),))
    assert sizes(choice) == {"east": 3}
    assert choice.warnings == (
        "m/mixed in east: 200 tokens/s cannot be served; H100 in east are used up: 2 more would do",
    )


def test_a_pool_whose_rate_nobody_knows_stays_and_is_told() -> None:
    choice = asked(LtI(), (pool(rate=0.0),), (demand(forecast=500.0),))
    assert sizes(choice) == {"east": 2}
    assert "pool east is not planned" in choice.warnings[0]


def test_without_a_forecast_the_first_fleet_holds() -> None:
    choice = asked(LtI(), (pool(),), (demand(arrived=900.0),))
    assert sizes(choice) == {"east": 2}
    assert choice.pools["east"].reason.startswith("no forecast yet")


def test_the_first_plan_waits_until_traffic_was_seen_for_a_window() -> None:
    just_begun = replace(demand(forecast=900.0), arrived=demand().arrived[-5:])
    assert sizes(asked(LtI(), (pool(),), (just_begun,))) == {"east": 2}
    seen = replace(just_begun, arrived=demand().arrived[-6:])
    assert sizes(asked(LtI(), (pool(),), (seen,))) == {"east": 9}


def test_the_plan_holds_for_the_hour_and_is_made_anew_at_the_next() -> None:
    first = asked(LtI(), (pool(),), (demand(forecast=500.0),))
    now = pool(count=5)
    assert sizes(after(first, LtI(), 3_599, now)) == {"east": 5}
    assert sizes(after(first, LtI(), 3_600, now)) == {"east": 1}


def test_a_budget_is_spent_one_at_a_time_where_caches_are_full() -> None:
    policy, traffic = LtU(), (demand(forecast=500.0),)
    calm = asked(policy, (pool(used=0.5),), traffic)
    assert (sizes(calm), budget(calm)) == ({"east": 2}, 3)
    full = asked(policy, (pool(used=0.71),), traffic)
    assert (sizes(full), budget(full)) == ({"east": 3}, 2)
    waiting = after(full, policy, 119, pool(used=0.9, count=3))
    assert sizes(waiting) == {"east": 3}, "a start takes 60 s and a step 60 s more"
    assert sizes(after(full, policy, 120, pool(used=0.9, count=3))) == {"east": 4}


def test_an_empty_budget_is_the_end_of_it() -> None:
    policy = LtU()
    first = asked(policy, (pool(used=0.9),), (demand(forecast=300.0),))
    assert (sizes(first), budget(first)) == ({"east": 3}, 0)
    assert sizes(after(first, policy, 600, pool(used=0.99, count=3))) == {"east": 3}


def test_what_the_plan_removes_goes_one_at_a_time_where_caches_are_empty() -> None:
    policy, traffic = LtU(), (demand(forecast=100.0),)
    assert sizes(asked(policy, (pool(count=4, used=0.4),), traffic)) == {"east": 4}
    first = asked(policy, (pool(count=4, used=0.1),), traffic)
    assert (sizes(first), budget(first)) == ({"east": 3}, -2)


def test_the_code_removes_at_once_and_overrides_an_empty_budget_once_an_hour() -> None:
    policy = LtU(out_above=0.5, in_below=0.25, removes_at_once=True, override_above=0.9, free_makes_debt=True)
    removed = asked(policy, (pool(count=4, used=0.4),), (demand(forecast=200.0),))
    assert (sizes(removed), budget(removed)) == ({"east": 2}, 0)
    more = after(removed, policy, 300, pool(used=0.95))
    assert (sizes(more), budget(more)) == ({"east": 3}, -1)
    assert sizes(after(more, policy, 600, pool(used=0.95, count=3))) == {"east": 3}
    back = after(more, policy, 900, pool(used=0.2, count=3))
    assert (sizes(back), budget(back)) == ({"east": 2}, 0)


@pytest.mark.parametrize(
    ("policy", "minute", "arrived", "used", "wanted"),
    [
        (LtUa(), 45, 600.0, 0.9, 3),
        (LtUa(), 45, 600.0, 0.6, 2),
        (LtUa(free_needs_utilization=False), 45, 600.0, 0.6, 3),
        (LtUa(), 45, 400.0, 0.9, 2),
        (LtUa(ratio_above=3.0), 45, 400.0, 0.9, 3),
        (LtUa(), 30, 600.0, 0.9, 2),
        (LtUa(free_s=3_600.0), 30, 600.0, 0.9, 3),
        (LtUa(), 45, 40.0, 0.1, 1),
        (LtUa(ratio_below=0.0), 45, 40.0, 0.1, 2),
        (LtU(), 45, 600.0, 0.9, 2),
    ],
)
def test_the_gap_lifts_the_budget_in_the_last_twenty_minutes(
    policy: SageServe, minute: int, arrived: float, used: float, wanted: int
) -> None:
    plan = asked(replace(policy, headroom=0.5), (pool(),), (demand(forecast=100.0),))
    assert (sizes(plan), budget(plan)) == ({"east": 2}, 0)
    then = TOP + minute * 60 * S
    seen = demand(arrived=arrived, now_us=then)
    assert sizes(after(plan, policy, minute * 60, pool(used=used), seen)) == {"east": wanted}


def test_each_silo_has_the_traffic_of_its_classes() -> None:
    pools = (
        pool("fast", region="east", role=InstanceRole.INTERACTIVE),
        pool("batch", region="east", role=InstanceRole.BATCH),
    )
    traffic = (demand(forecast=300.0), demand("east", DEFERRED, forecast=500.0, arrived=500.0))
    assert sizes(asked(LtI(), pools, traffic)) == {"fast": 3, "batch": 5}


def test_load_from_a_region_without_a_pool_is_served_elsewhere() -> None:
    traffic = (demand(forecast=100.0), demand("south", forecast=250.0))
    choice = asked(LtI(), (pool(),), traffic)
    assert (sizes(choice), choice.warnings) == ({"east": 4}, ())


def test_the_three_strategies_have_their_names() -> None:
    names = {name: AUTOSCALERS[name]() for name in ("sageserve_lt_i", "sageserve_lt_u", "sageserve_lt_ua")}
    assert names == {"sageserve_lt_i": LtI(), "sageserve_lt_u": LtU(), "sageserve_lt_ua": LtUa()}


@pytest.mark.parametrize(
    "wrong", [{"strategy": "x"}, {"quantile": "p5"}, {"local_share": 1.1}, {"period_s": 0.0}, {"floor": -1}]
)
def test_contradicting_parameters_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must"):
        SageServe(**wrong)  # type: ignore[arg-type]
