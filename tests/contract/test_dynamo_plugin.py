"""Our forecaster as a plugin of Dynamo's planner, called by a client and registering at a registry of its own proto."""

import asyncio
import math
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from lmaas.dynamo import plugin_pb2 as pb
from lmaas.dynamo import plugin_pb2_grpc as pbg
from prometheus_client import CollectorRegistry

from forebay.predictor.build import build_engine
from forebay.predictor.config import Config
from forebay.predictor.dynamo.config import DynamoConfig
from forebay.predictor.dynamo.part import Plugin
from forebay.predictor.dynamo.registration import Registration
from forebay.predictor.dynamo.servicer import SERVICE
from forebay.wire.server import Server

S = 1_000_000
WINDOW_S = 60.0


class Clock:
    """Stands still until it is set."""

    def __init__(self) -> None:
        self.now_us = 1_700_000_000 * S

    def __call__(self) -> int:
        return self.now_us


class Served:
    """The plugin behind a server, and a client of it."""

    def __init__(self, stub: pbg.PredictPluginStub, clock: Clock) -> None:
        self.stub: Any = stub
        self.clock = clock

    async def tick(self, requests: float, isl: float = 200.0, osl: float = 50.0) -> pb.PredictStageResponse:
        """One tick of a planner, a window after the last."""
        self.clock.now_us += round(WINDOW_S * S)
        request = pb.PredictStageRequest()
        traffic = request.context.observations.traffic
        traffic.duration_s, traffic.num_req, traffic.isl, traffic.osl = WINDOW_S, requests, isl, osl
        answer: pb.PredictStageResponse = await self.stub.Predict(request, timeout=30)
        return answer


@pytest.fixture(params=[0.5, 0.9])
async def served(request: pytest.FixtureRequest) -> AsyncIterator[Served]:
    # A forecaster that needs no fit apart: what is tested is the way in and out.
    config = Config(length="histogram", forecaster="seasonal", dynamo=DynamoConfig(quantile=request.param))
    clock = Clock()
    plugin = Plugin(config, build_engine(config), clock, "0")
    server = Server("127.0.0.1:0", [SERVICE], CollectorRegistry(), clock)
    plugin.add_to(server.grpc)
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield Served(pbg.PredictPluginStub(channel), clock)
    await server.stop(0)
    await plugin.close()


async def test_steady_traffic_is_forecast_as_it_is(served: Served) -> None:
    for _ in range(30):
        answer = await served.tick(100)
    told = answer.predictions
    assert told.predicted_num_req == pytest.approx(100, rel=0.3)
    assert told.predicted_isl == pytest.approx(200, rel=0.05)
    assert told.predicted_osl == pytest.approx(50, rel=0.05)
    assert told.source.startswith("forebay:")
    assert not answer.final, "others may know what we do not"


async def test_the_first_tick_is_answered_from_what_it_saw(served: Served) -> None:
    told = (await served.tick(42)).predictions
    assert 42 <= told.predicted_num_req < 84, "the median is what was seen, a quantile above it is above"


async def test_without_traffic_there_is_no_opinion(served: Served) -> None:
    answer = await served.stub.Predict(pb.PredictStageRequest(), timeout=30)
    assert not answer.HasField("predictions")


async def test_a_window_without_requests_has_no_lengths(served: Served) -> None:
    told = (await served.tick(0, math.nan, math.nan)).predictions
    assert told.predicted_num_req == 0
    assert not told.HasField("predicted_isl")
    assert not told.HasField("predicted_osl")


class Registry(pbg.PluginRegistryServicer):
    """As the planner's registry: a name is taken once, and whoever is not known cannot beat."""

    def __init__(self) -> None:
        self.entries: dict[str, pb.RegisterRequest] = {}
        self.left: list[str] = []
        self.beats = 0
        self.refusal = ""

    async def Register(self, request: Any, context: Any) -> Any:
        if self.refusal:
            return pb.RegisterResponse(reject_reason=self.refusal)
        if request.plugin_id in self.entries:
            return pb.RegisterResponse(reject_reason="duplicate_plugin_id: must Unregister before re-Register")
        self.entries[request.plugin_id] = request
        return pb.RegisterResponse(accepted=True, negotiated_protocol_version="1.0")

    async def Heartbeat(self, request: Any, context: Any) -> Any:
        self.beats += 1
        return pb.HeartbeatResponse(ok=request.plugin_id in self.entries)

    async def Unregister(self, request: Any, context: Any) -> Any:
        self.left.append(request.reason)
        return pb.UnregisterResponse(ok=self.entries.pop(request.plugin_id, None) is not None)


@pytest.fixture
async def registry() -> AsyncIterator[tuple[Registry, Registration]]:
    servicer, server = Registry(), grpc.aio.server()
    pbg.add_PluginRegistryServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    config = DynamoConfig(registry="x:1", endpoint="grpc://here:7102", priority=3, window_s=60.0, heartbeat_s=0.02)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield servicer, Registration(channel, config, "secret", "1.2")
    await server.stop(0)


async def test_the_entry_says_what_the_planner_needs(registry: tuple[Registry, Registration]) -> None:
    servicer, registration = registry
    await registration.beat()
    entry = servicer.entries["forebay-predictor"]
    assert (entry.plugin_type, entry.endpoint, entry.priority) == ("predict", "grpc://here:7102", 3)
    assert (entry.protocol_version, entry.auth_token, entry.version) == ("1.0", "secret", "1.2")
    assert list(entry.needs) == ["observations.traffic"]
    assert entry.execution_interval_seconds == entry.observation_window_seconds == 60


async def test_a_registry_that_forgot_us_is_told_again(registry: tuple[Registry, Registration]) -> None:
    servicer, registration = registry
    await registration.beat()
    servicer.entries.clear()
    await registration.beat()
    assert list(servicer.entries) == ["forebay-predictor"]
    assert servicer.beats == 1


async def test_an_entry_of_before_a_restart_gives_way(registry: tuple[Registry, Registration]) -> None:
    servicer, registration = registry
    servicer.entries["forebay-predictor"] = pb.RegisterRequest(endpoint="grpc://old:1")
    await registration.beat()
    assert servicer.entries["forebay-predictor"].endpoint == "grpc://here:7102"


async def test_a_refusal_is_tried_again_and_leaving_is_told(registry: tuple[Registry, Registration]) -> None:
    servicer, registration = registry
    servicer.refusal = "auth_failed"
    running = asyncio.create_task(registration.run())
    async with asyncio.timeout(30):
        while not servicer.entries:
            await asyncio.sleep(0.01)
            servicer.refusal = ""
    running.cancel()
    await registration.close()
    assert servicer.left == ["graceful_shutdown"]


async def test_a_registry_that_is_away_stops_nobody() -> None:
    config = DynamoConfig(registry="x:1", endpoint="grpc://here:7102", heartbeat_s=0.01)
    async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
        registration = Registration(channel, config, "", "0")
        running = asyncio.create_task(registration.run())
        await asyncio.sleep(0.1)
        assert not running.done()
        running.cancel()
        await registration.close()
