"""The one server interceptor: checks rules and deadlines, repeats known answers, maps errors, logs and counts."""

import hashlib
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import Message
from grpc_status import rpc_status
from prometheus_client import CollectorRegistry, Counter, Histogram

from forebay.core.errors import AlreadyExists
from forebay.wire import validate
from forebay.wire.clock import Clock
from forebay.wire.errors import to_status

log = logging.getLogger(__name__)

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Continuation: TypeAlias = Callable[[grpc.HandlerCallDetails], Awaitable[Any]]
OURS = ("/lmaas.", "/externalscaler.", "/dynamo.")


class CallStats:
    """Counts and durations of the calls that a server answered."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ("method", "code")
        self.calls = Counter("forebay_grpc_calls", "Calls answered.", labels, registry=registry)
        self.seconds = Histogram("forebay_grpc_call_seconds", "Time to answer.", ("method",), registry=registry)


class Answers:
    """Remembers the answers to writes by request_id, so that a repeated write has its effect once.

    The oldest answers are forgotten first. Raises AlreadyExists when an id comes again with another request.
    """

    def __init__(self, capacity: int = 10_000) -> None:
        self._capacity = capacity
        # Of a request only its digest is kept: requests may be large and may hold prompts.
        self._known: OrderedDict[tuple[str, str], tuple[bytes, Message]] = OrderedDict()

    def get(self, method: str, request: Message) -> Message | None:
        """The answer given before, or None for a new or unnamed request."""
        request_id = getattr(request, "request_id", "")
        known = self._known.get((method, request_id)) if request_id else None
        if known is None:
            return None
        if known[0] != _digest(request):
            raise AlreadyExists(f"request_id {request_id!r} was used for another request; choose a new one")
        return known[1]

    def put(self, method: str, request: Message, answer: Message) -> None:
        """Remembers the answer if the request has an id."""
        request_id = getattr(request, "request_id", "")
        if request_id:
            self._known[(method, request_id)] = (_digest(request), answer)
            if len(self._known) > self._capacity:
                self._known.popitem(last=False)


def _digest(request: Message) -> bytes:
    return hashlib.blake2b(request.SerializeToString(deterministic=True), digest_size=16).digest()


class Guard(grpc.aio.ServerInterceptor):
    """Wraps every handler of the services that are ours to answer; health and reflection pass untouched."""

    def __init__(self, clock: Clock, registry: CollectorRegistry) -> None:
        self._clock = clock
        self._stats = CallStats(registry)
        self._answers = Answers()

    async def intercept_service(self, continuation: Continuation, details: grpc.HandlerCallDetails) -> Handler:
        """The handler of the method, wrapped by its kind."""
        handler: Handler = await continuation(details)
        if handler is None or not details.method.startswith(OURS):
            return handler
        kind = (handler.request_streaming, handler.response_streaming)
        wrap, make = _KINDS[kind]
        inner = getattr(handler, _SLOTS[kind])
        wrapped: Handler = make(
            wrap(self, details.method, inner), handler.request_deserializer, handler.response_serializer
        )
        return wrapped

    def unary_unary(self, method: str, inner: Callable[..., Awaitable[Message]]) -> Any:
        """A call with one request and one answer."""

        async def call(request: Message, context: Any) -> Message:
            validate.check(request)
            known = self._answers.get(method, request)
            if known is not None:
                return known
            answer = await inner(request, context)
            self._answers.put(method, request, answer)
            return answer

        return self._one(method, call)

    def stream_unary(self, method: str, inner: Callable[..., Awaitable[Message]]) -> Any:
        """A call with many requests and one answer; its handler checks each message and may keep what came before."""
        return self._one(method, inner)

    def unary_stream(self, method: str, inner: Callable[..., AsyncIterator[Message]]) -> Any:
        """A call with one request and many answers."""

        async def call(request: Message, context: Any) -> AsyncIterator[Message]:
            validate.check(request)
            async for answer in inner(request, context):
                yield answer

        return self._many(method, call)

    def stream_stream(self, method: str, inner: Callable[..., AsyncIterator[Message]]) -> Any:
        """A call with many requests and many answers; its handler checks each message and may answer a bad one."""
        return self._many(method, inner)

    def _one(self, method: str, call: Callable[..., Awaitable[Message]]) -> Any:
        async def guarded(request: Any, context: Any) -> Message:
            start_us = self._clock()
            try:
                answer = await call(request, context)
            except Exception as error:
                await self._fail(method, start_us, error, context)
                raise AssertionError("abort raises") from error
            self._count(method, start_us, "OK")
            return answer

        return guarded

    def _many(self, method: str, call: Callable[..., AsyncIterator[Message]]) -> Any:
        async def guarded(request: Any, context: Any) -> AsyncIterator[Message]:
            start_us = self._clock()
            try:
                async for answer in call(request, context):
                    yield answer
            except Exception as error:
                await self._fail(method, start_us, error, context)
            self._count(method, start_us, "OK")

        return guarded

    async def _fail(self, method: str, start_us: int, error: Exception, context: Any) -> None:
        if isinstance(error, grpc.aio.AbortError):
            raise error
        status = to_status(error)
        name = grpc.StatusCode(_code(status.code)).name
        self._count(method, start_us, name)
        unexpected = name == "INTERNAL"
        log.log(
            logging.ERROR if unexpected else logging.INFO,
            "call failed",
            exc_info=error if unexpected else None,
            extra={"fields": {"method": method, "code": name, "error": "" if unexpected else status.message}},
        )
        await context.abort_with_status(rpc_status.to_status(status))

    def _count(self, method: str, start_us: int, code: str) -> None:
        self._stats.calls.labels(method, code).inc()
        self._stats.seconds.labels(method).observe((self._clock() - start_us) / 1e6)
        log.debug("call answered", extra={"fields": {"method": method, "code": code}})


def _code(number: int) -> Any:
    return next(code.value for code in grpc.StatusCode if code.value[0] == number)


_KINDS: dict[tuple[bool, bool], tuple[Any, Any]] = {
    (False, False): (Guard.unary_unary, grpc.unary_unary_rpc_method_handler),
    (True, False): (Guard.stream_unary, grpc.stream_unary_rpc_method_handler),
    (False, True): (Guard.unary_stream, grpc.unary_stream_rpc_method_handler),
    (True, True): (Guard.stream_stream, grpc.stream_stream_rpc_method_handler),
}
_SLOTS = {
    (False, False): "unary_unary",
    (True, False): "stream_unary",
    (False, True): "unary_stream",
    (True, True): "stream_stream",
}
