"""One model in several pools: each has its own plan, bounds, GPUs and part of the load."""

from dataclasses import replace

import pytest

from forebay.autoscaler.actions import Action, Decided, Retire, Start
from forebay.autoscaler.config import Config, ModelConfig, StockConfig
from forebay.autoscaler.engine import Engine
from forebay.autoscaler.forecasts import Forecasts
from forebay.autoscaler.policy.autoscaler.base import Choice, FleetChoice, FleetView, Needs
from forebay.core.errors import ModelUnknown
from forebay.core.fleet import Bounds, FleetState
from forebay.core.pressure import Demand, InstancePressure, Pressure, WaitingGroup
from forebay.core.units import US_PER_S
from forebay.core.values import Instance, ModelLoad, SloClass

S = US_PER_S
EAST = ModelConfig("m", pool="m-east", region="east", profile="H100/Llama-3-8B/tp2", instances_max=9, start_s=20.0)
WEST = replace(EAST, pool="m-west", region="west", profile="A100/Llama-3-8B/tp1", instances_min=0, start_s=60.0)


class Wants:
    """A policy that wants what it is told, and keeps what it saw."""

    def __init__(self, **needs: object) -> None:
        self.needs = Needs(**needs)  # type: ignore[arg-type]
        self.wishes: dict[str, int] = {}
        self.seen: list[FleetView] = []
        self.warnings: tuple[str, ...] = ()

    def plan(self, view: FleetView) -> FleetChoice:
        self.seen.append(view)
        pools = {name: Choice(wish, wish, "told", flip="tell it less") for name, wish in self.wishes.items()}
        return FleetChoice(pools, {"plans": float(len(self.seen))}, self.warnings)


def engine_of(policy: Wants, **changes: object) -> Engine:
    config = replace(Config(policy="wants", models=(EAST, WEST)), **changes)  # type: ignore[arg-type]
    return Engine(config, policy, FleetState(), 0)


def starts(actions: list[Action]) -> list[Instance]:
    return [action.instance for action in actions if isinstance(action, Start)]


def up(engine: Engine, instances: list[Instance], at_us: int) -> None:
    for one in instances:
        engine.on_actuated(one.instance_id, replace(one, grpc_address=f"{one.server_id}:1"), at_us)
        engine.on_probe(one.instance_id, True, True, at_us)


def test_each_pool_is_started_in_its_own_region_with_its_own_profile() -> None:
    policy = Wants()
    policy.wishes = {"m-east": 2, "m-west": 1}
    begun = starts(engine_of(policy).on_tick(Forecasts(), S))
    assert sorted((one.pool, one.region, one.profile) for one in begun) == [
        ("m-east", "east", "H100/Llama-3-8B/tp2"),
        ("m-east", "east", "H100/Llama-3-8B/tp2"),
        ("m-west", "west", "A100/Llama-3-8B/tp1"),
    ]


def test_gpus_of_a_region_are_never_exceeded_whatever_is_wanted() -> None:
    policy = Wants()
    policy.wishes = {"m-east": 5, "m-west": 3}
    engine = engine_of(policy, stocks=(StockConfig("east", "H100", 5),))
    begun = starts(engine.on_tick(Forecasts(), S))
    assert [one.pool for one in begun].count("m-east") == 2, "two of two GPUs each fit into five"
    assert [one.pool for one in begun].count("m-west") == 3, "nobody limits the other region"
    reasons = [decision.reason for decision in engine.decisions.page("m", 10, "")[0]]
    assert any("no GPU of its kind is left in its region" in reason for reason in reasons)


def test_a_policy_that_knows_of_finite_gpus_sees_them_by_region_and_kind() -> None:
    policy = Wants()
    engine_of(policy, stocks=(StockConfig("east", "H100", 5),)).on_tick(Forecasts(), S)
    (view,) = policy.seen
    assert [(one.region, one.gpu, one.gpu_count) for one in view.stocks] == [("east", "H100", 5)]
    assert [(one.pool, one.gpu, one.gpu_count) for one in view.pools] == [("m-east", "H100", 2), ("m-west", "A100", 1)]
    assert view.promises[SloClass.INTERACTIVE_FAST].ttft_s == 1.0


def test_a_start_teaches_its_pool_how_long_the_next_one_takes() -> None:
    policy = Wants()
    policy.wishes = {"m-east": 1, "m-west": 0}
    engine = engine_of(policy)
    begun = starts(engine.on_tick(Forecasts(), S))
    assert policy.seen[-1].pools[0].lead.p50_us == 20 * S, "nothing was seen yet"
    up(engine, begun, 34 * S)
    engine.on_tick(Forecasts(), 35 * S)
    assert [pool.lead.p50_us for pool in policy.seen[-1].pools] == [33 * S, 60 * S]


