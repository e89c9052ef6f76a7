"""What those who start and end instances themselves are told passes the safety kernel first."""

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from forebay.autoscaler.actions import Decided, Retire, Start
from forebay.autoscaler.config import Config, ModelConfig, ServerConfig, StockConfig
from forebay.autoscaler.engine import Engine
from forebay.autoscaler.forecasts import Forecasts
from forebay.autoscaler.policy.autoscaler.base import Choice, Needs, PerPool, PoolView
from forebay.core.fleet import Bounds, FleetState, Member, Origin
from forebay.core.values import Instance, InstanceLoad, InstanceState, ModelLoad

S = 1_000_000


class Wisher(PerPool):
    """Wants what the test says."""

    needs = Needs()

    def __init__(self) -> None:
        self.wishes: dict[str, int] = {}

    def choose(self, view: PoolView) -> Choice:
        wish = self.wishes.get(view.pool, 0)
        return Choice(wish, wish, "the test wants it")


class Stage:
    """An engine with two pools of others and one of its own."""

    def __init__(self, *models: ModelConfig, **values: Any) -> None:
        pools = models or (pulled("a"), pulled("b"), ModelConfig(name="own", instances_min=0, instances_max=9))
        self.config = Config(models=pools, **{"dwell_s": 0.0, **values})
        self.policy = Wisher()
        self.engine = Engine(self.config, self.policy, FleetState(), 0)
        self.now_us = 0

    def tick(self, **wishes: int) -> list[Any]:
        self.policy.wishes.update(wishes)
        self.now_us += 2 * S
        actions = self.engine.on_tick(Forecasts(), self.now_us)
        for action in actions:
            if isinstance(action, Start):
                self.engine.on_actuated(action.instance.instance_id, action.instance, self.now_us)
        return actions

    def told(self) -> tuple[int | None, ...]:
        return self.engine.told("a"), self.engine.told("b")

    def register(self, model: str, number: int) -> str:
        """A pod is there and ready."""
        name = f"pod-{model}-{number}/{model}"
        self.engine.on_register(Instance(name, model, f"10.0.0.{number}:8001", f"pod-{number}"), 0, self.now_us)
        self.engine.on_probe(name, True, True, self.now_us)
        return name


def pulled(name: str, **values: Any) -> ModelConfig:
    return ModelConfig(name=name, launcher="keda", **{"instances_min": 0, "instances_max": 9, **values})


def test_nothing_is_started_or_taken_out_by_the_autoscaler_itself() -> None:
    stage = Stage()
    actions = stage.tick(a=3)
    stage.register("a", 1)
    actions += stage.tick(a=0)
    assert not any(isinstance(action, Start | Retire) for action in actions)
    assert [action.decision.instances_after for action in actions if isinstance(action, Decided)] == [3, 0]


def test_two_pools_never_get_the_same_budget_twice() -> None:
    stage = Stage(instances_max=5)
    stage.tick(a=4, b=4)
    assert stage.told() == (4, 1)
    stage.tick(a=2)
    stage.tick()
    assert stage.told() == (2, 3)


def test_what_is_told_counts_against_those_that_the_autoscaler_starts() -> None:
    stage = Stage(instances_max=5)
    actions = stage.tick(a=3, own=4)
    assert sum(isinstance(action, Start) for action in actions) == 2
    stage.tick(b=2)
    assert stage.told() == (3, 0)


def test_pods_that_are_still_there_take_their_room() -> None:
    stage = Stage(instances_max=4)
    stage.tick(a=3)
    names = [stage.register("a", number) for number in range(3)]
    stage.tick(a=1, b=3)
    assert stage.told() == (1, 1)
    for name in names[1:]:
        stage.engine.on_deregister(name, stage.now_us)
    stage.tick()
    # They drain: Kubernetes has let them go, and their GPUs are not free yet.
    assert stage.told() == (1, 1)


def test_a_stock_of_gpus_limits_what_is_told() -> None:
    stocks = (StockConfig(gpu="H100", gpu_count=5),)
    stage = Stage(pulled("a", gpu="H100", gpu_count=2), pulled("b", gpu="H100"), stocks=stocks)
    stage.tick(a=4, b=4)
    assert stage.told() == (2, 1)


