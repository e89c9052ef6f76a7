"""KEDA's external scaler over real gRPC, asked as KEDA asks, and followed by the rule of Kubernetes' autoscaler."""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from lmaas.externalscaler import externalscaler_pb2 as pb
from lmaas.externalscaler.externalscaler_pb2_grpc import ExternalScalerStub, add_ExternalScalerServicer_to_server
from prometheus_client import CollectorRegistry

from forebay.autoscaler.actuator import Advisory, Elsewhere
from forebay.autoscaler.config import Config, ModelConfig
from forebay.autoscaler.engine import Engine
from forebay.autoscaler.forecasts import Forecasts
from forebay.autoscaler.keda import METRIC, SERVICE, KedaServicer
from forebay.autoscaler.keda_front import KedaFront
from forebay.autoscaler.leadership import Alone
from forebay.autoscaler.loop import Loop
from forebay.autoscaler.policy.autoscaler.static import Static
from forebay.autoscaler.prometheus import FleetStats
from forebay.autoscaler.store import MemoryStore
from forebay.autoscaler.writer import Writer
from forebay.core import errors
from forebay.core.fleet import Bounds
from forebay.core.values import Instance, ModelLoad
from forebay.wire.channel import connect
from forebay.wire.errors import from_rpc_error
from forebay.wire.reporter import Reporter
from forebay.wire.server import Server
from forebay.wire.timer import Timer

S = 1_000_000
TIMEOUT_S = 5.0
TOLERANCE = 0.1
"""What Kubernetes' autoscaler takes for equal unless it is told otherwise."""
MODELS = (
    ModelConfig(name="m", launcher="keda", instances_min=0, instances_initial=0, instances_max=20),
    ModelConfig(name="two", launcher="keda", pool="two-eu", region="eu", instances_min=0, instances_initial=2),
    ModelConfig(name="two", launcher="keda", pool="two-us", region="us", instances_min=0, instances_initial=3),
    ModelConfig(name="pair", launcher="keda", pool="pair-a", instances_min=0, instances_initial=0),
    ModelConfig(name="pair", launcher="keda", pool="pair-b", instances_min=0, instances_initial=0),
    ModelConfig(name="own", launcher="emulator", instances_min=0, instances_initial=0),
)


class Stage:
    """A served scaler; `now_us` is the test's."""

    def __init__(self) -> None:
        self.now_us = 1_800_000_000 * S
        self.engine = Engine(Config(models=MODELS, dwell_s=0), Static(), MemoryStore(100).load(), self.now_us)
        self._metrics = connect("127.0.0.1:1")
        registry = CollectorRegistry()
        timer = Timer(lambda: self.now_us)
        self.loop = Loop(
            self.engine,
            {"active": Elsewhere(), "advisory": Advisory(Elsewhere())},
            Writer(MemoryStore(100), 100, Alone()),
            Reporter(self._metrics),
            FleetStats(registry),
            lambda: True,
            lambda: self.now_us,
            timer,
            Alone(),
        )
        timer.callback = self.loop.wake
        self._server = Server("127.0.0.1:0", [SERVICE], registry)
        front = KedaFront(KedaServicer(self.loop, MODELS), self.loop.leadership)
        add_ExternalScalerServicer_to_server(front, self._server.grpc)
        self.address = f"127.0.0.1:{self._server.port}"
        self._channel = connect(self.address)
        self.keda = ExternalScalerStub(self._channel)

    async def open(self) -> None:
        await self._server.start()

    async def close(self) -> None:
        await self._channel.close()
        await self._server.stop(0.1)
        await self.loop.close()
        await self._metrics.close()

    def want(self, count: int) -> None:
        """The plan of model m is so many instances from now on."""
        self.loop.apply(self.engine.on_bounds(Bounds("m", count, max(count, 1)), self.now_us))
        for _ in range(4):
            self.tick()

    def hold(self, model: str, count: int) -> None:
        """So many requests wait, and the autoscaler thinks about it."""
        self.loop.apply(self.engine.on_snapshot([ModelLoad(model, held_count=count)], [], self.now_us))
        self.tick()

    def tick(self, seconds: float = 2.0) -> None:
        """Time passes and the autoscaler thinks."""
        self.now_us += int(seconds * S)
        self.loop.apply(self.engine.on_tick(Forecasts(), self.now_us))

    async def value(self, ref: pb.ScaledObjectRef) -> float:
        """The metric as KEDA reads it: the real number, or the whole one where that is not positive."""
        request = pb.GetMetricsRequest(scaledObjectRef=ref, metricName=METRIC)
        values = (await self.keda.GetMetrics(request, timeout=TIMEOUT_S)).metricValues
        return sum(one.metricValueFloat if one.metricValueFloat > 0 else float(one.metricValue) for one in values)

    async def target(self, ref: pb.ScaledObjectRef) -> float:
        """The target as KEDA reads it."""
        (spec,) = (await self.keda.GetMetricSpec(ref, timeout=TIMEOUT_S)).metricSpecs
        assert spec.metricName == METRIC
        return spec.targetSizeFloat if spec.targetSizeFloat > 0 else float(spec.targetSize)


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    served = Stage()
    await served.open()
    served.tick()
    yield served
    await served.close()


