"""The loop carries out what the engine asks, whatever actuators and policies do."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass, field, replace

import pytest
from prometheus_client import CollectorRegistry

from forebay.autoscaler.actuator import Advisory, Survey
from forebay.autoscaler.config import Config, ModelConfig
from forebay.autoscaler.engine import Engine
from forebay.autoscaler.forecasts import Forecasts
from forebay.autoscaler.leadership import Alone
from forebay.autoscaler.loop import Loop
from forebay.autoscaler.policy.autoscaler.base import Autoscaler, Choice, Needs, PerPool, PoolView
from forebay.autoscaler.policy.autoscaler.static import Static
from forebay.autoscaler.prometheus import FleetStats
from forebay.autoscaler.store import MemoryStore
from forebay.autoscaler.writer import Writer
from forebay.core.errors import ActuatorTimeout, FailedPrecondition, Unavailable
from forebay.core.fleet import Bounds, FleetState
from forebay.core.values import Instance, InstanceState
from forebay.wire.channel import connect
from forebay.wire.reporter import Reporter
from forebay.wire.timer import Timer

S = 1_000_000


@dataclass(slots=True)
class Clumsy:
    """An actuator that fails as the test says."""

    start_error: Exception | None = None
    stop_error: Exception | None = None
    living: dict[str, Instance] = field(default_factory=dict)
    gone: dict[str, str] = field(default_factory=dict)

    async def start(self, instance: Instance) -> Instance | None:
        if self.start_error is not None:
            raise self.start_error
        self.living[instance.instance_id] = replace(instance, grpc_address="127.0.0.1:1")
        return self.living[instance.instance_id]

    async def retire(self, instance: Instance) -> bool:
        return True

    async def stop(self, instance: Instance) -> bool:
        if self.stop_error is not None:
            raise self.stop_error
        self.living.pop(instance.instance_id, None)
        return True

    async def survey(self, expected: Collection[Instance]) -> Survey:
        return Survey(dict(self.living), dict(self.gone))

    async def close(self) -> None:
        self.living.clear()


class Moody(MemoryStore):
    """A store that is away when the test says so."""

    away = False

    def save(self, change: FleetState, token: int) -> None:
        if self.away:
            raise Unavailable("the database does not answer")
        super().save(change, token)


@dataclass(slots=True)
class Broken(PerPool):
    """A policy that fails."""

    needs: Needs = field(default_factory=Needs)

    def choose(self, view: PoolView) -> Choice:
        raise ZeroDivisionError("a policy of somebody else")


class Stage:
    """A loop over fakes; `now_us` is the test's."""

    def __init__(self, policy: Autoscaler) -> None:
        self.now_us = 1_000 * S
        self.drainable = True
        self.actuator = Clumsy()
        self.store = Moody(10)
        self.registry = CollectorRegistry()
        self._channel = connect("127.0.0.1:1")
        self.reporter = Reporter(self._channel)
        model = ModelConfig(name="m", instances_min=0)
        engine = Engine(Config(models=(model,), backoff_s_min=0.01), policy, self.store.load(), self.now_us)
        timer = Timer(lambda: self.now_us)
        self.loop = Loop(
            engine,
            {"active": self.actuator, "advisory": Advisory(self.actuator)},
            Writer(self.store, 10, Alone()),
            self.reporter,
            FleetStats(self.registry),
            lambda: self.drainable,
            lambda: self.now_us,
            timer,
            Alone(),
        )
        timer.callback = self.loop.wake

    async def tick(self) -> None:
        self.loop.apply(self.loop.engine.on_tick(Forecasts(), self.now_us))
        await self.settle()

    async def settle(self) -> None:
        # What is decided is written before it is done.
        for _ in range(20):
            await asyncio.sleep(0.002)

    async def close(self) -> None:
        await self.loop.close()
        await self._channel.close()


Make = Callable[[Autoscaler], Stage]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    made: list[Stage] = []

    def one(policy: Autoscaler) -> Stage:
        made.append(Stage(policy))
        return made[-1]

    yield one
    for stage in made:
        await stage.close()


def states(stage: Stage) -> dict[str, InstanceState]:
    return {one.instance_id: one.state for one in stage.loop.engine.instances()}


async def none() -> Forecasts:
    return Forecasts()


async def test_a_start_is_carried_out_kept_reported_and_counted(make: Make) -> None:
    stage = make(Static())
    await stage.tick()
    assert states(stage) == {"local-1/m": InstanceState.PROVISIONING}
    assert stage.reporter.pending_count == 1
    assert stage.registry.get_sample_value(
        "forebay_autoscaler_instances", {"model": "m", "pool": "", "state": "starting"}
    ) == pytest.approx(1.0)
    await stage.loop.close()
    assert [one.instance.instance_id for one in stage.store.load().members] == ["local-1/m"]
    assert stage.store.load().settings.ordinal == 1
    assert len(stage.store.load().decisions) == 1


