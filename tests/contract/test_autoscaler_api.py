"""The autoscaler's API over real gRPC, as protos/lmaas/autoscaler/v1 describes it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from dataclasses import dataclass, field, replace

import grpc
import pytest
from google.protobuf import duration_pb2
from lmaas.autoscaler.v1 import autoscaler_service_pb2 as pb
from lmaas.autoscaler.v1 import fleet_pb2
from lmaas.autoscaler.v1.autoscaler_service_pb2_grpc import (
    AutoscalerServiceStub,
    add_AutoscalerServiceServicer_to_server,
)
from lmaas.common.v1 import instance_pb2
from prometheus_client import CollectorRegistry

from forebay.autoscaler.actuator import Advisory, Survey
from forebay.autoscaler.advisor import Advisor
from forebay.autoscaler.config import Config, ModelConfig
from forebay.autoscaler.engine import Engine
from forebay.autoscaler.forecasts import Forecasts
from forebay.autoscaler.leadership import Alone
from forebay.autoscaler.loop import Loop
from forebay.autoscaler.policy.autoscaler.base import ForecastWindow, Needs
from forebay.autoscaler.policy.autoscaler.static import Static
from forebay.autoscaler.prometheus import FleetStats
from forebay.autoscaler.servicer import SERVICE, AutoscalerServicer
from forebay.autoscaler.store import MemoryStore
from forebay.autoscaler.writer import Writer
from forebay.core import errors
from forebay.core.pressure import Demand, Pressure
from forebay.core.values import Instance, ModelLoad, SloClass
from forebay.wire.channel import connect
from forebay.wire.errors import from_rpc_error
from forebay.wire.reporter import Reporter
from forebay.wire.server import Server
from forebay.wire.timer import Timer

S = 1_000_000
TIMEOUT_S = 5.0
READY = instance_pb2.INSTANCE_STATE_READY
DRAINING = instance_pb2.INSTANCE_STATE_DRAINING


@dataclass(slots=True)
class Hand:
    """An actuator that starts and stops in memory."""

    living: dict[str, Instance] = field(default_factory=dict)

    async def start(self, instance: Instance) -> Instance | None:
        self.living[instance.instance_id] = replace(instance, grpc_address=f"127.0.0.1:{7000 + len(self.living)}")
        return self.living[instance.instance_id]

    async def retire(self, instance: Instance) -> bool:
        return True

    async def stop(self, instance: Instance) -> bool:
        self.living.pop(instance.instance_id, None)
        return True

    async def survey(self, expected: Collection[Instance]) -> Survey:
        return Survey(dict(self.living), {})

    async def close(self) -> None:
        self.living.clear()


class Stage:
    """A served autoscaler whose time and world the test moves."""

    def __init__(self) -> None:
        config = Config(policy="static", models=(ModelConfig(name="m", instances_initial=2, instances_max=3),))
        self.now_us = 1_800_000_000 * S
        self.engine = Engine(config, Static(), MemoryStore(100).load(), self.now_us)
        self.hand = Hand()
        self.asked_count = 0
        self.scheduler_answers = True
        self.store = MemoryStore(100)
        self._metrics = connect("127.0.0.1:1")
        registry = CollectorRegistry()
        timer = Timer(lambda: self.now_us)
        self.loop = Loop(
            self.engine,
            {"active": self.hand, "advisory": Advisory(self.hand)},
            Writer(self.store, 100, Alone()),
            Reporter(self._metrics),
            FleetStats(registry),
            lambda: True,
            lambda: self.now_us,
            timer,
            Alone(),
        )
        timer.callback = self.loop.wake
        self._server = Server("127.0.0.1:0", [SERVICE], registry)
        add_AutoscalerServiceServicer_to_server(
            AutoscalerServicer(self.loop, Advisor(self.expected, lambda: self, 0.0)), self._server.grpc
        )
        self._channel = connect(f"127.0.0.1:{self._server.port}")
        self.api = AutoscalerServiceStub(self._channel)

    def expected(self, needs: Needs) -> Callable[[], Awaitable[Forecasts]]:
        async def nothing() -> Forecasts:
            return Forecasts()

        return nothing

    async def hear(self, clock: Callable[[], int]) -> Pressure | None:
        """The scheduler counts one request each second, while it answers at all."""
        self.asked_count += 1
        self.now_us += S
        demand = Demand("m", "local", SloClass.INTERACTIVE_FAST, 100 * self.asked_count, 0, 0)
        return Pressure(demands=(demand,)) if self.scheduler_answers else None

    async def open(self) -> None:
        await self.loop.restore()
        await self._server.start()

    async def close(self) -> None:
        await self._channel.close()
        await self._server.stop(0.1)
        await self.loop.close()
        await self._metrics.close()

    async def tick(self, seconds: float = 2.0) -> None:
        """Time passes, the engine thinks, and what it asks for is done."""
        self.now_us += int(seconds * S)
        self.loop.apply(self.engine.on_tick(Forecasts(), self.now_us))
        await asyncio.sleep(0.02)

    async def ready(self) -> None:
        """All servers answer that they are ready."""
        for instance in self.engine.instances():
            self.loop.apply(self.engine.on_probe(instance.instance_id, True, True, self.now_us))


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    served = Stage()
    await served.open()
    yield served
    await served.close()


def external(instance_id: str = "gpu-1/x", address: str = "10.0.0.1:8001") -> instance_pb2.Instance:
    server_id, _, model = instance_id.partition("/")
    return instance_pb2.Instance(
        instance_id=instance_id, model=model, grpc_address=address, server_id=server_id, concurrency_max=8
    )


async def register(stage: Stage, request_id: str = "r", ttl_s: int = 0, **changes: str) -> instance_pb2.Instance:
    ttl = duration_pb2.Duration(seconds=ttl_s) if ttl_s else None
    request = pb.RegisterInstanceRequest(instance=external(**changes), ttl=ttl, request_id=request_id)
    return (await stage.api.RegisterInstance(request, timeout=TIMEOUT_S)).instance


async def failure(call: object) -> errors.ForebayError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call  # type: ignore[misc]
    return from_rpc_error(caught.value)


async def fleet(stage: Stage, model: str = "") -> pb.GetFleetResponse:
    return await stage.api.GetFleet(pb.GetFleetRequest(model=model), timeout=TIMEOUT_S)


async def test_the_fleet_has_instances_numbers_mode_and_policy(stage: Stage) -> None:
    await stage.tick()
    await stage.ready()
    answer = await fleet(stage)
    assert [one.instance_id for one in answer.instances] == ["local-1/m", "local-2/m"]
    assert {one.state for one in answer.instances} == {READY}
    assert all(one.state_reason and one.HasField("state_time") for one in answer.instances)
    numbers = answer.models[0]
    assert (numbers.model, numbers.ready_count, numbers.starting_count, numbers.draining_count) == ("m", 2, 0, 0)
    assert (numbers.bounds.instances_min, numbers.bounds.instances_max, numbers.instances_wanted) == (1, 3, 2)
    assert answer.mode == fleet_pb2.MODE_ACTIVE
    assert answer.policy == "static"


async def test_a_watch_sends_everything_at_once_on_change_and_as_a_sign_of_life(stage: Stage) -> None:
    request = pb.WatchFleetRequest(interval_max=duration_pb2.Duration(nanos=200_000_000))
    call = stage.api.WatchFleet(request, timeout=TIMEOUT_S)
    stream = aiter(call)
    first = await anext(stream)
    assert (list(first.instances), first.revision) == ([], 0)
    await stage.tick()
    revision = 0
    async for answer in stream:
        assert answer.revision >= revision
        revision = answer.revision
        if len(answer.instances) == 2:
            break
    alive = await anext(stream)
    assert alive.revision == revision
    call.cancel()


async def test_a_watch_of_one_model_sees_no_other(stage: Stage) -> None:
    await stage.tick()
    await register(stage)
    async for answer in stage.api.WatchFleet(pb.WatchFleetRequest(model="x"), timeout=TIMEOUT_S):
        assert [one.instance_id for one in answer.instances] == ["gpu-1/x"]
        break


async def test_an_instance_registers_becomes_ready_and_leaves(stage: Stage) -> None:
    known = await register(stage, ttl_s=10)
    assert known.state == instance_pb2.INSTANCE_STATE_PROVISIONING
    await stage.ready()
    beat = await stage.api.HeartbeatInstance(pb.HeartbeatInstanceRequest(instance_id="gpu-1/x"), timeout=TIMEOUT_S)
    assert beat.state == READY
    request = pb.DeregisterInstanceRequest(instance_id="gpu-1/x", request_id="bye")
    await stage.api.DeregisterInstance(request, timeout=TIMEOUT_S)
    beat = await stage.api.HeartbeatInstance(pb.HeartbeatInstanceRequest(instance_id="gpu-1/x"), timeout=TIMEOUT_S)
    assert beat.state == DRAINING
    for _ in range(4):
        stage.now_us += S
        stage.loop.apply(stage.engine.on_lease_count("gpu-1/x", 0, stage.now_us))
    assert not (await fleet(stage, "x")).instances


async def test_registering_again_renews_and_another_address_is_refused(stage: Stage) -> None:
    await register(stage, "one")
    await register(stage, "two")
    error = await failure(
        stage.api.RegisterInstance(
            pb.RegisterInstanceRequest(instance=external(address="10.0.0.2:8001"), request_id="three"),
            timeout=TIMEOUT_S,
        )
    )
    assert (type(error), error.code) == (errors.AlreadyExists, "ALREADY_EXISTS")
    assert "10.0.0.1:8001" in error.message


async def test_heartbeats_that_stop_make_an_instance_lost(stage: Stage) -> None:
    await register(stage, ttl_s=10)
    await stage.ready()
    await stage.tick(11)
    assert (await fleet(stage, "x")).instances[0].state == instance_pb2.INSTANCE_STATE_LOST


async def test_unknown_names_are_not_found(stage: Stage) -> None:
    beat = stage.api.HeartbeatInstance(pb.HeartbeatInstanceRequest(instance_id="no"), timeout=TIMEOUT_S)
    assert isinstance(await failure(beat), errors.NotFound)
    bye = stage.api.DeregisterInstance(
        pb.DeregisterInstanceRequest(instance_id="no", request_id="r"), timeout=TIMEOUT_S
    )
    assert isinstance(await failure(bye), errors.NotFound)
    why = stage.api.ExplainDecision(pb.ExplainDecisionRequest(decision_id="no"), timeout=TIMEOUT_S)
    assert isinstance(await failure(why), errors.NotFound)


async def test_decisions_are_listed_newest_first_in_pages_and_explained(stage: Stage) -> None:
    await stage.tick()
    await stage.ready()
    for number, most in enumerate((1, 3, 1, 3)):
        bounds = fleet_pb2.Bounds(model="m", instances_min=1, instances_max=most)
        await stage.api.SetBounds(pb.SetBoundsRequest(bounds=bounds, request_id=f"b{number}"), timeout=TIMEOUT_S)
        await stage.tick()
    everything = await stage.api.ListDecisions(pb.ListDecisionsRequest(), timeout=TIMEOUT_S)
    times = [one.decision_time.ToMicroseconds() for one in everything.decisions]
    assert times == sorted(times, reverse=True)
    assert not everything.next_page_token
    paged, token = [], ""
    while True:
        page = await stage.api.ListDecisions(pb.ListDecisionsRequest(page_size=2, page_token=token), timeout=TIMEOUT_S)
        paged += page.decisions
        assert len(page.decisions) <= 2
        token = page.next_page_token
        if not token:
            break
    assert paged == list(everything.decisions)
    first = everything.decisions[-1]
    answer = await stage.api.ExplainDecision(
        pb.ExplainDecisionRequest(decision_id=first.decision_id), timeout=TIMEOUT_S
    )
    assert answer.decision == first
    assert (first.instances_before, first.instances_wanted, first.instances_after) == (0, 2, 2)
    assert (first.policy, first.mode) == ("static", fleet_pb2.MODE_ACTIVE)
    assert first.reason
    assert dict(first.inputs) == {"instances_initial": 2.0}
    none = await stage.api.ListDecisions(pb.ListDecisionsRequest(model="other"), timeout=TIMEOUT_S)
    assert not none.decisions
    old = stage.api.ListDecisions(pb.ListDecisionsRequest(page_token="forgotten"), timeout=TIMEOUT_S)
    assert isinstance(await failure(old), errors.InvalidArgument)


async def test_bounds_move_the_fleet_at_once_and_are_kept(stage: Stage) -> None:
    await stage.tick()
    bounds = fleet_pb2.Bounds(model="m", instances_min=3, instances_max=3)
    answer = await stage.api.SetBounds(pb.SetBoundsRequest(bounds=bounds, request_id="b"), timeout=TIMEOUT_S)
    assert answer.bounds == bounds
    await asyncio.sleep(0.02)
    assert len(stage.hand.living) == 3
    await stage.loop.close()
    assert stage.store.load().settings.bounds["m"].instances_min == 3


async def test_bounds_that_contradict_themselves_are_refused(stage: Stage) -> None:
    bounds = fleet_pb2.Bounds(model="m", instances_min=3, instances_max=2)
    error = await failure(stage.api.SetBounds(pb.SetBoundsRequest(bounds=bounds, request_id="b"), timeout=TIMEOUT_S))
    assert isinstance(error, errors.InvalidArgument)
    assert "bounds.instances_min" in error.violations


async def test_bounds_of_a_model_that_nobody_scales_are_refused(stage: Stage) -> None:
    bounds = fleet_pb2.Bounds(model="other", instances_min=1, instances_max=2)
    error = await failure(stage.api.SetBounds(pb.SetBoundsRequest(bounds=bounds, request_id="b"), timeout=TIMEOUT_S))
    assert error.code == "MODEL_UNKNOWN"


async def test_an_advisory_mode_records_and_changes_nothing(stage: Stage) -> None:
    await stage.tick()
    await stage.ready()
    request = pb.SetModeRequest(mode=fleet_pb2.MODE_ADVISORY, request_id="m")
    answer = await stage.api.SetMode(request, timeout=TIMEOUT_S)
    assert answer.mode == fleet_pb2.MODE_ADVISORY
    for most in (1, 3):
        bounds = fleet_pb2.Bounds(model="m", instances_min=most, instances_max=most)
        await stage.api.SetBounds(pb.SetBoundsRequest(bounds=bounds, request_id=f"b{most}"), timeout=TIMEOUT_S)
        await stage.tick()
        await stage.tick()
        now = await fleet(stage)
        assert [one.state for one in now.instances] == [READY, READY]
        assert len(stage.hand.living) == 2
    assert now.mode == fleet_pb2.MODE_ADVISORY
    listed = await stage.api.ListDecisions(pb.ListDecisionsRequest(), timeout=TIMEOUT_S)
    advised = [one for one in listed.decisions if one.mode == fleet_pb2.MODE_ADVISORY]
    assert [(one.instances_before, one.instances_after) for one in advised] == [(2, 3), (2, 1)]
    back = pb.SetModeRequest(mode=fleet_pb2.MODE_ACTIVE, request_id="m2")
    await stage.api.SetMode(back, timeout=TIMEOUT_S)
    await stage.tick()
    assert len(stage.hand.living) == 3


async def test_a_mode_must_be_given(stage: Stage) -> None:
    error = await failure(stage.api.SetMode(pb.SetModeRequest(request_id="m"), timeout=TIMEOUT_S))
    assert "mode" in error.violations


async def test_a_write_with_the_same_id_has_its_effect_once(stage: Stage) -> None:
    await stage.tick()
    bounds = fleet_pb2.Bounds(model="m", instances_min=3, instances_max=3)
    again = pb.SetBoundsRequest(bounds=bounds, request_id="same")
    await stage.api.SetBounds(again, timeout=TIMEOUT_S)
    await stage.api.SetBounds(again, timeout=TIMEOUT_S)
    other = pb.SetBoundsRequest(bounds=fleet_pb2.Bounds(model="m", instances_max=1), request_id="same")
    assert isinstance(await failure(stage.api.SetBounds(other, timeout=TIMEOUT_S)), errors.AlreadyExists)


async def test_load_that_is_observed_stands_in_no_decision_of_a_static_fleet(stage: Stage) -> None:
    stage.loop.apply(stage.engine.on_snapshot([ModelLoad("m", held_count=500)], [], stage.now_us))
    await stage.tick()
    assert (await fleet(stage)).models[0].instances_wanted == 2


async def test_the_fleet_tells_what_a_pool_is_and_what_is_expected(stage: Stage) -> None:
    quantiles = (1.0, 2.0, 3.0, 4.0)
    window = ForecastWindow(stage.now_us + 60 * S, quantiles, quantiles, quantiles)
    stage.loop.apply(stage.engine.on_tick(Forecasts({"m": (window,)}), stage.now_us))
    answer = await fleet(stage)
    pool, band = answer.models[0], answer.forecasts[0]
    assert (pool.region, pool.role) == ("local", instance_pb2.INSTANCE_ROLE_MIXED)
    assert (band.model, band.start_time.ToMicroseconds()) == ("m", window.start_us)
    assert (band.window.seconds, band.requests.p90, band.response_tokens.p10) == (60, 3.0, 1.0)
    assert not (await fleet(stage, "other")).forecasts


async def advise(stage: Stage, policy: str = "", **parameters: str) -> pb.AdviseScalingResponse:
    request = pb.AdviseScalingRequest(policy=policy, parameters=parameters)
    return await stage.api.AdviseScaling(request, timeout=TIMEOUT_S)


async def test_advice_tells_what_would_be_done_and_does_nothing(stage: Stage) -> None:
    answer = await advise(stage)
    assert answer.policy == "static"
    told = answer.pools[0]
    assert (told.model, told.instances_before, told.instances_wanted, told.instances_after) == ("m", 0, 2, 2)
    assert told.reason
    assert not stage.hand.living
    assert not (await fleet(stage)).instances
    assert not (await stage.api.ListDecisions(pb.ListDecisionsRequest(), timeout=TIMEOUT_S)).decisions


async def test_another_policy_is_asked_by_name_with_its_parameters(stage: Stage) -> None:
    stage.loop.apply(stage.engine.on_snapshot([ModelLoad("m", in_flight_count=500)], [], stage.now_us))
    answer = await advise(stage, "hpa_ratio", tolerance="0.2")
    told = answer.pools[0]
    assert (answer.policy, told.instances_after, told.bound_by) == ("hpa_ratio", 3, "at most 3 by the bounds")
    assert told.instances_wanted > 3
    assert any("looks back" in text for text in answer.warnings)


@pytest.mark.parametrize(
    ("policy", "parameters", "said"),
    [
        ("nosuch", {}, "hpa_ratio"),
        ("hpa_ratio", {"tolerence": "1"}, "did you mean 'tolerance'"),
        ("hpa_ratio", {"tolerance": "much"}, "tolerance"),
        ("", {"tolerance": "1"}, "policy"),
    ],
)
async def test_an_unknown_policy_or_parameter_is_refused_with_those_that_are_known(
    stage: Stage, policy: str, parameters: dict[str, str], said: str
) -> None:
    error = await failure(advise(stage, policy, **parameters))
    assert isinstance(error, errors.InvalidArgument)
    assert said in error.message


async def test_where_nobody_asks_the_scheduler_a_policy_that_must_hear_it_is_told_for_a_moment(stage: Stage) -> None:
    stage.loop.apply(stage.engine.on_snapshot([ModelLoad("m", in_flight_count=5)], [], stage.now_us))
    answer = await advise(stage, "preserve_paper")
    assert stage.asked_count == 3
    assert "no fresh word" not in answer.pools[0].reason
    assert any("for a moment only" in text for text in answer.warnings)
    assert not stage.engine.hears(stage.now_us)
    await advise(stage)
    assert stage.asked_count == 3


async def test_where_the_scheduler_does_not_answer_the_advice_says_so(stage: Stage) -> None:
    stage.scheduler_answers = False
    answer = await advise(stage, "preserve_paper")
    assert "no fresh word of the scheduler" in answer.pools[0].reason


class Follower:
    """Another autoscaler leads."""

    leader = "b:7103"

    def may_act(self) -> bool:
        return False

    def require(self) -> None:
        raise errors.NotLeader(f"the autoscaler at {self.leader} leads")


async def test_advice_is_given_by_the_one_that_leads(stage: Stage) -> None:
    stage.loop.leadership = Follower()
    error = await failure(advise(stage))
    assert (error.code, "b:7103" in error.message) == ("NOT_LEADER", True)
    assert (await fleet(stage)).leader == "b:7103"