def ref(model: str = "m", **metadata: str) -> pb.ScaledObjectRef:
    """What KEDA sends for a trigger: all of its metadata, the address too."""
    trigger = {"scalerAddress": "forebay-autoscaler:7103", **({"model": model} if model else {}), **metadata}
    return pb.ScaledObjectRef(name="triton", namespace="llm", scalerMetadata=trigger)


def replicas(current: int, value: float, target: float, tolerance: float = TOLERANCE) -> int:
    """The rule of Kubernetes' autoscaler for an external metric with an average value.

    Source: GetExternalPerPodMetricReplicas of kubernetes/kubernetes, pkg/controller/podautoscaler. KEDA itself takes a
    workload from and to zero, by IsActive.
    """
    if abs(1.0 - value / (target * current)) <= tolerance:
        return current
    return math.ceil(value / target)


async def refusal(call: object) -> errors.ForebayError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call  # type: ignore[misc]
    return from_rpc_error(caught.value)


@pytest.mark.parametrize(("current", "wanted"), [(1, 1), (1, 4), (4, 2), (9, 8), (8, 9), (1, 20), (20, 3)])
async def test_kubernetes_comes_to_exactly_the_wanted_number(stage: Stage, current: int, wanted: int) -> None:
    stage.want(wanted)
    assert replicas(current, await stage.value(ref()), await stage.target(ref())) == wanted


async def test_large_pools_need_the_tolerance_that_the_manifests_set(stage: Stage) -> None:
    stage.want(13)
    value, target = await stage.value(ref()), await stage.target(ref())
    assert replicas(12, value, target) == 12
    assert replicas(12, value, target, tolerance=0.0) == 13
    assert replicas(14, value, target, tolerance=0.0) == 13


async def test_the_fields_that_keda_deprecates_say_the_same(stage: Stage) -> None:
    stage.want(7)
    (value,) = (
        await stage.keda.GetMetrics(pb.GetMetricsRequest(scaledObjectRef=ref()), timeout=TIMEOUT_S)
    ).metricValues
    assert (value.metricName, value.metricValue, value.metricValueFloat) == (METRIC, 7, 7.0)
    (spec,) = (await stage.keda.GetMetricSpec(ref(), timeout=TIMEOUT_S)).metricSpecs
    assert (spec.targetSize, spec.targetSizeFloat) == (1, 1.0)


async def test_a_workload_is_active_when_instances_are_wanted_or_requests_wait(stage: Stage) -> None:
    async def is_active() -> bool:
        return bool((await stage.keda.IsActive(ref(), timeout=TIMEOUT_S)).result)

    assert not await is_active()
    stage.hold("m", 2)
    assert await is_active()
    stage.hold("m", 0)
    assert not await is_active()
    stage.want(1)
    assert await is_active()


async def test_requests_wake_nothing_that_may_have_no_instance(stage: Stage) -> None:
    stage.loop.apply(stage.engine.on_bounds(Bounds("m", 0, 0), stage.now_us))
    stage.hold("m", 2)
    assert not (await stage.keda.IsActive(ref(), timeout=TIMEOUT_S)).result


