"""OpenAI's HTTP protocol: completions, streamed as server-sent events or whole, models and health."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from forebay.core.errors import ForebayError
from forebay.core.scheduling import Placement
from forebay.core.units import US_PER_S
from forebay.gateway import shape, triton
from forebay.gateway.body import read_body
from forebay.gateway.completion import Completion, parse_chat, parse_text
from forebay.gateway.config import Config
from forebay.gateway.genai import CHAT, TEXT_COMPLETION
from forebay.gateway.intake import REQUEST_ID, Intake, client_id
from forebay.gateway.loop import Loop
from forebay.gateway.relay import Answer, Relay, gathered
from forebay.gateway.shape import Shape
from forebay.gateway.values import NO_PREDICTION
from forebay.wire.clock import Clock

Headers = list[tuple[bytes, bytes]]
Parse = Callable[[bytes, int], Completion]
_JSON = (b"content-type", b"application/json")
_EVENTS = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]


class OpenAi:
    """Answers HTTP clients; errors have OpenAI's form and never hold what happened inside."""

    def __init__(
        self,
        loop: Loop,
        relay: Relay,
        intake: Intake,
        config: Config,
        clock: Clock,
        more_routes: Sequence[Route] = (),
    ) -> None:
        self._loop = loop
        self._more_routes = more_routes
        self._relay = relay
        self._intake = intake
        self._config = config
        self._clock = clock
        self.is_stopping = False

    @property
    def body_timeout_s(self) -> float:
        """How long a client may take to send the head or the body of a request."""
        return self._config.body_timeout_s

    def app(self) -> Starlette:
        """The ASGI application."""
        routes = [
            Route("/v1/chat/completions", self._chat, methods=["POST"]),
            Route("/v1/completions", self._text, methods=["POST"]),
            Route("/v1/models", self._models),
            Route("/v1/models/{model:path}", self._model),
            Route("/healthz", self._health),
            Route("/readyz", self._ready),
            *self._more_routes,
        ]
        return Starlette(routes=routes, exception_handlers={HTTPException: _http_error, Exception: _bug})

    async def _chat(self, request: Request) -> Response:
        return await self._complete(request, parse_chat)

    async def _text(self, request: Request) -> Response:
        return await self._complete(request, parse_text)

    async def _complete(self, request: Request, parse: Parse) -> Response:
        named = client_id(request.headers)
        try:
            body = await read_body(request, self._config.body_bytes_max, self._config.body_timeout_s)
            completion = parse(body, self._config.tokens_max_default)
            inference = self._intake.of(named, completion, request.headers)
        except ForebayError as error:
            return _error_response(error, named)
        except ClientDisconnect:
            return Response(status_code=400)
        operation = CHAT if completion.is_chat else TEXT_COMPLETION
        answer = Answer(inference, len(completion.text.encode()), operation, request.headers)
        form = Shape(completion, inference.request_id, self._clock() // US_PER_S)
        return _Completing(self._relay, completion, answer, form, named)

    async def _models(self, _: Request) -> Response:
        fleet = self._loop.engine.fleet
        return JSONResponse({"object": "list", "data": [self._describe(model) for model in fleet.models()]})

    async def _model(self, request: Request) -> Response:
        fleet, model = self._loop.engine.fleet, request.path_params["model"]
        if not fleet.knows(model):
            return _error_response(fleet.unknown(model), client_id(request.headers))
        return JSONResponse(self._describe(model))

    def _describe(self, model: str) -> dict[str, object]:
        created_s = self._loop.engine.fleet.since_us(model) // US_PER_S
        return {"id": model, "object": "model", "created": created_s, "owned_by": "forebay"}

    async def _health(self, _: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def _ready(self, _: Request) -> Response:
        engine = self._loop.engine
        if self.is_stopping:
            return JSONResponse({"status": "stopping"}, 503)
        if not engine.fleet.seen:
            return JSONResponse({"status": "the scheduler has not told its fleet yet"}, 503)
        return JSONResponse({"status": "ok", "scheduler": "linked" if engine.is_linked else "down"})


class _Completing(Response):
    """Answers one completion for as long as the client stays."""

    def __init__(self, relay: Relay, completion: Completion, answer: Answer, form: Shape, named: str) -> None:
        self._relay = relay
        self._completion = completion
        self._answer = answer
        self._form = form
        self._named = named
        self._has_begun = False
        self._is_answered = False
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the answer; a client that disconnects cancels it, on the instance too."""
        work = asyncio.create_task(self._serve(send))
        leaving = asyncio.create_task(_until_gone(receive))
        try:
            await asyncio.wait((work, leaving), return_when=asyncio.FIRST_COMPLETED)
            if self._is_answered:
                # The client has all; the call to the instance may end in peace.
                await asyncio.wait((work,))
        finally:
            work.cancel()
            leaving.cancel()
            await asyncio.gather(work, leaving, return_exceptions=True)
        if not work.cancelled():
            work.result()

    async def _serve(self, send: Send) -> None:
        message = triton.text_request(self._completion.model, self._completion.text, self._completion.sampling)
        deliver = self._stream if self._completion.is_stream else self._collect
        try:
            async with aclosing(self._relay.chunks(self._answer, message)) as chunks:
                await deliver(chunks, send)
        except ForebayError as error:
            if self._has_begun:
                await send({"type": "http.response.body", "body": shape.failure_event(error)})
            else:
                await _error_response(error, self._named).send_to(send)

    async def _stream(self, chunks: Any, send: Send) -> None:
        form, answer = self._form, self._answer
        async for chunk in chunks:
            body = form.text(chunk.text) if chunk.text else b""
            is_last = bool(chunk.is_final or chunk.finish_reason)
            if is_last:
                body += form.closing(answer.finish_reason or "stop", answer.prompt_tokens, answer.response_tokens)
            if not self._has_begun:
                await self._begin(send, _EVENTS)
                body = form.opening() + body
            self._is_answered = is_last
            if body:
                await send({"type": "http.response.body", "body": body, "more_body": not is_last})
            if is_last:
                return

    async def _collect(self, chunks: Any, send: Send) -> None:
        text, answer = await gathered(chunks), self._answer
        reason = answer.finish_reason or "stop"
        body = self._form.whole(text, reason, answer.prompt_tokens, answer.response_tokens)
        self._is_answered = True
        await self._begin(send, [_JSON, (b"content-length", str(len(body)).encode())])
        await send({"type": "http.response.body", "body": body})

    async def _begin(self, send: Send, headers: Headers) -> None:
        self._has_begun = True
        assert self._answer.placement is not None
        named = own_headers(self._answer.placement, self._named)
        headers = [*headers, *((name.encode(), value.encode("ascii", "replace")) for name, value in named.items())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})


class _Failure(Response):
    async def send_to(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body})


def _error_response(error: ForebayError, named: str) -> _Failure:
    status, headers, body = shape.failure(error)
    return _Failure(body, status, {**headers, REQUEST_ID: named}, "application/json")


def own_headers(placed: Placement, named: str) -> dict[str, str]:
    """What an answer tells in its headers of how its request was placed."""
    values = {REQUEST_ID: named, "x-forebay-decision-id": placed.decision_id, "x-forebay-instance": placed.instance_id}
    if placed.predicted != NO_PREDICTION:
        of = placed.predicted
        values["x-forebay-predicted-tokens"] = f"{of.p10},{of.p50},{of.p90},{of.p97}"
    return {name: value for name, value in values.items() if value}


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    text = f"{request.method} {request.url.path}: {error.detail}; see /v1/models and /v1/chat/completions"
    body = shape.error_body(text, "invalid_request_error", None)
    return Response(body, error.status_code, error.headers, "application/json")


async def _bug(_: Request, __: Exception) -> Response:
    body = shape.error_body("internal error; the gateway's log has the details", "server_error", "internal")
    return Response(body, 500, None, "application/json")
