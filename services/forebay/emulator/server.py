"""The gRPC server of an emulated Triton: health that follows readiness, reflection, errors as plain statuses."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from tritonclient.grpc import service_pb2_grpc

from forebay.core.errors import ConfigError, ForebayError
from forebay.emulator.faults import Faults
from forebay.emulator.repository import Repository
from forebay.emulator.servicer import InferenceServicer
from forebay.wire.errors import CODES

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
SERVICE = "inference.GRPCInferenceService"
_STATUSES = {code.value[0]: code for code in grpc.StatusCode}
_FOLLOW_S = 0.1
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


class TritonServer:
    """The listening server. Raises ConfigError when the address cannot be bound."""

    def __init__(self, address: str, repository: Repository, faults: Faults) -> None:
        self._repository = repository
        self._health = health.aio.HealthServicer()
        self._grpc = grpc.aio.server(interceptors=[Gate(faults)], options=_OPTIONS)
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(InferenceServicer(repository, faults), self._grpc)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._grpc)
        reflection.enable_server_reflection([SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME], self._grpc)
        self.port = _bind(self._grpc, address)

    async def start(self) -> None:
        """Answer calls; health says NOT_SERVING until `follow` finds the repository ready."""
        await self._report(False)
        await self._grpc.start()

    async def follow(self) -> None:
        """Keep health in step with the repository's readiness, for ever."""
        reported = False
        while True:
            if reported != self._repository.ready:
                reported = self._repository.ready
                await self._report(reported)
            await asyncio.sleep(_FOLLOW_S)

    async def stop(self, grace_s: float) -> None:
        """Take no new calls and give those in flight `grace_s` to end."""
        await self._report(False)
        await self._grpc.stop(grace_s)

    async def _report(self, ready: bool) -> None:
        status = health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", SERVICE):
            await self._health.set(name, status)


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
