"""What went wrong elsewhere when fleets were scaled, each with the guard against it and what happens without the guard.

The cases are from the issue trackers of Dynamo, llm-d and Ray Serve.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import pytest

from forebay.autoscaler.actions import Action, Alarm, Decided, Retire, Start, Stop
from forebay.autoscaler.config import Config, ModelConfig, StockConfig
from forebay.autoscaler.engine import Engine
from forebay.autoscaler.forecasts import Forecasts
from forebay.autoscaler.leadership import Leadership
from forebay.autoscaler.policy.autoscaler import AUTOSCALERS
from forebay.autoscaler.policy.autoscaler.base import Autoscaler, Choice, Needs, PerPool, PoolView
from forebay.autoscaler.store import MemoryStore
from forebay.core.errors import NotLeader
from forebay.core.fleet import Bounds, FleetState
from forebay.core.values import Instance, InstanceLoad, InstanceState, ModelLoad

S = 1_000_000


@dataclass(slots=True)
class Told(PerPool):
    """A policy that wants what the test tells it, by pool."""

    wishes: dict[str, int]
    needs: Needs = field(default_factory=Needs)

    def choose(self, view: PoolView) -> Choice:
        wish = self.wishes[view.pool]
        return Choice(wish, wish, "told")


class World:
    """An engine whose actuator starts everything within `start_s`, and a scheduler that counts `leases`."""

    def __init__(self, config: Config, policy: Autoscaler, start_s: float = 10.0) -> None:
        self.engine = Engine(config, policy, FleetState(), 0)
        self.now_us = 0
        self.start_us = round(start_s * S)
        self.never_ready: set[str] = set()
        self.leases: dict[str, int] = {}
        self.said: list[tuple[int, Action]] = []
        self.load: ModelLoad | None = None
        self._ready: dict[str, int] = {}

    def apply(self, actions: Sequence[Action]) -> None:
        for action in actions:
            self.said.append((self.now_us, action))
            self._answer(action)

    def _answer(self, action: Action) -> None:
        if isinstance(action, Start):
            placed = replace(action.instance, grpc_address="127.0.0.1:1")
            self._ready[placed.instance_id] = self.now_us + self.start_us
            self.apply(self.engine.on_actuated(placed.instance_id, placed, self.now_us))
        elif isinstance(action, Retire):
            self.apply(self.engine.on_retired(action.instance_id, True, self.now_us))
        elif isinstance(action, Stop):
            self.apply(self.engine.on_stopped(action.instance_id, True, self.now_us))

    def run(self, seconds: int, each: Callable[[int], None] = lambda _: None) -> None:
        """Lives through so many seconds; `each` is called in each with its number."""
        for second in range(seconds):
            self.now_us += S
            each(second)
            if self.load is not None:
                self.apply(self.engine.on_snapshot([self.load], [], self.now_us))
            for one in self.engine.instances():
                ready = one.model not in self.never_ready and self.now_us >= self._ready.get(one.instance_id, 0)
                self.apply(self.engine.on_probe(one.instance_id, True, ready, self.now_us))
                if one.state is InstanceState.DRAINING:
                    count = self.leases.get(one.instance_id, 0)
                    self.apply(self.engine.on_lease_count(one.instance_id, count, self.now_us))
            if second % 2 == 0:
                self.apply(self.engine.on_tick(Forecasts(), self.now_us))

    def times(self, kind: type) -> list[int]:
        return [at_us // S for at_us, action in self.said if isinstance(action, kind)]

    def states(self) -> dict[str, str]:
        return {one.instance_id: one.state.name for one in self.engine.instances()}


def one_model(**changes: object) -> Config:
    model = ModelConfig(name="m", instances_min=0, instances_max=8, instances_initial=2)
    return Config(**{"models": (model,), "drain_quiet_s": 3.0, **changes})  # type: ignore[arg-type]


# Requests in flight are killed 5 s after the instance was told to go (Dynamo).


def drained_with_a_lease(world: World) -> list[int]:
    world.run(80)
    world.leases = {one: 1 for one in world.states()}
    world.engine._sizing._policy.wishes["m"] = 1  # type: ignore[attr-defined]
    world.run(120)
    return world.times(Stop)


def test_what_has_requests_in_flight_is_never_stopped_however_long_it_takes() -> None:
    world = World(one_model(drain_alarm_s=30.0), Told({"m": 2}))
    assert drained_with_a_lease(world) == []
    assert sorted(world.states().values()) == ["DRAINING", "READY"]
    # Nobody forgets it either.
    alarms = [action.text for _, action in world.said if isinstance(action, Alarm)]
    assert any("has been draining for 30 s: the scheduler still counts requests on it" in text for text in alarms)
    assert any("has been draining for 60 s" in text for text in alarms)
    world.leases = {}
    world.run(5)
    assert len(world.times(Stop)) == 1
    assert list(world.states().values()) == ["READY"]


def test_without_the_count_of_leases_it_would_be_killed() -> None:
    world = World(one_model(), Told({"m": 2}))
    count = world.engine.on_lease_count
    world.engine.on_lease_count = lambda key, _, now_us: count(key, 0, now_us)  # type: ignore[method-assign]
    assert drained_with_a_lease(world) != []


# The planner never scales down: idle traffic gives no samples, and instances that never come up block it (Dynamo).


@pytest.mark.parametrize("policy", ["kpa", "hpa_ratio"])
def test_a_model_without_traffic_gets_smaller_also_while_another_never_comes_up(policy: str) -> None:
    busy = ModelConfig(name="m", instances_min=1, instances_max=4, instances_initial=4)
    broken = ModelConfig(name="broken", instances_min=1, instances_max=2, instances_initial=2)
    world = World(Config(policy=policy, models=(busy, broken)), AUTOSCALERS[policy]())
    world.never_ready = {"broken"}
    world.load = ModelLoad("m")
    world.run(300)
    numbers = {one.model: one for one in world.engine.models()}
    assert numbers["m"].ready_count == 1
    assert numbers["broken"].ready_count == 0


# The budget of GPUs is exceeded while one pool gives to another, and then nothing moves any more (Dynamo).


def two_pools() -> Config:
    return Config(
        models=(
            ModelConfig(name="m", instances_min=0, instances_max=4, instances_initial=4, gpu="H100"),
            ModelConfig(name="n", instances_min=0, instances_max=4, instances_initial=0, gpu="H100"),
        ),
        stocks=(StockConfig("local", "H100", 4),),
        dwell_s=0.0,
    )


def most_at_once(world: World) -> int:
    most = 0

    def look(_: int) -> None:
        nonlocal most
        most = max(most, len(world.states()))

    world.run(40, look)
    world.leases = {one: 1 for one in world.states()}
    world.engine._sizing._policy.wishes.update(m=1, n=3)  # type: ignore[attr-defined]
    world.run(20, look)
    world.leases = {}
    world.run(60, look)
    return most


def test_a_pool_gets_what_another_gives_only_once_that_is_gone_and_then_gets_all_of_it() -> None:
    world = World(two_pools(), Told({"m": 4, "n": 0}))
    assert most_at_once(world) == 4
    assert {one.model: one.ready_count for one in world.engine.models()} == {"m": 1, "n": 3}


def test_with_draining_instances_left_out_of_the_count_the_stock_would_be_exceeded() -> None:
    world = World(two_pools(), Told({"m": 4, "n": 0}))
    rooms = world.engine._sizing._rooms
    taken = rooms._taken

    def forgetful(stock: StockConfig) -> int:
        return taken(stock) - sum(one.state is InstanceState.DRAINING for one in world.engine.instances())

    rooms._taken = forgetful  # type: ignore[method-assign]
    assert most_at_once(world) > 4


# Noise of some per cent flips the number of instances every 15 s (llm-d).


def flips(world: World) -> int:
    def wobble(second: int) -> None:
        world.engine._sizing._policy.wishes["m"] = 2 + (second // 15) % 2  # type: ignore[attr-defined]

    world.run(60)
    before = len(world.times(Start))
    world.run(600, wobble)
    return len(world.times(Start)) - before


def test_a_pool_that_grew_serves_at_least_as_long_as_a_start_takes() -> None:
    world = World(one_model(), Told({"m": 2}), start_s=60.0)
    assert flips(world) <= 600 // 75 + 1


def test_without_dwell_every_flip_would_be_followed() -> None:
    world = World(one_model(dwell_s=0.0), Told({"m": 2}), start_s=60.0)
    assert flips(world) >= 600 // 30 - 1


def test_growing_never_waits_for_the_dwell() -> None:
    world = World(one_model(), Told({"m": 2}), start_s=60.0)
    world.run(70)
    for wish in (3, 4, 5):
        world.engine._sizing._policy.wishes["m"] = wish  # type: ignore[attr-defined]
        world.run(2)
        assert len(world.times(Start)) == wish


# Scaling down by today's load overloads those that stay.


def shrunk(world: World) -> int:
    world.run(70)
    world.engine._sizing._policy.wishes["m"] = 1  # type: ignore[attr-defined]

    def busy(_: int) -> None:
        ready = [one.instance_id for one in world.engine.instances() if one.state is InstanceState.READY]
        loads = [InstanceLoad(one, "m", True, world.now_us, 24 // len(ready), 0) for one in ready]
        world.apply(world.engine.on_snapshot([ModelLoad("m", 0, 24)], loads, world.now_us))

    world.run(20, busy)
    return sum(state == "READY" for state in world.states().values())


def seats() -> tuple[ModelConfig, ...]:
    return (ModelConfig(name="m", instances_min=0, instances_max=8, instances_initial=4, concurrency_max=10),)


def test_no_more_leave_than_the_others_can_carry() -> None:
    # 24 requests need three instances of 10 seats: 24 / 30 = 0.8, and 24 / 20 is too much.
    assert shrunk(World(one_model(models=seats()), Told({"m": 4}))) == 3


def test_without_the_check_those_that_stay_would_have_more_than_they_can_carry() -> None:
    assert shrunk(World(one_model(models=seats(), survivors_load_max=0.0), Told({"m": 4}))) == 1


# Two leaders disagree (Ray Serve).


async def test_of_two_that_think_they_lead_one_is_refused_by_the_store() -> None:
    store, now = MemoryStore(10), [0]
    first, second = (Leadership(store, f"{name}:1", 6.0, lambda: now[0]) for name in "ab")
    await first.renew()
    assert first.may_act()
    await second.renew()
    assert not second.leads
    assert second.leader == "a:1"
    # The first one sleeps; it learns on waking that it must not act, without asking anybody.
    now[0] = 7 * S
    assert not first.may_act()
    await second.renew()
    assert second.may_act()
    with pytest.raises(NotLeader, match="b:1"):
        store.save(FleetState(), first.token)
    store.save(FleetState(), second.token)
    await first.renew()
    assert not first.leads
    with pytest.raises(NotLeader, match="the autoscaler at b:1 leads"):
        first.require()


async def test_there_is_a_span_between_the_last_act_of_one_and_the_first_of_another() -> None:
    store, now = MemoryStore(10), [0]
    first, second = (Leadership(store, f"{name}:1", 6.0, lambda: now[0]) for name in "ab")
    await first.renew()
    acting: list[str] = []
    for tenth in range(80):
        now[0] = tenth * S // 10
        await second.renew()
        acting.append("".join(name for name, one in (("a", first), ("b", second)) if one.may_act()))
    assert "ab" not in acting
    assert acting.index("b") - len([one for one in acting if one == "a"]) == 15


# Metrics that are missing count as saturated, or as nothing at all, and thresholds that are left empty as zero (llm-d).


@pytest.mark.parametrize("policy", ["kpa", "hpa_ratio"])
def test_missing_metrics_neither_grow_nor_shrink_a_pool(policy: str) -> None:
    model = ModelConfig(name="m", instances_min=1, instances_max=8, instances_initial=3, concurrency_target=10.0)
    world = World(Config(policy=policy, models=(model,)), AUTOSCALERS[policy]())
    world.load = ModelLoad("m", 0, 30)
    world.run(120)
    assert sum(state == "READY" for state in world.states().values()) == 3
    world.load = None
    world.run(600)
    assert sum(state == "READY" for state in world.states().values()) == 3


def test_a_target_of_zero_is_refused_and_not_taken_for_none() -> None:
    with pytest.raises(ValueError, match="concurrency_target must be positive"):
        ModelConfig(name="m", concurrency_target=0.0)


# An actuator that hangs stops everything.


def test_a_start_without_an_answer_is_given_up_counted_until_it_is_gone_and_tried_again() -> None:
    engine = Engine(one_model(actuator_timeout_s=30.0, instances_max=2), Told({"m": 2}), FleetState(), 0)
    first = [one for one in engine.on_tick(Forecasts(), 0) if isinstance(one, Start)]
    assert len(first) == 2
    engine.on_actuated("local-2/m", replace(first[1].instance, grpc_address="x:1"), S)
    actions = engine.on_wake(30 * S)
    assert [one.instance_id for one in actions if isinstance(one, Stop)] == ["local-1/m"]
    assert any(isinstance(one, Alarm) and "was not started within 30 s" in one.text for one in actions)
    # As long as nobody knows whether it is there, it takes its place in the budget.
    assert not [one for one in engine.on_tick(Forecasts(), 50 * S) if isinstance(one, Start)]
    late = engine.on_actuated("local-1/m", replace(first[0].instance, grpc_address="x:2"), 51 * S)
    assert not [one for one in late if isinstance(one, Start)]
    again = engine.on_stopped("local-1/m", True, 52 * S)
    assert [one.instance.instance_id for one in again if isinstance(one, Start)] == ["local-3/m"]


def test_a_stop_without_an_answer_is_asked_for_again() -> None:
    world = World(one_model(actuator_timeout_s=30.0), Told({"m": 2}))
    world.run(80)
    world._answer = lambda action: None  # type: ignore[method-assign]
    world.apply(world.engine.on_deregister("local-1/m", world.now_us))
    world.run(40)
    alarms = [action.text for _, action in world.said if isinstance(action, Alarm)]
    assert alarms[0] == "the actuator did not take out local-1/m within 31 s; it is asked again"
    # The replacement that was asked for meanwhile has no answer either, and that is told too.
    assert alarms[1:] == ["instance local-3/m was not started within 30 s"]


# A pool with requests and no instance.


def test_requests_for_a_model_at_zero_start_an_instance_whatever_the_policy_wants() -> None:
    model = ModelConfig(name="m", instances_min=0, instances_max=2, instances_initial=0)
    world = World(Config(models=(model,)), Told({"m": 0}))
    world.run(10)
    assert not world.states()
    world.load = ModelLoad("m", held_count=1)
    world.run(3)
    assert len(world.states()) == 1
    reasons = [action.decision.reason for _, action in world.said if isinstance(action, Decided)]
    assert reasons == ["told: 0 wanted, but requests wait for the model"]
    world.run(30)
    assert list(world.states().values()) == ["READY"]
    world.load = ModelLoad("m")
    world.run(30)
    assert not world.states()


def full_fleet(**changes: object) -> World:
    """Pool `m` has the whole budget and nothing to do; requests wait for `n`, which has nothing."""
    models = (
        ModelConfig(name="m", instances_min=0, instances_max=4, instances_initial=4),
        ModelConfig(name="n", instances_min=0, instances_max=2, instances_initial=0),
    )
    world = World(Config(models=models, instances_max=4, **changes), Told({"m": 4, "n": 0}))  # type: ignore[arg-type]
    world.run(40)
    return world


def test_a_pool_that_has_more_than_it_must_makes_way_for_requests_that_wait_elsewhere() -> None:
    world = full_fleet()
    world.load = ModelLoad("n", held_count=2)
    most = 0

    def look(_: int) -> None:
        nonlocal most
        most = max(most, len(world.states()))

    world.run(30, look)
    assert {one.model: one.ready_count for one in world.engine.models()} == {"m": 3, "n": 1}
    assert most == 4
    reasons = [action.decision.reason for _, action in world.said if isinstance(action, Decided)]
    assert "told: 4 wanted, but n needs its place" in reasons


def test_nobody_makes_way_below_its_own_least() -> None:
    world = full_fleet()
    world.engine.on_bounds(Bounds("m", 4, 4), world.now_us)
    world.load = ModelLoad("n", held_count=2)
    world.run(30)
    assert {one.model: one.ready_count for one in world.engine.models()} == {"m": 4, "n": 0}


def test_a_pool_in_trouble_keeps_no_other_from_what_it_wants() -> None:
    models = tuple(ModelConfig(name=name, instances_min=0, instances_max=3, instances_initial=2) for name in "mn")
    world = World(Config(models=models, start_timeout_s=20.0), Told({"m": 2, "n": 2}))
    world.never_ready = {"n"}
    world.run(200)
    world.engine._sizing._policy.wishes["m"] = 3  # type: ignore[attr-defined]
    world.run(14)
    assert [one.ready_count for one in world.engine.models()] == [3, 0]
    world.engine._sizing._policy.wishes["m"] = 1  # type: ignore[attr-defined]
    world.run(40)
    assert [one.ready_count for one in world.engine.models()] == [1, 0]


def test_of_several_pools_of_a_model_one_is_started_and_one_that_fails_gives_way() -> None:
    pools = tuple(
        ModelConfig(name="m", pool=pool, instances_min=0, instances_max=2, instances_initial=0) for pool in ("x", "y")
    )
    engine = Engine(Config(models=pools), Told({"x": 0, "y": 0}), FleetState(), 0)

    def starts(at_s: int) -> list[Instance]:
        engine.on_snapshot([ModelLoad("m", held_count=3)], [], at_s * S)
        return [one.instance for one in engine.on_tick(Forecasts(), at_s * S) if isinstance(one, Start)]

    (first,) = starts(1)
    assert first.pool == "x"
    assert not starts(3)
    engine.on_actuator_failed(first.instance_id, "no such program", 4 * S)
    (second,) = [*starts(4)]
    assert second.pool == "y"
