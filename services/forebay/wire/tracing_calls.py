"""Spans of unary calls: a server's, under the caller's, and none for callers that do not trace."""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from forebay.wire.tracing import TRACEPARENT, TRACESTATE, Tracer, answering

_OURS = "/lmaas."
_NAMES = (TRACEPARENT, TRACESTATE)


class TracedCalls(grpc.aio.ServerInterceptor):
    """Begins a span for each unary call of ours whose caller traces; its handler finds it by `tracing.current`."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    async def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]], details: grpc.HandlerCallDetails
    ) -> Any:
        """The handler of the method, with a span around it."""
        handler = await continuation(details)
        if handler is None or not handler.unary_unary or not details.method.startswith(_OURS):
            return handler
        metadata = details.invocation_metadata or ()
        headers = {key: value for key, value in metadata if key in _NAMES and isinstance(value, str)}
        if not headers:
            return handler
        service, _, method = details.method[1:].partition("/")
        attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method}
        span = self._tracer.begin(details.method[1:], "server", headers, attributes)
        if span is None:
            return handler

        async def traced(request: Any, context: Any) -> Any:
            with answering(span):
                return await handler.unary_unary(request, context)

        return grpc.unary_unary_rpc_method_handler(traced, handler.request_deserializer, handler.response_serializer)
