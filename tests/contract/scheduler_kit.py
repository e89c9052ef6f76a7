"""A scheduler on a free port between an autoscaler, a predictor and a metrics service that do as they are told."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from lmaas.autoscaler.v1 import autoscaler_service_pb2, autoscaler_service_pb2_grpc
from lmaas.common.v1 import length_pb2
from lmaas.metrics.v1 import event_pb2, metrics_service_pb2, metrics_service_pb2_grpc, snapshot_pb2
from lmaas.predictor.v1 import length_pb2 as prediction_pb2
from lmaas.predictor.v1 import predictor_service_pb2, predictor_service_pb2_grpc
from lmaas.scheduler.v1 import request_pb2
from lmaas.scheduler.v1 import scheduler_service_pb2 as pb
from lmaas.scheduler.v1.scheduler_service_pb2_grpc import SchedulerServiceStub
from prometheus_client import CollectorRegistry

from forebay.core.values import Instance
from forebay.scheduler.__main__ import Neighbours, assemble
from forebay.scheduler.config import Config
from forebay.scheduler.servicer import SERVICE
from forebay.wire import convert
from forebay.wire.channel import connect
from forebay.wire.server import Server
from tests.unit.scheduler.kit import instance

Event = pb.ScheduleRequest


class Autoscaler(autoscaler_service_pb2_grpc.AutoscalerServiceServicer):
    """Tells a fleet and tells it again when it is changed."""

    def __init__(self, instances: Sequence[Instance]) -> None:
        self.instances = list(instances)
        self._changed = asyncio.Condition()

    async def tell(self, *instances: Instance) -> None:
        async with self._changed:
            self.instances = list(instances)
            self._changed.notify_all()

    async def WatchFleet(self, request: Any, context: Any) -> AsyncIterator[autoscaler_service_pb2.WatchFleetResponse]:
        while True:
            yield autoscaler_service_pb2.WatchFleetResponse(
                instances=[convert.instance_to_proto(one) for one in self.instances]
            )
            async with self._changed:
                await self._changed.wait()


class Predictor(predictor_service_pb2_grpc.PredictorServiceServicer):
    """Predicts 40 tokens after `delay_s` and remembers what it was asked and told."""

    def __init__(self) -> None:
        self.delay_s = 0.0
        self.batches: list[list[str]] = []
        self.outcomes: list[prediction_pb2.LengthOutcome] = []

    async def PredictLength(self, request: Any, context: Any) -> predictor_service_pb2.PredictLengthResponse:
        self.batches.append([query.query_id for query in request.queries])
        await asyncio.sleep(self.delay_s)
        quantiles = length_pb2.LengthQuantiles(p10_tokens=20, p50_tokens=40, p90_tokens=80, p97_tokens=90)
        return predictor_service_pb2.PredictLengthResponse(
            predictions=[
                prediction_pb2.LengthPrediction(query_id=query.query_id, quantiles=quantiles)
                for query in request.queries
            ],
            predicted_by="fake@1",
        )

    async def ObserveOutcomes(self, request: Any, context: Any) -> predictor_service_pb2.ObserveOutcomesResponse:
        self.outcomes += request.outcomes
        return predictor_service_pb2.ObserveOutcomesResponse()


class Metrics(metrics_service_pb2_grpc.MetricsServiceServicer):
    """Tells which instances answer, and remembers what it was told."""

    def __init__(self) -> None:
        self.dead: set[str] = set()
        self.events: list[event_pb2.Event] = []

    async def WatchSnapshots(
        self, request: Any, context: Any
    ) -> AsyncIterator[metrics_service_pb2.WatchSnapshotsResponse]:
        while True:
            loads = [snapshot_pb2.InstanceLoad(instance_id=name, model="m", reachable=False) for name in self.dead]
            yield metrics_service_pb2.WatchSnapshotsResponse(snapshot=snapshot_pb2.Snapshot(instances=loads))
            await asyncio.sleep(0.05)

    async def ReportEvents(self, request_iterator: Any, context: Any) -> metrics_service_pb2.ReportEventsResponse:
        async for request in request_iterator:
            self.events += request.events
        return metrics_service_pb2.ReportEventsResponse()


@dataclass
class World:
    """The scheduler under test, reached by `stub`, and its neighbours."""

    stub: Any
    channel: grpc.aio.Channel
    address: str
    autoscaler: Autoscaler
    predictor: Predictor
    metrics: Metrics
    servers: dict[str, Server] = field(default_factory=dict)

    async def start(self, name: str) -> None:
        """Brings up one of the neighbours."""
        await self.servers[name].start()

    async def stop(self, name: str) -> None:
        """Takes one of the neighbours down."""
        await self.servers[name].stop(0)

    def stream(self) -> "Stream":
        return Stream(self.stub.Schedule(timeout=30))

    async def place(self, name: str, **changes: Any) -> request_pb2.Placement:
        answer = await self.stub.Place(pb.PlaceRequest(request=request(name, **changes)), timeout=10)
        placement: request_pb2.Placement = answer.placement
        return placement

    async def lease_count(self) -> int:
        answer = await self.stub.ListLeases(pb.ListLeasesRequest(), timeout=5)
        return len(answer.leases)

    async def held_count(self) -> int:
        answer = await self.stub.ListQueues(pb.ListQueuesRequest(), timeout=5)
        return sum(queue.held_count for queue in answer.queues)

    async def instance_ids(self) -> list[str]:
        answer = await self.stub.ListInstances(pb.ListInstancesRequest(), timeout=5)
        return [one.instance.instance_id for one in answer.instances]

    async def hears_fleet(self) -> bool:
        return len(await self.instance_ids()) == len(self.autoscaler.instances)


class Stream:
    """One gateway's stream."""

    def __init__(self, call: Any) -> None:
        self.call = call

    async def open(self, *leases: request_pb2.OpenLease, gateway_id: str = "g") -> "Stream":
        await self.send(resume=pb.Resume(gateway_id=gateway_id, open_leases=leases))
        return self

    async def send(self, **event: Any) -> None:
        await self.call.write(pb.ScheduleRequest(**event))

    async def arrive(self, name: str, **changes: Any) -> None:
        await self.send(arrive=request(name, **changes))

    async def read(self) -> pb.ScheduleResponse:
        answer = await asyncio.wait_for(self.call.read(), 10)
        assert answer is not grpc.aio.EOF, "the stream ended"
        response: pb.ScheduleResponse = answer
        return response

    async def read_all(self, count: int) -> dict[str, pb.ScheduleResponse]:
        return {answer.request_id: answer for answer in [await self.read() for _ in range(count)]}