def test_requests_in_flight_count_where_they_are_and_held_ones_in_their_region() -> None:
    policy = Wants(history_us=60 * S)
    policy.wishes = {"m-east": 1, "m-west": 1}
    engine = engine_of(policy)
    up(engine, starts(_fed(engine, S)), 2 * S)
    east, west = sorted(engine.instances(), key=lambda one: one.pool)
    waiting = WaitingGroup("m", "west", SloClass.DEFERRED, 9 * S, 2 * S, request_count=4)
    busy = (InstancePressure(east.instance_id, 3, 2), InstancePressure(west.instance_id, 1))
    engine.on_pressure(Pressure(3 * S, instances=busy, waiting=(waiting,)), 3 * S)
    _fed(engine, 3 * S)
    assert [pool.concurrency[-1][1] for pool in policy.seen[-1].pools] == [5.0, 5.0]


def _fed(engine: Engine, at_us: int) -> list[Action]:
    engine.on_snapshot([ModelLoad("m", held_count=4, in_flight_count=6)], [], at_us)
    return engine.on_tick(Forecasts(), at_us)


def test_arrivals_are_told_as_rates_and_a_scheduler_that_begins_anew_does_not_count_back() -> None:
    policy = Wants(history_us=60 * S)
    policy.wishes = {"m-east": 1, "m-west": 1}
    engine = engine_of(policy)
    for at_s, total in ((1, 100), (11, 150), (21, 10)):
        demand = Demand("m", "east", SloClass.INTERACTIVE_FAST, total, total * 10, total * 2.0)
        engine.on_pressure(Pressure(at_s * S, demands=(demand,)), at_s * S)
        _fed(engine, at_s * S)
    (demand_view,) = policy.seen[-1].demands
    rate = demand_view.rate(60 * S)
    assert (rate.request_count, rate.prompt_tokens, rate.response_tokens) == (3.0, 30.0, 6.0), "60 in 20 s"


def test_bounds_hold_for_one_pool_and_unknown_pools_are_refused_by_name() -> None:
    policy = Wants()
    policy.wishes = {"m-east": 5, "m-west": 5}
    engine = engine_of(policy, step_instances_max=9)
    begun = starts(engine.on_bounds(Bounds("m", 0, 1, "m-west"), 0)) + starts(engine.on_tick(Forecasts(), S))
    assert [one.pool for one in begun].count("m-east") == 5
    assert [one.pool for one in begun].count("m-west") == 1
    with pytest.raises(ModelUnknown, match="pool 'm-south' of model 'm' is not scaled"):
        engine.on_bounds(Bounds("m", 0, 1, "m-south"), 0)


def test_the_pool_survives_a_restart_and_shrinks_by_itself() -> None:
    policy = Wants()
    policy.wishes = {"m-east": 2, "m-west": 2}
    engine = engine_of(policy)
    begun = starts(engine.on_tick(Forecasts(), S))
    up(engine, begun, 2 * S)
    policy.wishes = {"m-east": 2, "m-west": 1}
    (leaving,) = [action for action in engine.on_tick(Forecasts(), 3 * S) if isinstance(action, Retire)]
    assert engine.instance(leaving.instance_id).pool == "m-west"
    assert [(one.pool, one.instances_wanted, one.flip) for one in engine.models("m")] == [
        ("m-east", 2, "tell it less"),
        ("m-west", 1, "tell it less"),
    ]


def test_a_warning_alarms_once_and_stands_until_it_is_over() -> None:
    policy = Wants()
    policy.warnings = ("12 H100 are missing in east",)
    engine = engine_of(policy)
    first, second = engine.on_tick(Forecasts(), S), engine.on_tick(Forecasts(), 2 * S)
    assert [getattr(action, "text", "") for action in first if "missing" in getattr(action, "text", "")]
    assert not [action for action in second if "missing" in getattr(action, "text", "")]
    assert engine.warnings == policy.warnings
    policy.warnings = ()
    engine.on_tick(Forecasts(), 3 * S)
    assert not engine.warnings
    assert policy.seen[-1].memo == {"plans": 2.0}


def test_a_place_that_is_not_given_up_is_asked_for_again_and_told_once() -> None:
    policy = Wants()
    policy.wishes = {"m-east": 2, "m-west": 0}
    engine = engine_of(policy, instances_max=2, dwell_s=0.0)
    up(engine, starts(engine.on_tick(Forecasts(), S)), S)
    made = engine.on_bounds(Bounds("m", 1, 2, "m-west"), 3 * S)
    asked, told = 0, []
    for second in range(5, 20, 2):
        for action in made:
            if isinstance(action, Retire):
                asked += 1
                engine.on_retired(action.instance_id, False, second * S)
            if isinstance(action, Decided) and "needs its place" in action.decision.reason:
                told.append(action.decision)
        made = engine.on_tick(Forecasts(), second * S)
    assert asked > 1
    assert [(one.instances_before, one.instances_after) for one in told] == [(2, 1)]
