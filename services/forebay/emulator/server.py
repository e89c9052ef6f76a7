"""The gRPC server of an emulated Triton: health that follows readiness, reflection, errors as plain statuses."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from lmaas.orca.orca_pb2_grpc import add_OpenRcaServiceServicer_to_server
from tritonclient.grpc import service_pb2_grpc

from forebay.core.errors import ConfigError, ForebayError, NotFound
from forebay.emulator.faults import Faults
from forebay.emulator.orca import LoadReports
from forebay.emulator.repository import Repository
from forebay.emulator.servicer import InferenceServicer
from forebay.wire import orca
from forebay.wire.errors import CODES
from forebay.wire.tracing import OFF, Tracer

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
SERVICE = "inference.GRPCInferenceService"
_STATUSES = {code.value[0]: code for code in grpc.StatusCode}
_WATCH_S = 0.1
_OPTIONS = [
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_concurrent_streams", 10_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 0),
]


class Gate(grpc.aio.ServerInterceptor):
    """Holds every call while the server hangs, and turns our errors into the plain statuses that Triton sends."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults

    async def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]], details: grpc.HandlerCallDetails
    ) -> Handler:
        """The handler of the method, gated."""
        handler: Handler = await continuation(details)
        if handler is None:
            return handler
        if handler.unary_unary:
            return grpc.unary_unary_rpc_method_handler(
                self._unary(handler.unary_unary), handler.request_deserializer, handler.response_serializer
            )
        if handler.stream_stream:
            return grpc.stream_stream_rpc_method_handler(
                self._stream(handler.stream_stream), handler.request_deserializer, handler.response_serializer
            )
        return handler

    def _unary(self, inner: Any) -> Any:
        async def gated(request: Any, context: Any) -> Any:
            await self._faults.gate()
            try:
                return await inner(request, context)
            except ForebayError as error:
                await _abort(context, error)

        return gated

    def _stream(self, inner: Any) -> Any:
        async def gated(requests: Any, context: Any) -> Any:
            await self._faults.gate()
            try:
                async for response in inner(requests, context):
                    yield response
            except ForebayError as error:
                await _abort(context, error)

        return gated


class Health(health_pb2_grpc.HealthServicer):
    """grpc.health.v1 of the whole server: SERVING exactly while the repository is ready."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    async def Check(
        self, request: health_pb2.HealthCheckRequest, context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> health_pb2.HealthCheckResponse:
        """The state now. Raises NotFound for a service that is not here."""
        if request.service not in ("", SERVICE):
            raise NotFound(f"no service {request.service!r} here")
        return self._response()

    async def Watch(
        self, request: health_pb2.HealthCheckRequest, context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """The state now and after each change."""
        told = None
        while True:
            response = self._response()
            if response != told:
                told = response
                yield response
            await asyncio.sleep(_WATCH_S)

    def _response(self) -> health_pb2.HealthCheckResponse:
        kinds = health_pb2.HealthCheckResponse
        return kinds(status=kinds.SERVING if self._repository.ready else kinds.NOT_SERVING)


class TritonServer:
    """The listening server. Raises ConfigError when the address cannot be bound."""

    def __init__(self, address: str, repository: Repository, faults: Faults, tracer: Tracer = OFF) -> None:
        self._grpc = grpc.aio.server(interceptors=[Gate(faults)], options=_OPTIONS)
        servicer = InferenceServicer(repository, faults, tracer)
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, self._grpc)
        add_OpenRcaServiceServicer_to_server(LoadReports(repository), self._grpc)
        health_pb2_grpc.add_HealthServicer_to_server(Health(repository), self._grpc)
        reflection.enable_server_reflection(
            [SERVICE, orca.SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME], self._grpc
        )
        self.port = _bind(self._grpc, address)

    async def start(self) -> None:
        """Answer calls."""
        await self._grpc.start()

    async def stop(self, grace_s: float) -> None:
        """Take no new calls and give those in flight `grace_s` to end."""
        await self._grpc.stop(grace_s)


def _bind(server: grpc.aio.Server, address: str) -> int:
    try:
        port = server.add_insecure_port(address)
    except RuntimeError:
        port = 0
    if port == 0:
        raise ConfigError(f"cannot listen on {address}: choose another port or stop its owner")
    return port


async def _abort(context: Any, error: ForebayError) -> None:
    await context.abort(_STATUSES[CODES[type(error)]], error.message)
