"""Calls of a client that traces get spans and carry their trace; their errors are noted by name."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import pytest
from lmaas.scheduler.v1 import request_pb2, scheduler_service_pb2
from lmaas.scheduler.v1.scheduler_service_pb2_grpc import (
    SchedulerServiceServicer,
    SchedulerServiceStub,
    add_SchedulerServiceServicer_to_server,
)
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry

from forebay.core.errors import ResourceExhausted
from forebay.wire.server import Server
from lmaas_client.telemetry import aio_interceptors, blocking_interceptors

EXPORTER = InMemorySpanExporter()
PLACE = scheduler_service_pb2.PlaceRequest(
    request=request_pb2.InferenceRequest(
        request_id="r", model="llama", prompt_tokens=1, slo_class="SLO_CLASS_INTERACTIVE_FAST"
    )
)


class Listening(SchedulerServiceServicer):
    """Remembers the metadata of each call."""

    def __init__(self) -> None:
        self.parents: list[str] = []

    async def Place(self, request: Any, context: Any) -> Any:  # type: ignore[override]
        self._hear(context)
        if request.request.model == "full":
            raise ResourceExhausted("all instances are full")
        return scheduler_service_pb2.PlaceResponse()

    async def WatchInstances(self, request: Any, context: Any) -> AsyncIterator[Any]:  # type: ignore[override]
        self._hear(context)
        yield scheduler_service_pb2.WatchInstancesResponse()

    def _hear(self, context: Any) -> None:
        self.parents.append(dict(context.invocation_metadata()).get("traceparent", ""))


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    if not isinstance(trace.get_tracer_provider(), TracerProvider):
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(EXPORTER))
        trace.set_tracer_provider(provider)
    EXPORTER.clear()
    yield EXPORTER
    EXPORTER.clear()


@pytest.fixture
async def scheduler() -> AsyncIterator[tuple[Listening, str]]:
    servicer = Listening()
    server = Server("127.0.0.1:0", ["lmaas.scheduler.v1.SchedulerService"], CollectorRegistry())
    add_SchedulerServiceServicer_to_server(servicer, server.grpc)
    await server.start()
    yield servicer, f"127.0.0.1:{server.port}"
    await server.stop(0)


def parent_of(span: ReadableSpan) -> str:
    context = span.get_span_context()
    assert context is not None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


async def test_an_asynchronous_call_carries_its_span(
    spans: InMemorySpanExporter, scheduler: tuple[Listening, str]
) -> None:
    servicer, address = scheduler
    async with grpc.aio.insecure_channel(address, interceptors=aio_interceptors()) as channel:
        stub = SchedulerServiceStub(channel)
        await stub.Place(PLACE, timeout=30, metadata=(("x-kept", "yes"),))
        with trace.get_tracer("test").start_as_current_span("watching") as watching:
            async for _ in stub.WatchInstances(scheduler_service_pb2.WatchInstancesRequest(), timeout=30):
                break
    placing = spans.get_finished_spans()[0]
    assert placing.name == "lmaas.scheduler.v1.SchedulerService/Place"
    assert placing.kind is trace.SpanKind.CLIENT
    assert isinstance(watching, ReadableSpan)
    assert servicer.parents == [parent_of(placing), parent_of(watching)]


async def test_an_error_is_noted_by_the_name_of_its_status(
    spans: InMemorySpanExporter, scheduler: tuple[Listening, str]
) -> None:
    _, address = scheduler
    full = scheduler_service_pb2.PlaceRequest()
    full.CopyFrom(PLACE)
    full.request.model = "full"
    async with grpc.aio.insecure_channel(address, interceptors=aio_interceptors()) as channel:
        with pytest.raises(grpc.aio.AioRpcError):
            await SchedulerServiceStub(channel).Place(full, timeout=30)
    (placing,) = spans.get_finished_spans()
    assert placing.attributes is not None
    assert placing.attributes["error.type"] == "RESOURCE_EXHAUSTED"


async def test_a_blocking_call_carries_its_span(spans: InMemorySpanExporter, scheduler: tuple[Listening, str]) -> None:
    servicer, address = scheduler

    def place() -> None:
        with grpc.insecure_channel(address) as plain:
            stub = SchedulerServiceStub(grpc.intercept_channel(plain, *blocking_interceptors()))
            stub.Place(PLACE, timeout=30)
            next(iter(stub.WatchInstances(scheduler_service_pb2.WatchInstancesRequest(), timeout=30)))

    await asyncio.to_thread(place)
    (placing,) = spans.get_finished_spans()
    assert servicer.parents == [parent_of(placing), ""]
