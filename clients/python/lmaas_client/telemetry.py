"""OpenTelemetry in the client: where its API is installed, calls get spans and carry their trace.

Without the package nothing happens; without an SDK that is set up no span is recorded. Spans follow OpenTelemetry's
conventions for RPCs and never hold a prompt. Unary calls get spans; streams carry the caller's trace.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import grpc

try:
    from opentelemetry import propagate, trace
    from opentelemetry.trace import SpanKind, Status, StatusCode
except ImportError:
    IS_INSTALLED = False
else:
    IS_INSTALLED = True


def aio_interceptors() -> list[grpc.aio.ClientInterceptor]:
    """For `grpc.aio.insecure_channel(..., interceptors=...)`; empty where OpenTelemetry is not installed."""
    return [_AioUnary(), _AioStream()] if IS_INSTALLED else []


def blocking_interceptors() -> list[Any]:
    """For `grpc.intercept_channel(channel, *...)`; empty where OpenTelemetry is not installed."""
    return [_Blocking()] if IS_INSTALLED else []


class _AioUnary(grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        with _span_of(client_call_details.method) as span:
            call = await continuation(_aio_details(client_call_details), request)
            _note(span, await call.code())
            return call


class _AioStream(grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(_aio_details(client_call_details), request)


class _Blocking(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        with _span_of(client_call_details.method) as span:
            call = continuation(_blocking_details(client_call_details), request)
            _note(span, call.code())
            return call

    def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return continuation(_blocking_details(client_call_details), request)


class _Fields(NamedTuple):
    method: Any
    timeout: Any
    metadata: Any
    credentials: Any
    wait_for_ready: Any
    compression: Any


class _Details(_Fields, grpc.ClientCallDetails):
    pass


def _aio_details(details: Any) -> grpc.aio.ClientCallDetails:
    metadata = grpc.aio.Metadata(*_carrying(details.metadata))
    return grpc.aio.ClientCallDetails(
        details.method, details.timeout, metadata, details.credentials, details.wait_for_ready
    )


def _blocking_details(details: Any) -> _Details:
    rest = (details.credentials, details.wait_for_ready, details.compression)
    return _Details(details.method, details.timeout, _carrying(details.metadata), *rest)


def _carrying(metadata: Any) -> list[tuple[str, Any]]:
    """The metadata with where the caller stands in its trace."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return [*(metadata or ()), *carrier.items()]


@contextmanager
def _span_of(method: Any) -> Iterator[Any]:
    """A span that is current while a call runs; what is raised inside is noted by its kind alone."""
    name = (method.decode() if isinstance(method, bytes) else method).removeprefix("/")
    service, _, rpc = name.partition("/")
    attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": rpc}
    tracer = trace.get_tracer("lmaas_client")
    with tracer.start_as_current_span(
        name, kind=SpanKind.CLIENT, attributes=attributes, record_exception=False
    ) as span:
        yield span


def _note(span: Any, code: grpc.StatusCode) -> None:
    span.set_attribute("rpc.grpc.status_code", code.value[0])
    if code is not grpc.StatusCode.OK:
        span.set_attribute("error.type", code.name)
        span.set_status(Status(StatusCode.ERROR, code.name))