def test_a_pool_does_not_shrink_as_long_as_it_dwells_nor_grow_faster_than_by_steps() -> None:
    stage = Stage(dwell_s=60.0, step_instances_max=2)
    stage.tick(a=5)
    assert stage.told()[0] == 2
    stage.tick()
    stage.tick()
    assert stage.told()[0] == 5
    stage.tick(a=1)
    assert stage.told()[0] == 5
    stage.now_us += 60 * S
    stage.tick()
    assert stage.told()[0] == 3


def test_the_others_must_be_able_to_carry_the_load_before_one_goes() -> None:
    stage = Stage(replace(pulled("a"), concurrency_max=10), pulled("b"))
    stage.tick(a=2)
    loads = []
    for number in range(2):
        name = f"pod-{number}/a"
        instance = Instance(name, "a", f"10.0.0.{number}:8001", f"pod-{number}", concurrency_max=10)
        stage.engine.on_register(instance, 0, stage.now_us)
        stage.engine.on_probe(name, True, True, stage.now_us)
        loads.append(InstanceLoad(name, "a", seen_us=stage.now_us, reachable=True, running_count=8, waiting_count=0))
    stage.engine.on_snapshot([], loads, stage.now_us)
    stage.tick(a=1)
    assert stage.told()[0] == 2


def test_requests_that_wait_take_one_pool_from_zero() -> None:
    pools = (replace(pulled("a"), pool="a-eu"), replace(pulled("a"), pool="a-us"))
    stage = Stage(*pools)
    stage.engine.on_snapshot([ModelLoad("a", held_count=3)], [], stage.now_us)
    stage.tick()
    assert (stage.engine.told("a-eu"), stage.engine.told("a-us")) == (1, 0)
    stage.tick()
    assert (stage.engine.told("a-eu"), stage.engine.told("a-us")) == (1, 0)


def test_another_mode_begins_with_what_is_there() -> None:
    stage = Stage()
    stage.tick(a=6)
    stage.register("a", 1)
    stage.engine.on_mode("advisory", stage.now_us)
    stage.engine.on_bounds(Bounds("a", 0, 1), stage.now_us)
    stage.tick()
    assert stage.told()[0] == 1


def test_what_was_launched_before_its_pool_was_given_to_others_goes() -> None:
    instance = Instance("local-1/a", "a", "127.0.0.1:1", "local-1", state=InstanceState.READY)
    state = FleetState(members=(Member(instance, Origin.LAUNCHED, was_ready=True),))
    engine = Engine(Config(models=(pulled("a"),)), Wisher(), state, 0)
    assert Retire in map(type, engine.on_tick(Forecasts(), S))


def test_a_server_where_a_start_failed_does_not_keep_the_model_from_the_others() -> None:
    servers = tuple(ServerConfig(server_id=name, grpc_address=f"{name}:1") for name in "ab")
    model = ModelConfig(name="m", launcher="repository", servers=("a", "b"), instances_min=0)
    policy = Wisher()
    policy.wishes["m"] = 1
    engine = Engine(Config(models=(model,), servers=servers, backoff_s_min=0.1), policy, FleetState(), 0)
    tried = []
    for tick in range(10, 40, 10):
        for action in engine.on_tick(Forecasts(), tick * S):
            if isinstance(action, Start):
                tried.append(action.instance.server_id)
                engine.on_actuator_failed(action.instance.instance_id, "its disk is full", (tick + 1) * S)
    assert tried == ["a", "b", "a"]


WISHES = st.lists(
    st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(0, 12), st.integers(0, 3)), min_size=1, max_size=12
)


@settings(max_examples=60, deadline=None)
@given(WISHES)
def test_the_budget_holds_whatever_is_wished_and_whoever_comes(wishes: list[tuple[int, int, int, int]]) -> None:
    stage = Stage(instances_max=7, step_instances_max=4)
    for a, b, own, coming in wishes:
        stage.tick(a=a, b=b, own=own)
        told = stage.told()
        launched = sum(one.model == "own" for one in stage.engine.instances())
        assert sum(count or 0 for count in told) + launched <= 7
        for number in range(min(coming, told[0] or 0)):
            stage.register("a", number)
