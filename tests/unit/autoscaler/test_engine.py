"""What the scripts cannot say: restored fleets, found instances, servers of a repository, figures and forecasts."""

from dataclasses import dataclass, field, replace

import pytest

from forebay.autoscaler.actions import Action, Alarm, Changed, Decided, Retire, Start, Stop
from forebay.autoscaler.config import Config, ModelConfig, ServerConfig
from forebay.autoscaler.engine import Engine
from forebay.autoscaler.forecasts import Forecasts
from forebay.autoscaler.life import Figures
from forebay.autoscaler.policy.autoscaler.base import Choice, ForecastWindow, Needs, PerPool, PoolView
from forebay.autoscaler.policy.autoscaler.static import Static
from forebay.core.fleet import Bounds, FleetSettings, FleetState, Member, Origin, ScalingDecision
from forebay.core.values import Instance, InstanceLoad, InstanceRole, InstanceState, ModelLoad

S = 1_000_000
NOW = 1_800_000_000 * S


def member(
    name: str, state: InstanceState = InstanceState.READY, origin: Origin = Origin.LAUNCHED, model: str = "m"
) -> Member:
    instance = Instance(f"{name}/{model}", model, "127.0.0.1:7300", name, state=state, state_us=NOW - 5 * S)
    return Member(instance, origin, was_ready=state is InstanceState.READY)


def make(state: FleetState | None = None, **changes: object) -> Engine:
    model = ModelConfig(name="m", instances_initial=1, instances_max=4)
    config = Config(policy="static", **{"models": (model,), **changes})  # type: ignore[arg-type]
    return Engine(config, Static(), state or FleetState(), NOW)


def kinds(actions: list[Action]) -> list[str]:
    return [type(action).__name__ for action in actions]


def test_a_restored_fleet_is_there_at_once_and_needs_no_start() -> None:
    engine = make(FleetState(FleetSettings(ordinal=4, revision=17), (member("local-4"),)))
    assert [one.state for one in engine.instances()] == [InstanceState.READY]
    assert engine.revision == 17
    assert not [action for action in engine.on_tick(Forecasts(), NOW) if isinstance(action, Start)]


def test_what_is_started_has_the_role_of_its_model() -> None:
    engine = make(models=(ModelConfig(name="m", role="interactive"),))
    started = [one.instance.role for one in engine.on_tick(Forecasts(), NOW) if isinstance(one, Start)]
    assert started == [InstanceRole.INTERACTIVE]


def test_new_servers_are_numbered_on_after_a_restart() -> None:
    engine = make(FleetState(FleetSettings(ordinal=4)))
    started = [action.instance.instance_id for action in engine.on_tick(Forecasts(), NOW) if isinstance(action, Start)]
    assert started == ["local-5/m"]


def test_what_the_operator_set_outlives_a_restart() -> None:
    settings = FleetSettings({"m": Bounds("m", 2, 3)}, {"m": 3}, "advisory")
    engine = make(FleetState(settings))
    numbers = engine.models()[0]
    assert (numbers.bounds, numbers.instances_wanted, engine.mode) == (Bounds("m", 2, 3), 3, "advisory")
    assert engine.settings == settings


def test_what_died_while_it_was_away_is_replaced_at_once_and_is_no_failed_start() -> None:
    engine = make(FleetState(members=(member("local-4"),)))
    actions = engine.on_survey({"local-4/m": "there is no record of its process"}, NOW)
    assert kinds(actions) == ["Changed", "Alarm", "Decided", "Start", "WakeAt"]
    assert isinstance(actions[0], Changed)
    assert actions[0].member.instance.state is InstanceState.STOPPED


def test_a_drain_goes_on_after_a_restart_and_needs_new_zeros() -> None:
    leaving = replace(member("local-4", InstanceState.DRAINING), was_ready=True)
    engine = make(FleetState(members=(leaving,)))
    assert not engine.on_lease_count("local-4/m", 0, NOW)
    assert not engine.on_lease_count("local-4/m", 0, NOW + 2 * S)
    assert Stop("local-4/m") in engine.on_lease_count("local-4/m", 0, NOW + 3 * S)


def test_one_that_was_never_ready_and_drains_is_stopped_after_a_restart() -> None:
    engine = make(FleetState(members=(member("local-4", InstanceState.DRAINING),)))
    assert Stop("local-4/m") in engine.on_tick(Forecasts(), NOW)


def test_decisions_of_before_can_still_be_explained() -> None:
    decision = ScalingDecision("scale-1-1", "m", 1, 0, 1, 1, "static", "active", "why")
    engine = make(FleetState(decisions=(decision,)))
    assert engine.decisions.get("scale-1-1") is decision
    assert engine.models()[0].last_decision_id == "scale-1-1"


