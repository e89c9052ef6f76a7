"""A gateway on a stage: scripted scheduler, scripted Tritons, a metrics service that remembers; all on free ports."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from lmaas.common.v1 import instance_pb2, length_pb2
from lmaas.metrics.v1 import event_pb2, metrics_service_pb2, metrics_service_pb2_grpc
from lmaas.scheduler.v1 import request_pb2, scheduler_service_pb2, scheduler_service_pb2_grpc, status_pb2
from prometheus_client import CollectorRegistry
from tritonclient.grpc import service_pb2, service_pb2_grpc

from forebay.core.tokens import TokenEstimator
from forebay.gateway.config import Config
from forebay.gateway.deferred.part import Deferred
from forebay.gateway.deferred.store import Store
from forebay.gateway.deferred.store_memory import MemoryStore
from forebay.gateway.engine import Engine
from forebay.gateway.intake import Intake
from forebay.gateway.kserve import KServe
from forebay.gateway.loop import Loop
from forebay.gateway.meters import Meters
from forebay.gateway.openai import OpenAi
from forebay.gateway.picker.endpoints import Endpoints
from forebay.gateway.picker.servicer import SERVICE as PICKER
from forebay.gateway.picker.servicer import PickerServicer
from forebay.gateway.picker.stream import Parts
from forebay.gateway.relay import Relay
from forebay.gateway.server import Fronts
from forebay.gateway.upstream import Upstream
from forebay.wire.channel import connect
from forebay.wire.clock import now_us
from forebay.wire.reporter import Reporter
from forebay.wire.server import Server
from forebay.wire.tracing import OFF, Tracer

MODEL = "llama"
SCHEDULER = "lmaas.scheduler.v1.SchedulerService"
WAIT_S = 20.0
"""Generous: the machine that runs the tests may be busy with other work."""


async def until(condition: Callable[[], object], what: str = "the condition") -> None:
    """Waits until the condition holds."""
    try:
        async with asyncio.timeout(WAIT_S):
            while not condition():
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"{what} did not come true within {WAIT_S:g} s") from None


def raw_text(text: str) -> bytes:
    return len(text.encode()).to_bytes(4, "little") + text.encode()


def token_response(request: Any, text: str, finish_reason: str = "None", is_final: bool = False) -> Any:
    """One token of Triton's vLLM backend. A finish reason comes without a token."""
    response = service_pb2.ModelInferResponse(model_name=request.model_name, model_version="1", id=request.id)
    outputs = {
        "text_output": ("BYTES", raw_text(text)),
        "finish_reason": ("BYTES", raw_text(finish_reason)),
        "num_input_tokens": ("UINT32", (7).to_bytes(4, "little")),
        "num_output_tokens": ("UINT32", int(bool(text)).to_bytes(4, "little")),
    }
    for name, (datatype, raw) in outputs.items():
        response.outputs.add(name=name, datatype=datatype, shape=[1])
        response.raw_output_contents.append(raw)
    response.parameters["triton_final_response"].bool_param = is_final
    return service_pb2.ModelStreamInferResponse(infer_response=response)


Script = Callable[["FakeTriton", Any, Any], AsyncIterator[Any]]


async def answers(triton: "FakeTriton", request: Any, context: Any) -> AsyncIterator[Any]:
    """As many words as max_tokens says, but at most 5, then the end, which has the reason that fits."""
    limit = int(triton.sampling(request).get("max_tokens", 16))
    for number in range(min(limit, 5)):
        yield token_response(request, f"w{number} ")
        await asyncio.sleep(triton.pause_s)
    yield token_response(request, "", "length" if limit <= 5 else "stop")
    final = service_pb2.ModelStreamInferResponse()
    final.infer_response.id = request.id
    final.infer_response.parameters["triton_final_response"].bool_param = True
    yield final


async def dies_at_once(triton: "FakeTriton", request: Any, context: Any) -> AsyncIterator[Any]:
    await context.abort(grpc.StatusCode.UNAVAILABLE, "the engine died")
    yield


