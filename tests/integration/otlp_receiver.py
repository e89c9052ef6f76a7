"""A receiver of OTLP made from its own protocol's generated service: keeps what exporters send."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

WAIT_S = 60.0
"""Generous: the machine that runs the tests may be busy with other work."""


@dataclass(frozen=True)
class Seen:
    """One span as it was received; ids in hexadecimal digits, no parent: empty."""

    service: str
    name: str
    kind: int
    trace: str
    span_id: str
    parent_id: str
    attributes: dict[str, Any]
    events: dict[str, int]
    """Names with their times in nanoseconds."""
    start_ns: int
    end_ns: int
    error: str


@dataclass
class Received:
    """What has come by now."""

    address: str = ""
    spans: list[Seen] = field(default_factory=list)
    metrics: list[Any] = field(default_factory=list)

    def named(self, prefix: str, trace: str = "") -> list[Seen]:
        """Spans whose name begins so, of one trace or of all."""
        return [one for one in self.spans if one.name.startswith(prefix) and trace in ("", one.trace)]

    async def until(self, condition: Callable[[], Any], what: str) -> None:
        """Waits until the condition holds."""
        try:
            async with asyncio.timeout(WAIT_S):
                while not condition():
                    await asyncio.sleep(0.05)
        except TimeoutError:
            names = sorted({(one.service, one.name) for one in self.spans})
            raise AssertionError(f"{what} did not come within {WAIT_S:g} s; there are {names}") from None


class _Traces(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self, received: Received) -> None:
        self._received = received

    async def Export(self, request: Any, context: Any) -> Any:
        for resource in request.resource_spans:
            service = _values(resource.resource.attributes)["service.name"]
            for scope in resource.scope_spans:
                self._received.spans += [_seen(service, span) for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()


class _Metrics(metrics_service_pb2_grpc.MetricsServiceServicer):
    def __init__(self, received: Received) -> None:
        self._received = received

    async def Export(self, request: Any, context: Any) -> Any:
        for resource in request.resource_metrics:
            for scope in resource.scope_metrics:
                self._received.metrics += list(scope.metrics)
        return metrics_service_pb2.ExportMetricsServiceResponse()


@asynccontextmanager
async def receiving() -> AsyncIterator[Received]:
    """A receiver on a free port, until the block ends."""
    received = Received()
    server = grpc.aio.server()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(_Traces(received), server)
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(_Metrics(received), server)
    received.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield received
    finally:
        await server.stop(0)


def _seen(service: str, span: Any) -> Seen:
    return Seen(
        service,
        span.name,
        span.kind,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        _values(span.attributes),
        {event.name: event.time_unix_nano for event in span.events},
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        span.status.message,
    )


def _values(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}