def test_only_the_newest_decisions_are_kept() -> None:
    engine = make(decision_count_max=3)
    for number in range(10):
        engine.on_bounds(Bounds("m", 0, number % 2), NOW + number)
        for instance in engine.instances():
            engine.on_retired(instance.instance_id, True, NOW + number)
    assert len(engine.decisions.page("", 100, "")[0]) == 3


def test_ready_models_of_a_server_are_found_once() -> None:
    servers = (ServerConfig(server_id="gpu-1", grpc_address="127.0.0.1:8001"),)
    engine = make(servers=servers)
    found = Instance("gpu-1/x", "x", "127.0.0.1:8001", "gpu-1")
    assert kinds(engine.on_found([found], NOW)) == ["Changed"]
    assert not engine.on_found([found], NOW + S)
    numbers = next(one for one in engine.models() if one.model == "x")
    assert (numbers.bounds, numbers.starting_count) == (Bounds("x", 1, 1), 1)


def test_a_found_model_that_its_owner_unloads_is_forgotten_when_it_is_empty() -> None:
    servers = (ServerConfig(server_id="gpu-1", grpc_address="127.0.0.1:8001"),)
    engine = make(FleetState(members=(member("gpu-1", origin=Origin.FOUND, model="x"),)), servers=servers)
    for second in range(4):
        engine.on_probe("gpu-1/x", True, False, NOW + second * S)
    assert engine.instance("gpu-1/x").state is InstanceState.LOADING
    engine.on_wake(NOW + 62 * S)
    assert engine.instance("gpu-1/x").state is InstanceState.LOADING
    engine.on_wake(NOW + 63 * S)
    assert engine.instance("gpu-1/x").state is InstanceState.DRAINING
    for second in range(4):
        engine.on_lease_count("gpu-1/x", 0, NOW + (64 + second) * S)
    assert "gpu-1/x" not in {one.instance_id for one in engine.instances()}
    assert engine.on_found([Instance("gpu-1/x", "x", "127.0.0.1:8001", "gpu-1")], NOW + 100 * S)


def test_a_server_that_is_not_configured_any_more_is_left_alone_politely() -> None:
    engine = make(FleetState(members=(member("gpu-1", origin=Origin.FOUND, model="x"),)))
    engine.on_tick(Forecasts(), NOW)
    assert engine.instance("gpu-1/x").state is InstanceState.DRAINING
    for second in range(4):
        assert not [one for one in engine.on_lease_count("gpu-1/x", 0, NOW + second * S) if isinstance(one, Stop)]
    assert "gpu-1/x" not in {one.instance_id for one in engine.instances()}


REPOSITORY = {
    "models": (
        ModelConfig(name="m", launcher="repository", servers=("a", "b"), instances_max=4, instances_initial=3),
        ModelConfig(name="n", launcher="repository", servers=("b",), instances_max=4),
    ),
    "servers": (
        ServerConfig(server_id="a", grpc_address="127.0.0.1:1", metrics_url="http://a/metrics", models_max=1),
        ServerConfig(server_id="b", grpc_address="127.0.0.1:2", models_max=2),
        ServerConfig(server_id="c", grpc_address="127.0.0.1:3", models_max=9),
    ),
}


def test_a_model_is_loaded_where_most_room_is_once_a_server() -> None:
    engine = make(**REPOSITORY)
    actions = engine.on_tick(Forecasts(), NOW)
    started = [action.instance for action in actions if isinstance(action, Start)]
    assert [one.instance_id for one in started] == ["b/m", "a/m", "b/n"]
    assert started[1].metrics_url == "http://a/metrics"
    reasons = [action.decision.reason for action in actions if isinstance(action, Decided)]
    assert reasons[0].endswith("but no server has room for one more")


def test_a_model_that_we_load_on_a_server_is_not_found_there() -> None:
    engine = make(**REPOSITORY)
    ours = Instance("a/m", "m", "127.0.0.1:1", "a")
    other = Instance("c/m", "m", "127.0.0.1:3", "c")
    engine.on_found([ours, other], NOW)
    assert [one.instance_id for one in engine.instances()] == ["c/m"]


def test_what_a_server_tells_fills_only_what_nobody_has_said() -> None:
    engine = make()
    known = Instance("ext-1/m", "m", "127.0.0.1:1", "ext-1", concurrency_max=8)
    engine.on_register(known, 0, NOW)
    figures = Figures(concurrency_max=64, kv_tokens_max=1_000, context_tokens_max=512, profile="p")
    assert kinds(engine.on_described("ext-1/m", figures, NOW)) == ["Changed"]
    told = engine.instance("ext-1/m")
    assert (told.concurrency_max, told.kv_tokens_max, told.context_tokens_max, told.profile) == (8, 1_000, 512, "p")
    assert not engine.on_described("ext-1/m", figures, NOW)
    assert not engine.on_described("nobody", figures, NOW)