@pytest.mark.parametrize("error", [FailedPrecondition("no such program"), OSError("no room"), RuntimeError("a bug")])
async def test_an_actuator_that_fails_to_start_is_asked_again(
    make: Make, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    stage = make(Static())
    stage.actuator.start_error = error
    with caplog.at_level(logging.ERROR):
        await stage.tick()
    assert not states(stage)
    assert any(str(error) in record.getMessage() for record in caplog.records)
    stage.actuator.start_error = None
    stage.now_us += S
    await stage.tick()
    assert states(stage) == {"local-2/m": InstanceState.PROVISIONING}


async def test_a_wake_up_that_was_asked_for_comes(make: Make) -> None:
    stage = make(Static())
    stage.actuator.start_error = FailedPrecondition("not now")
    await stage.tick()
    stage.actuator.start_error = None
    stage.now_us += S
    for _ in range(100):
        await asyncio.sleep(0.01)
        if states(stage):
            break
    assert states(stage) == {"local-2/m": InstanceState.PROVISIONING}


async def test_an_actuator_that_fails_to_stop_keeps_the_instance(make: Make) -> None:
    stage = make(Static())
    await stage.tick()
    stage.actuator.stop_error = Unavailable("it does not end")
    stage.loop.apply(stage.loop.engine.on_deregister("local-1/m", stage.now_us))
    await stage.settle()
    assert states(stage)["local-1/m"] is InstanceState.DRAINING
    stage.actuator.stop_error = None
    stage.now_us += 100 * S
    await stage.tick()
    assert "local-1/m" not in states(stage)


async def test_without_a_scheduler_nothing_that_takes_requests_is_retired(make: Make) -> None:
    stage = make(Static())
    await stage.tick()
    stage.loop.apply(stage.loop.engine.on_probe("local-1/m", True, True, stage.now_us))
    stage.drainable = False
    stage.loop.apply(stage.loop.engine.on_bounds(Bounds("m", 0, 0), stage.now_us))
    await stage.settle()
    assert states(stage) == {"local-1/m": InstanceState.READY}
    stage.drainable = True
    await stage.tick()
    assert states(stage) == {"local-1/m": InstanceState.DRAINING}


async def test_what_starts_can_be_stopped_without_a_scheduler(make: Make) -> None:
    stage = make(Static())
    await stage.tick()
    stage.drainable = False
    stage.loop.apply(stage.loop.engine.on_bounds(Bounds("m", 0, 0), stage.now_us))
    await stage.settle()
    assert not states(stage)


async def test_a_policy_that_fails_leaves_the_fleet_as_it_is(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    stage = make(Broken())
    with caplog.at_level(logging.ERROR):
        task = asyncio.create_task(stage.loop.tick(0.001, none))
        await asyncio.sleep(0.05)
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert any("the last plan holds" in record.getMessage() for record in caplog.records)
    assert not states(stage)


async def test_at_the_start_the_engine_learns_what_lives_before_it_starts_anything(make: Make) -> None:
    stage = make(Static())
    stage.actuator.living = {"local-7/m": Instance("local-7/m", "m", "127.0.0.1:7", "local-7")}
    await stage.loop.restore()
    await stage.tick()
    assert list(states(stage)) == ["local-7/m"]


async def test_what_ended_by_itself_is_seen_by_the_survey(make: Make) -> None:
    stage = make(Static())
    await stage.tick()
    stage.actuator.gone = {"local-1/m": "its process ended"}
    await stage.loop.restore()
    assert not states(stage)


async def test_whoever_waits_for_a_change_is_woken(make: Make) -> None:
    stage = make(Static())
    waiting = asyncio.create_task(stage.loop.changed.wait())
    await asyncio.sleep(0)
    await stage.tick()
    assert await asyncio.wait_for(waiting, 1.0)


async def test_what_lives_and_nobody_knew_is_taken_in_while_it_runs(make: Make) -> None:
    stage = make(Static())
    await stage.tick()
    # An autoscaler that led before was in the middle of a start when it lost the lead.
    stage.actuator.living["local-9/m"] = Instance("local-9/m", "m", "127.0.0.1:9", "local-9")
    await stage.loop.look_around()
    assert sorted(states(stage)) == ["local-1/m", "local-9/m"]


async def test_nothing_is_started_or_stopped_that_is_not_written_down_first(make: Make) -> None:
    stage = make(Static())
    stage.store.away = True
    await stage.tick()
    assert not stage.actuator.living
    stage.store.away = False
    await stage.tick()
    assert sorted(stage.actuator.living) == ["local-2/m"]
    stage.store.away = True
    stage.loop.apply(stage.loop.engine.on_deregister("local-2/m", stage.now_us))
    await stage.settle()
    assert sorted(stage.actuator.living) == ["local-2/m"]


async def test_what_is_under_way_when_the_lead_is_lost_changes_nothing_afterwards(make: Make) -> None:
    stage = make(Static())
    stage.loop.apply(stage.loop.engine.on_tick(Forecasts(), stage.now_us))
    config = Config(models=(ModelConfig(name="m", instances_min=0, instances_initial=0),))
    stage.loop.take(Engine(config, Static(), stage.store.load(), stage.now_us))
    await stage.settle()
    assert not stage.actuator.living
    assert not states(stage)


async def test_a_start_that_takes_too_long_is_stopped_and_tried_again(make: Make) -> None:
    stage = make(Static())
    stage.actuator.start_error = ActuatorTimeout("it took too long")
    await stage.tick()
    stage.actuator.start_error = None
    stage.now_us += S
    await stage.tick()
    assert list(states(stage)) == ["local-2/m"]