async def dies_after_three(triton: "FakeTriton", request: Any, context: Any) -> AsyncIterator[Any]:
    for number in range(3):
        yield token_response(request, f"w{number} ")
    await context.abort(grpc.StatusCode.INTERNAL, "CUDA error")


async def hangs(triton: "FakeTriton", request: Any, context: Any) -> AsyncIterator[Any]:
    await asyncio.sleep(3600)
    yield


async def hangs_after_three(triton: "FakeTriton", request: Any, context: Any) -> AsyncIterator[Any]:
    for number in range(3):
        yield token_response(request, f"w{number} ")
    await asyncio.sleep(3600)


async def says_error(triton: "FakeTriton", request: Any, context: Any) -> AsyncIterator[Any]:
    yield service_pb2.ModelStreamInferResponse(error_message="no such luck")


async def refuses(triton: "FakeTriton", request: Any, context: Any) -> AsyncIterator[Any]:
    await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "seed must be positive")
    yield


async def ends_too_early(triton: "FakeTriton", request: Any, context: Any) -> AsyncIterator[Any]:
    yield token_response(request, "w0 ")


async def cancels(triton: "FakeTriton", request: Any, context: Any) -> AsyncIterator[Any]:
    await context.abort(grpc.StatusCode.CANCELLED, "shutting down")
    yield


async def talks_for_ever(triton: "FakeTriton", request: Any, context: Any) -> AsyncIterator[Any]:
    number = 0
    while True:
        yield token_response(request, f"w{number} " + "x" * triton.padding)
        number = triton.talked_count = number + 1
        await asyncio.sleep(triton.pause_s)


