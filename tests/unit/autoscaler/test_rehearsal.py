"""What would be done is told without doing it, and is what the next tick does."""

from dataclasses import replace

from forebay.autoscaler.actions import Action, Decided, Start
from forebay.autoscaler.config import Config, ModelConfig
from forebay.autoscaler.engine import Engine
from forebay.autoscaler.forecasts import Forecasts
from forebay.autoscaler.policy.autoscaler.base import Choice, FleetChoice, FleetView, Needs
from forebay.autoscaler.policy.autoscaler.hpa_ratio import HpaRatio
from forebay.autoscaler.policy.autoscaler.kpa import Kpa
from forebay.core.fleet import FleetState
from forebay.core.pressure import Demand, Pressure
from forebay.core.units import US_PER_S
from forebay.core.values import ModelLoad, SloClass

S = US_PER_S
MODEL = ModelConfig(name="m", instances_max=9, concurrency_target=10.0)
CONFIG = Config(policy="kpa", models=(MODEL, replace(MODEL, name="n")), instances_max=6, step_instances_max=4)


class Remembers:
    """A policy that wants one more each time it is asked, by what it remembers."""

    needs = Needs()

    def plan(self, view: FleetView) -> FleetChoice:
        asked = view.memo.get("asked", 0.0) + 1
        choices = {
            one.pool: Choice(int(asked), int(asked), f"{len(one.recommendations)} before", memo={"asked": asked})
            for one in view.pools
        }
        return FleetChoice(choices, {"asked": asked}, (f"asked {asked:g} times",))


def events(engine: Engine, at_s: int) -> list[Action]:
    """One second: load and demand are seen, and the policy thinks; what is started comes up."""
    now_us = at_s * S
    loads = [ModelLoad("m", in_flight_count=5 * at_s), ModelLoad("n", held_count=at_s)]
    actions = engine.on_snapshot(loads, [], now_us)
    demands = (Demand("m", "east", SloClass.INTERACTIVE_FAST, at_s, 10 * at_s, 10 * at_s),)
    actions += engine.on_pressure(Pressure(demands=demands), now_us)
    actions += engine.on_tick(Forecasts(), now_us)
    for start in [action.instance for action in actions if isinstance(action, Start)]:
        actions += engine.on_actuated(start.instance_id, replace(start, grpc_address="s:1"), now_us)
        actions += engine.on_probe(start.instance_id, True, True, now_us)
    return actions


def test_an_engine_that_rehearses_all_the_time_does_what_one_does_that_never_does() -> None:
    asked, left_alone = (Engine(CONFIG, Kpa(), FleetState(), 0) for _ in range(2))
    for at_s in range(1, 30):
        for policy in (None, HpaRatio(), Remembers()):
            asked.rehearsal(policy).run(Forecasts(), at_s * S)
        assert events(asked, at_s) == events(left_alone, at_s)
    assert asked.settings == left_alone.settings
    assert asked.warnings == left_alone.warnings
    assert asked.decisions.page("", 1_000, "") == left_alone.decisions.page("", 1_000, "")
    assert asked.decisions.page("", 1_000, "")[0]


def test_neither_plans_nor_memo_change() -> None:
    engine = Engine(CONFIG, Remembers(), FleetState(), 0)
    events(engine, 1)
    before = (repr(engine._sizing.plans), engine._sizing._memo, repr(list(engine._fleet)))
    assert engine.rehearsal().run(Forecasts(), 2 * S)[1] == ("asked 2 times",)
    assert engine.rehearsal().run(Forecasts(), 2 * S)[1] == ("asked 2 times",)
    assert (repr(engine._sizing.plans), engine._sizing._memo, repr(list(engine._fleet))) == before
    assert engine.warnings == ("asked 1 times",)


def test_another_policy_remembers_nothing_of_the_one_in_force() -> None:
    engine = Engine(CONFIG, Remembers(), FleetState(), 0)
    for at_s in (1, 2, 3):
        events(engine, at_s)
    pools, warnings = engine.rehearsal(Remembers()).run(Forecasts(), 4 * S)
    assert warnings == ("asked 1 times",)
    assert {one.reason for one in pools} == {"0 before"}


def test_the_advice_is_what_the_next_tick_does_budget_shared_between_pools() -> None:
    engine = Engine(CONFIG, Kpa(), FleetState(), 0)
    engine.on_snapshot([ModelLoad("m", in_flight_count=60), ModelLoad("n", in_flight_count=60)], [], S)
    pools, _ = engine.rehearsal().run(Forecasts(), S)
    assert [(one.model, one.instances_before, one.instances_after) for one in pools] == [("m", 0, 4), ("n", 0, 2)]
    assert all(one.instances_wanted > one.instances_after and one.bound_by and one.inputs for one in pools)
    actions = engine.on_tick(Forecasts(), S)
    decided = {one.decision.model: one.decision for one in actions if isinstance(one, Decided)}
    assert {one.model: one.instances_after for one in pools} == {
        model: decision.instances_after for model, decision in decided.items()
    }
    assert {one.model: one.bound_by for one in engine.models()} == {one.model: one.bound_by for one in pools}


def test_without_fresh_metrics_the_plan_holds_and_the_advice_says_so() -> None:
    engine = Engine(CONFIG, Kpa(), FleetState(), 0)
    pools, _ = engine.rehearsal().run(Forecasts(), S)
    assert all("no fresh metrics" in one.reason for one in pools)