async def test_waiting_requests_wake_the_first_pool_of_their_model_only(stage: Stage) -> None:
    stage.hold("pair", 4)
    calls = [stage.keda.IsActive(ref("pair", pool=pool), timeout=TIMEOUT_S) for pool in ("pair-a", "pair-b")]
    assert [(await call).result for call in calls] == [True, False]


async def test_every_change_is_pushed_once_and_the_present_state_at_once(stage: Stage) -> None:
    call = stage.keda.StreamIsActive(ref())
    assert not (await soon(call.read)).result
    stage.hold("m", 1)
    assert (await soon(call.read)).result
    stage.want(2)
    await asyncio.sleep(0.5)
    stage.hold("m", 0)
    stage.want(0)
    # Between the two nothing was pushed: it stayed active.
    assert not (await soon(call.read)).result
    call.cancel()


async def test_a_pushed_spec_comes_at_once_equals_the_asked_one_and_the_stream_stays_open(stage: Stage) -> None:
    call = stage.keda.StreamMetricSpec(ref())
    pushed = await soon(call.read)
    assert pushed == await stage.keda.GetMetricSpec(ref(), timeout=TIMEOUT_S)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(asyncio.ensure_future(call.read())), 0.5)
    assert not call.done()
    call.cancel()


async def test_each_pool_of_a_model_has_a_number_of_its_own(stage: Stage) -> None:
    stage.loop.apply(stage.engine.on_tick(Forecasts(), stage.now_us))
    assert await stage.value(ref("two", pool="two-eu")) == 2.0
    assert await stage.value(ref("two", pool="two-us")) == 3.0
    error = await refusal(stage.keda.GetMetricSpec(ref("two"), timeout=TIMEOUT_S))
    assert isinstance(error, errors.InvalidArgument)
    assert "two-eu, two-us" in error.message


async def test_a_trigger_without_a_known_model_is_told_what_is_wrong(stage: Stage) -> None:
    missing = await refusal(stage.keda.IsActive(ref(""), timeout=TIMEOUT_S))
    assert isinstance(missing, errors.InvalidArgument)
    assert "scalerMetadata.model" in missing.violations
    unknown = await refusal(stage.keda.GetMetricSpec(ref("nobody"), timeout=TIMEOUT_S))
    assert (unknown.code, type(unknown)) == ("MODEL_UNKNOWN", errors.NotFound)
    assert "two-eu" in unknown.message
    pool = await refusal(stage.keda.GetMetricSpec(ref("two", pool="two-asia"), timeout=TIMEOUT_S))
    assert "pool 'two-asia' of model 'two'" in pool.message
    metric = pb.GetMetricsRequest(scaledObjectRef=ref(), metricName="queue")
    assert isinstance(await refusal(stage.keda.GetMetrics(metric, timeout=TIMEOUT_S)), errors.NotFound)
    stream = await refusal(stage.keda.StreamIsActive(ref("nobody")).read())
    assert stream.code == "MODEL_UNKNOWN"


async def test_two_hands_never_scale_one_pool(stage: Stage) -> None:
    error = await refusal(stage.keda.GetMetricSpec(ref("own"), timeout=TIMEOUT_S))
    assert isinstance(error, errors.FailedPrecondition)
    assert 'launcher = "keda"' in error.message


async def test_while_it_only_advises_kubernetes_is_told_nothing(stage: Stage) -> None:
    stage.want(5)
    stage.loop.apply(stage.engine.on_mode("advisory", stage.now_us))
    error = await refusal(stage.keda.IsActive(ref(), timeout=TIMEOUT_S))
    assert isinstance(error, errors.FailedPrecondition)
    stage.loop.apply(stage.engine.on_mode("active", stage.now_us))
    stage.tick()
    assert await stage.value(ref()) == 5.0


async def test_before_the_first_decision_kubernetes_is_told_nothing_and_a_stream_waits() -> None:
    stage = Stage()
    await stage.open()
    error = await refusal(stage.keda.IsActive(ref("two", pool="two-eu"), timeout=TIMEOUT_S))
    assert isinstance(error, errors.Unavailable)
    call = stage.keda.StreamIsActive(ref("two", pool="two-eu"))
    reading = asyncio.ensure_future(call.read())
    await asyncio.sleep(0.3)
    assert not reading.done()
    stage.tick()
    assert (await asyncio.wait_for(reading, TIMEOUT_S)).result
    call.cancel()
    await stage.close()