class FakeTriton(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Plays a script for each request."""

    def __init__(self, instance_id: str = "t0/llama", script: Script = answers) -> None:
        self.instance_id = instance_id
        self.script = script
        self.pause_s = 0.0
        self.padding = 0
        self.talked_count = 0
        self.requests: list[Any] = []
        self.metadata: list[dict[str, Any]] = []
        self.cancelled_count = 0
        self.server = grpc.aio.server()
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, self.server)
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"

    def sampling(self, request: Any) -> dict[str, Any]:
        return json.loads(self.tensor(request, "sampling_parameters")[4:] or b"{}")

    def tensor(self, request: Any, name: str) -> bytes:
        names = [tensor.name for tensor in request.inputs]
        return request.raw_input_contents[names.index(name)] if name in names else b""

    def text(self, number: int = -1) -> str:
        return self.tensor(self.requests[number], "text_input")[4:].decode()

    async def ModelStreamInfer(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        self.metadata.append(dict(context.invocation_metadata()))
        try:
            async for request in requests:
                self.requests.append(request)
                async for response in self.script(self, request, context):
                    yield response
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled_count += 1
            raise

    async def ModelConfig(self, request: Any, context: Any) -> Any:
        response = service_pb2.ModelConfigResponse()
        response.config.name = request.name
        response.config.model_transaction_policy.decoupled = True
        return response

    async def ModelMetadata(self, request: Any, context: Any) -> Any:
        return service_pb2.ModelMetadataResponse(name=request.name, versions=["1"], platform="python")


class FakeScheduler(scheduler_service_pb2_grpc.SchedulerServiceServicer):
    """Places each request on the first instance that is not excluded, unless `answer` says otherwise."""

    def __init__(self) -> None:
        self.instances: list[Any] = []
        self.changed = asyncio.Event()
        self.answer: Callable[[Any], Any | None] = self.place
        self.resumes: list[Any] = []
        self.arrived: list[Any] = []
        self.progressed: list[Any] = []
        self.finished: list[Any] = []
        self.cancelled: list[str] = []
        self.backlogs: list[Any] = []
        self.placed_count = 0
        self._calls: set[Any] = set()
        self.is_dropping = False

    def show(self, *tritons: FakeTriton, model: str = MODEL, concurrency_max: int = 0) -> None:
        self.instances = [
            status_pb2.ScheduledInstance(
                instance=instance_pb2.Instance(
                    instance_id=triton.instance_id,
                    model=model,
                    grpc_address=triton.address,
                    openai_address=f"10.0.0.{number}:8000",
                    server_id=triton.instance_id.split("/")[0],
                    state="INSTANCE_STATE_READY",
                    concurrency_max=concurrency_max,
                )
            )
            for number, triton in enumerate(tritons)
        ]
        self.changed.set()

    def place(self, request: Any) -> Any:
        found = [one.instance for one in self.instances if one.instance.model == request.model]
        found = [one for one in found if one.instance_id not in request.excluded_instance_ids]
        response = scheduler_service_pb2.ScheduleResponse(request_id=request.request_id)
        if not found:
            known = any(one.instance.model == request.model for one in self.instances)
            if known:
                return self.retry(request, "NO_INSTANCE_READY", 1.5)
            return self.reject(request, "MODEL_UNKNOWN")
        self.placed_count += 1
        response.placed.CopyFrom(
            request_pb2.Placement(
                lease_id=f"lease-{self.placed_count}",
                decision_id=f"decision-{self.placed_count}",
                instance_id=found[0].instance_id,
                grpc_address=found[0].grpc_address,
                openai_address=found[0].openai_address,
                predicted_length=length_pb2.LengthQuantiles(p10_tokens=1, p50_tokens=5, p90_tokens=9, p97_tokens=12),
                predicted_by="test",
                triton_priority=2,
            )
        )
        response.placed.lease_ttl.FromSeconds(30)
        return response

    def reject(self, request: Any, reason: str) -> Any:
        response = scheduler_service_pb2.ScheduleResponse(request_id=request.request_id)
        response.rejected.reason = reason
        response.rejected.message = f"rejected: {reason}"
        return response

    def retry(self, request: Any, reason: str, delay_s: float) -> Any:
        response = scheduler_service_pb2.ScheduleResponse(request_id=request.request_id)
        response.retry.reason = reason
        response.retry.message = f"come back: {reason}"
        response.retry.retry_delay.FromMilliseconds(int(delay_s * 1000))
        return response

    async def Schedule(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for message in requests:
            if self.is_dropping:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "dropped")
            for one in message.batch.events or (message,):
                kind = one.WhichOneof("event")
                response = self.take(kind, getattr(one, kind))
                if response is not None:
                    yield response

    def take(self, kind: str, event: Any) -> Any | None:
        if kind == "arrive":
            self.arrived.append(event)
            return self.answer(event)
        if kind == "cancel":
            self.cancelled.append(event.request_id)
        else:
            heard = {"resume": self.resumes, "progress": self.progressed, "finish": self.finished}
            {**heard, "backlog": self.backlogs}[kind].append(event)
        return None

    async def WatchInstances(self, request: Any, context: Any) -> AsyncIterator[Any]:
        while True:
            yield scheduler_service_pb2.WatchInstancesResponse(instances=self.instances)
            self.changed.clear()
            await self.changed.wait()


class FakeMetrics(metrics_service_pb2_grpc.MetricsServiceServicer):
    """Remembers the records of requests."""

    def __init__(self) -> None:
        self.records: list[event_pb2.RequestRecord] = []

    async def ReportEvents(self, requests: AsyncIterator[Any], context: Any) -> Any:
        async for batch in requests:
            self.records += [event.request for event in batch.events]
        return metrics_service_pb2.ReportEventsResponse()

    async def WatchSnapshots(self, request: Any, context: Any) -> AsyncIterator[Any]:
        await asyncio.sleep(3600)
        yield


@dataclass
class Stage:
    """Everything that a test touches."""

    scheduler: FakeScheduler
    metrics: FakeMetrics
    tritons: list[FakeTriton]
    scheduler_server: Server
    registry: CollectorRegistry
    loop: Loop
    fronts: Fronts
    http_url: str = ""
    grpc_address: str = ""
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def triton(self) -> FakeTriton:
        return self.tritons[0]

    @property
    def engine(self) -> Engine:
        return self.loop.engine

    async def records(self, count: int) -> list[event_pb2.RequestRecord]:
        await until(lambda: len(self.metrics.records) >= count, f"{count} records")
        return self.metrics.records

    async def restart_scheduler(self, stop_first: Callable[[], Awaitable[None]] | None = None) -> None:
        """Stops the scheduler, runs what should happen without it, and starts it again on the same port."""
        port = self.scheduler_server.port
        await self.scheduler_server.stop(0)
        await until(lambda: not self.engine.is_linked, "the loss of the scheduler")
        if stop_first is not None:
            await stop_first()
        self.scheduler_server = serve_scheduler(self.scheduler, f"127.0.0.1:{port}")
        await self.scheduler_server.start()
        await until(lambda: self.engine.is_linked, "the return of the scheduler")


def serve_scheduler(scheduler: FakeScheduler, address: str = "127.0.0.1:0") -> Server:
    server = Server(address, [SCHEDULER], CollectorRegistry())
    scheduler_service_pb2_grpc.add_SchedulerServiceServicer_to_server(scheduler, server.grpc)
    return server


@asynccontextmanager
async def staged(
    config: Config | None = None,
    instance_count: int = 1,
    open_store: Callable[[], Store] = MemoryStore,
    tracer: Tracer = OFF,
) -> AsyncIterator[Stage]:
    """A running gateway with so many instances of one model."""
    config = config or Config()
    scheduler, metrics = FakeScheduler(), FakeMetrics()
    tritons = [FakeTriton(f"t{number}/{MODEL}") for number in range(instance_count)]
    scheduler.show(*tritons)
    scheduler_server = serve_scheduler(scheduler)
    metrics_server = grpc.aio.server()
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(metrics, metrics_server)
    metrics_port = metrics_server.add_insecure_port("127.0.0.1:0")
    for server in (scheduler_server, metrics_server, *(triton.server for triton in tritons)):
        await server.start()
    registry, estimator, upstream = CollectorRegistry(), TokenEstimator(), Upstream(config)
    async with (
        connect(f"127.0.0.1:{scheduler_server.port}") as scheduler_channel,
        connect(f"127.0.0.1:{metrics_port}") as metrics_channel,
    ):
        reporter = Reporter(metrics_channel, interval_s=0.02)
        engine, meters = Engine(config), Meters(registry)
        loop = Loop(engine, {"": scheduler_channel}, reporter, meters, config, "gateway-1", now_us, tracer)
        relay, intake = Relay(loop, upstream, estimator), Intake(config, estimator)
        deferred = Deferred(open_store, None, loop, relay, intake, config, uuid.uuid4().hex, now_us)
        openai, kserve = (
            OpenAi(loop, relay, intake, config, now_us, deferred.routes()),
            KServe(loop, relay, upstream, intake),
        )
        picker = PickerServicer(Parts(loop, intake, estimator, Endpoints(5.0, now_us), config.keys(), config))
        names = (PICKER, *deferred.names())
        fronts = Fronts("127.0.0.1:0", "127.0.0.1:0", openai, kserve, registry, names, config.keys())
        deferred.add_to(fronts.grpc)
        picker.add_to(fronts)
        await fronts.start()
        runs = (loop.run_clock(), loop.run_links(), loop.run_fleet(), reporter.run(), picker.run_health(fronts))
        tasks = [asyncio.create_task(one) for one in (*runs, *deferred.loops())]
        stage = Stage(scheduler, metrics, tritons, scheduler_server, registry, loop, fronts)
        stage.http_url = f"http://127.0.0.1:{fronts.http_port}"
        stage.grpc_address = f"127.0.0.1:{fronts.port}"
        await until(lambda: loop.engine.is_linked and loop.engine.fleet.seen, "the link to the scheduler")
        try:
            yield stage
        finally:
            await fronts.stop(0)
            await deferred.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for server in (stage.scheduler_server, *(triton.server for triton in tritons)):
                await server.stop(0)
            await metrics_server.stop(0)
            await upstream.close()