@dataclass(slots=True)
class Seeing(PerPool):
    """A policy that keeps what it saw."""

    views: list[PoolView] = field(default_factory=list)
    needs: Needs = field(default_factory=lambda: Needs(60 * S, 60 * S, 2))

    def choose(self, view: PoolView) -> Choice:
        self.views.append(view)
        return Choice(2, 5, "it saw enough", {"x": 1.0}, {"seen": float(len(self.views))})


def seeing() -> tuple[Engine, Seeing]:
    policy = Seeing()
    config = Config(policy="seeing", models=(ModelConfig(name="m", concurrency_target=7.0),))
    return Engine(config, policy, FleetState(), NOW), policy


def test_a_policy_sees_load_history_forecast_and_its_own_memory() -> None:
    engine, policy = seeing()
    window = ForecastWindow(NOW, (1.0, 2.0, 3.0, 4.0), (1.0, 2.0, 3.0, 4.0), (1.0, 2.0, 3.0, 4.0))
    engine.on_snapshot([ModelLoad("m", held_count=3, in_flight_count=4), ModelLoad("other", 1)], [], NOW)
    engine.on_tick(Forecasts({"m": (window,)}), NOW)
    engine.on_snapshot([ModelLoad("m", in_flight_count=1)], [], NOW + S)
    engine.on_tick(Forecasts(), NOW + 2 * S)
    first, second = policy.views
    assert first.concurrency == ((NOW, 7.0),)
    assert (first.forecast, first.memo, first.recommendations) == ((window,), {}, ())
    assert first.concurrency_target == 7.0
    assert second.concurrency == ((NOW, 7.0), (NOW + S, 1.0))
    assert (second.forecast, second.memo, second.recommendations) == ((), {"seen": 1.0}, ((NOW, 5.0),))
    assert (first.instances_wanted, first.starting_count) == (1, 0)
    assert (second.instances_wanted, second.starting_count) == (2, 2)
    assert second.load == ModelLoad("m", in_flight_count=1)


def test_history_older_than_the_policy_needs_is_dropped() -> None:
    engine, policy = seeing()
    for second in range(0, 100, 10):
        engine.on_snapshot([ModelLoad("m")], [], NOW + second * S)
        engine.on_tick(Forecasts(), NOW + second * S)
    assert [at_us for at_us, _ in policy.views[-1].concurrency] == [NOW + second * S for second in range(40, 100, 10)]


def test_without_metrics_the_policy_is_not_asked_and_forgets() -> None:
    engine, policy = seeing()
    engine.on_tick(Forecasts(), NOW)
    assert not policy.views
    engine.on_snapshot([ModelLoad("m")], [], NOW)
    engine.on_tick(Forecasts(), NOW)
    engine.on_tick(Forecasts(), NOW + 11 * S)
    assert len(policy.views) == 1
    assert engine.models()[0].instances_wanted == 2
    engine.on_snapshot([ModelLoad("m")], [], NOW + 12 * S)
    engine.on_tick(Forecasts(), NOW + 12 * S)
    assert policy.views[-1].memo == {}


def test_a_snapshot_that_does_not_name_the_model_says_nothing_of_it() -> None:
    engine, policy = seeing()
    engine.on_snapshot([ModelLoad("other")], [], NOW)
    engine.on_tick(Forecasts(), NOW)
    assert not policy.views


def test_answers_to_what_nobody_asked_change_nothing() -> None:
    engine = make()
    assert not engine.on_actuated("nobody", None, NOW)
    assert not engine.on_actuator_failed("nobody", "why", NOW)
    assert not engine.on_retired("nobody", True, NOW)
    assert not engine.on_stopped("nobody", True, NOW)
    assert not engine.on_probe("nobody", True, True, NOW)
    assert not engine.on_lease_count("nobody", 0, NOW)
    assert not engine.on_survey({"nobody": "why"}, NOW)


def test_a_long_reason_is_cut_to_what_the_contract_allows() -> None:
    engine = make(FleetState(members=(member("local-4"),)))
    actions = engine.on_survey({"local-4/m": "ü" * 5_000}, NOW)
    changed = next(action for action in actions if isinstance(action, Changed))
    assert len(changed.member.instance.state_reason.encode()) <= 1_024
    assert any(isinstance(action, Alarm) for action in actions)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_those_that_run_least_leave_first(number: int) -> None:
    engine = make(FleetState(members=tuple(member(f"local-{n}") for n in (1, 2, 3))))
    loads = [InstanceLoad(f"local-{n}/m", "m", True, NOW, running_count=0 if n == number else 5) for n in (1, 2, 3)]
    engine.on_snapshot([], loads, NOW)
    retired = [action for action in engine.on_bounds(Bounds("m", 0, 2), NOW) if isinstance(action, Retire)]
    assert retired[0] == Retire(f"local-{number}/m")
