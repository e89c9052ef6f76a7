"""The door of the gateway: what comes in over either protocol bears the name of the tenant whose key it showed."""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import grpc
from grpc_status import rpc_status
from starlette.types import ASGIApp, Receive, Scope, Send

from forebay.core.errors import ForebayError
from forebay.gateway import shape
from forebay.gateway.tenants import TENANT, Keys
from forebay.wire.errors import to_status

_GUARDED_PATH = "/v1/"
_GUARDED_METHODS = ("/lmaas.", "/inference.GRPCInferenceService/Model")
_OPEN_METHODS = ("/inference.GRPCInferenceService/ModelReady",)
"""As ServerLive, ServerReady and health, it is asked by probes that have no key."""


class HttpDoor:
    """Lets HTTP requests in; whoever only asks for health needs no key."""

    def __init__(self, app: ASGIApp, keys: Keys) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request without a good key itself, and hands on the others under the tenant's name."""
        if scope["type"] == "http" and scope["path"].startswith(_GUARDED_PATH):
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            try:
                tenant = self._keys.tenant(headers)
            except ForebayError as error:
                await _refuse(error, send)
                return
            kept = [(name, value) for name, value in scope["headers"] if name != TENANT.encode()]
            scope = {**scope, "headers": [*kept, (TENANT.encode(), tenant.encode())]}
        await self._app(scope, receive, send)


async def _refuse(error: ForebayError, send: Send) -> None:
    status, headers, body = shape.failure(error)
    named = {"content-type": "application/json", "content-length": str(len(body)), **headers}
    raw = [(name.encode(), value.encode()) for name, value in named.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


class GrpcDoor(grpc.aio.ServerInterceptor):
    """Lets calls in; probes need no key."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    async def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]], details: grpc.HandlerCallDetails
    ) -> Any:
        """The handler of the method, which sees the tenant's name."""
        handler = await continuation(details)
        is_guarded = details.method.startswith(_GUARDED_METHODS) and details.method not in _OPEN_METHODS
        if handler is None or not is_guarded:
            return handler
        kind = ("stream" if handler.request_streaming else "unary") + (
            "_stream" if handler.response_streaming else "_unary"
        )
        make = getattr(grpc, f"{kind}_rpc_method_handler")
        return make(self._known(getattr(handler, kind)), handler.request_deserializer, handler.response_serializer)

    def _known(self, inner: Callable[..., Any]) -> Callable[..., Any]:
        async def many(request: Any, context: Any) -> AsyncIterator[Any]:
            known = await self._context(context)
            async for answer in inner(request, known):
                yield answer

        async def one(request: Any, context: Any) -> Any:
            return await inner(request, await self._context(context))

        return many if inspect.isasyncgenfunction(inner) else one

    async def _context(self, context: Any) -> "_KnownContext":
        metadata = [pair for pair in context.invocation_metadata() or () if isinstance(pair[1], str)]
        try:
            tenant = self._keys.tenant(dict(metadata))
        except ForebayError as error:
            await context.abort_with_status(rpc_status.to_status(to_status(error)))
            raise AssertionError("abort raises") from error
        return _KnownContext(context, [*(pair for pair in metadata if pair[0] != TENANT), (TENANT, tenant)])


class _KnownContext:
    """A call's context whose metadata name the tenant."""

    def __init__(self, context: Any, metadata: Sequence[tuple[str, str]]) -> None:
        self._context = context
        self._metadata = metadata

    def invocation_metadata(self) -> Sequence[tuple[str, str]]:
        """The client's metadata with the tenant's true name."""
        return self._metadata

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)