async def test_the_autoscaler_itself_starts_nothing_and_counts_what_registers(stage: Stage) -> None:
    stage.want(2)
    await asyncio.sleep(0.05)
    assert stage.engine.instances("m") == ()
    instance = Instance("pod-1/m", "m", "10.0.0.1:8001", "pod-1")
    stage.loop.apply(stage.engine.on_register(instance, 0, stage.now_us))
    stage.loop.apply(stage.engine.on_probe("pod-1/m", True, True, stage.now_us))
    assert [(one.ready_count, one.instances_wanted) for one in stage.engine.models("m")] == [(1, 2)]
    assert await stage.value(ref()) == 2.0


async def soon(read: Callable[[], Awaitable[Any]]) -> Any:
    return await asyncio.wait_for(read(), TIMEOUT_S)


@dataclass(slots=True)
class Follower:
    """What a replica knows that does not lead."""

    leader: str = ""
    is_cut_off: bool = False
    """Whether it led, and does not reach its database any more."""

    def may_act(self) -> bool:
        return False

    def require(self) -> None:
        if self.is_cut_off:
            return
        raise errors.NotLeader(f"the autoscaler at {self.leader} leads")


@pytest.fixture
async def follower() -> AsyncIterator[tuple[Follower, ExternalScalerStub]]:
    """A replica that does not lead, whose own engine knows nothing."""
    stage, leadership = Stage(), Follower()
    server = Server("127.0.0.1:0", [SERVICE], CollectorRegistry())
    add_ExternalScalerServicer_to_server(KedaFront(KedaServicer(stage.loop, MODELS), leadership), server.grpc)
    await server.start()
    async with connect(f"127.0.0.1:{server.port}") as channel:
        yield leadership, ExternalScalerStub(channel)
    await server.stop(0.1)
    await stage.close()


async def test_a_replica_that_does_not_lead_answers_as_the_one_that_does(
    stage: Stage, follower: tuple[Follower, ExternalScalerStub]
) -> None:
    leadership, keda = follower
    leadership.leader = stage.address
    stage.want(3)
    metrics = await keda.GetMetrics(pb.GetMetricsRequest(scaledObjectRef=ref()), timeout=TIMEOUT_S)
    assert metrics.metricValues[0].metricValueFloat == 3.0
    assert (await keda.IsActive(ref(), timeout=TIMEOUT_S)).result
    assert (await keda.GetMetricSpec(ref(), timeout=TIMEOUT_S)).metricSpecs[0].targetSize == 1
    call = keda.StreamIsActive(ref())
    assert (await soon(call.read)).result
    stage.want(0)
    assert not (await soon(call.read)).result
    call.cancel()
    assert (await soon(keda.StreamMetricSpec(ref()).read)).metricSpecs
    unknown = await refusal(keda.IsActive(ref("nobody"), timeout=TIMEOUT_S))
    assert unknown.code == "MODEL_UNKNOWN"


async def test_where_nobody_leads_kubernetes_is_told_nothing(follower: tuple[Follower, ExternalScalerStub]) -> None:
    _, keda = follower
    error = await refusal(keda.IsActive(ref(), timeout=TIMEOUT_S))
    assert error.code == "NOT_LEADER"


async def test_a_question_is_passed_on_only_once(follower: tuple[Follower, ExternalScalerStub]) -> None:
    leadership, keda = follower
    asked = (("forebay-asked-by-a-replica", "1"),)
    leadership.leader = "127.0.0.1:1"
    error = await refusal(keda.IsActive(ref(), timeout=TIMEOUT_S, metadata=asked))
    assert error.code == "NOT_LEADER"


async def test_a_leader_whose_term_is_not_renewed_tells_kubernetes_nothing(
    follower: tuple[Follower, ExternalScalerStub],
) -> None:
    leadership, keda = follower
    asked = (("forebay-asked-by-a-replica", "1"),)
    leadership.leader, leadership.is_cut_off = "127.0.0.1:1", True
    error = await refusal(keda.GetMetricSpec(ref(), timeout=TIMEOUT_S, metadata=asked))
    assert isinstance(error, errors.Unavailable)
    assert "not renewed" in error.message
