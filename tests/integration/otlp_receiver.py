"""A receiver of OTLP made from its own protocol's generated service: keeps what exporters send."""

import asyncio
import base64
import json
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from google.protobuf import json_format
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
    """Where it takes OTLP over gRPC, host:port."""
    http_url: str = ""
    """Where it takes OTLP over HTTP, without a path."""
    spans: list[Seen] = field(default_factory=list)
    metrics: list[Any] = field(default_factory=list)

    def take(self, request: Any) -> None:
        """Keeps the spans of one export."""
        for resource in request.resource_spans:
            service = _values(resource.resource.attributes)["service.name"]
            for scope in resource.scope_spans:
                self.spans += [_seen(service, span) for span in scope.spans]

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
        self._received.take(request)
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
    web = ThreadingHTTPServer(("127.0.0.1", 0), _handler(received))
    received.http_url = f"http://127.0.0.1:{web.server_address[1]}"
    thread = threading.Thread(target=web.serve_forever)
    thread.start()
    try:
        yield received
    finally:
        await asyncio.to_thread(web.shutdown)
        thread.join()
        web.server_close()
        await server.stop(0)


def _handler(received: Received) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.path == "/v1/traces":
                received.take(_read(body, self.headers["content-type"]))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    return Handler


def _read(body: bytes, content_type: str) -> Any:
    """The request in either of OTLP's two forms over HTTP; JSON has ids in hexadecimal digits, unlike protobuf's."""
    if content_type != "application/json":
        return trace_service_pb2.ExportTraceServiceRequest.FromString(body)
    told = json.loads(body)
    for resource in told["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                for name in ("traceId", "spanId", "parentSpanId"):
                    span[name] = base64.b64encode(bytes.fromhex(span.get(name, ""))).decode()
    return json_format.ParseDict(told, trace_service_pb2.ExportTraceServiceRequest(), ignore_unknown_fields=True)


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