def request(name: str, **changes: Any) -> request_pb2.InferenceRequest:
    values: dict[str, Any] = {"request_id": name, "model": "m", "prompt_tokens": 10, "slo_class": 2, **changes}
    return request_pb2.InferenceRequest(**values)


async def until(check: Callable[[], Awaitable[bool]], timeout_s: float = 10.0) -> None:
    """Waits until `check` holds; fails when it does not in time."""
    async with asyncio.timeout(timeout_s):
        while not await check():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def started(*instances: Instance, fleet_known: bool = True, **settings: Any) -> AsyncIterator[World]:
    """A world whose scheduler knows the fleet, a/m and b/m by default, or whose autoscaler is yet to be started."""
    autoscaler, predictor, metrics = Autoscaler(instances or (instance("a"), instance("b"))), Predictor(), Metrics()
    servers = {name: Server("127.0.0.1:0", [], CollectorRegistry()) for name in ("autoscaler", "predictor", "metrics")}
    autoscaler_service_pb2_grpc.add_AutoscalerServiceServicer_to_server(autoscaler, servers["autoscaler"].grpc)
    predictor_service_pb2_grpc.add_PredictorServiceServicer_to_server(predictor, servers["predictor"].grpc)
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(metrics, servers["metrics"].grpc)
    for name, neighbour in servers.items():
        if fleet_known or name != "autoscaler":
            await neighbour.start()
    channels = Neighbours(*(connect(f"127.0.0.1:{servers[name].port}") for name in Neighbours._fields))
    registry = CollectorRegistry()
    server = Server("127.0.0.1:0", [SERVICE], registry)
    # A machine that is busy with other tests must not look like a predictor that is too slow.
    config = Config(**{"predictor_deadline_ms": 2_000.0, "resume_grace_s": 0.0, "outcome_interval_s": 0.05, **settings})
    loops = [asyncio.create_task(loop) for loop in assemble(config, server, registry, channels)]
    await server.start()
    address = f"127.0.0.1:{server.port}"
    try:
        # Without the repeats of our own channels, so that a test sees each answer.
        async with grpc.aio.insecure_channel(address) as channel:
            world = World(SchedulerServiceStub(channel), channel, address, autoscaler, predictor, metrics, servers)
            if fleet_known:
                await until(world.hears_fleet)
            yield world
    finally:
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
        for one in (server, *servers.values()):
            await one.stop(0)
        for each in channels:
            await each.close()
