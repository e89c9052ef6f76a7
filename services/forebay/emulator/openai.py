"""OpenAI's HTTP protocol of an emulated server, as the servers behind a proxy speak it: completions and models.

Field names and the order of events are those of OpenAI's API reference and of vLLM's server: each event of a stream
carries the text since the one before, the last one the reason, and the counts come after it where they are asked for.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from forebay.core.errors import ForebayError, InvalidArgument, NotFound, Unavailable
from forebay.core.openai import Question, read_question
from forebay.emulator.faults import Faults
from forebay.emulator.generate import TOKENS_MAX_DEFAULT, Chunk, GenerateRequest
from forebay.emulator.orca import report_of
from forebay.emulator.repository import Repository
from forebay.wire import orca

_UNLIMITED_TOKENS = 1_048_576
_STATUSES: dict[type[ForebayError], int] = {InvalidArgument: 400, NotFound: 404, Unavailable: 503}
_EVENTS = [(b"content-type", b"text/event-stream; charset=utf-8")]
_JSON = [(b"content-type", b"application/json")]


class OpenAiApi:
    """The handlers, over one repository and its faults."""

    def __init__(self, repository: Repository, faults: Faults) -> None:
        self._repository = repository
        self._faults = faults
        self.routes = [
            Route("/v1/chat/completions", self.complete, methods=["POST"]),
            Route("/v1/completions", self.complete, methods=["POST"]),
            Route("/v1/models", self.models),
        ]

    async def models(self, request: Request) -> Response:
        """The models that take requests."""
        await self._faults.gate()
        ready = [entry.spec.name for entry in self._repository.entries() if entry.host is not None]
        return JSONResponse({"object": "list", "data": [{"id": name, "object": "model"} for name in ready]})

    async def complete(self, request: Request) -> Response:
        """Answers a chat or a text."""
        await self._faults.gate()
        try:
            self._faults.check_refusal()
            question = read_question(await request.body())
            return _Answering(self._repository, self._faults, question, request.headers)
        except ForebayError as error:
            return _refusal(error)


class _Answering(Response):
    """Answers one question for as long as the client stays."""

    def __init__(self, repository: Repository, faults: Faults, question: Question, asked: Mapping[str, str]) -> None:
        named = asked.get("x-request-id", "")
        self._load_format = asked.get(orca.FORMAT, "")
        self._question = question
        self._faults = faults
        self._chunks: asyncio.Queue[Chunk | str] = asyncio.Queue()
        self._base = {"id": named or "emulated", "created": 0, "model": question.model}
        self._host = repository.serving(question.model)
        request = GenerateRequest(
            request_id=named,
            model=question.model,
            prompt=question.text,
            stream=question.is_stream,
            prepend_prompt=False,
            outputs=frozenset(),
            tokens_max=question.tokens_max or (_UNLIMITED_TOKENS if question.is_chat else TOKENS_MAX_DEFAULT),
            ignore_eos=question.ignore_eos,
        )
        if not question.text:
            raise InvalidArgument("The prompt must not be empty")
        self._key = self._host.start(request, self._chunks.put_nowait, self._chunks.put_nowait)
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the answer; a client that disconnects cancels it."""
        work = asyncio.create_task(self._stream(send) if self._question.is_stream else self._whole(send))
        leaving = asyncio.create_task(_until_gone(receive))
        try:
            await asyncio.wait((work, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._host.cancel(self._key)
            for task in (work, leaving):
                task.cancel()
            await asyncio.gather(work, leaving, return_exceptions=True)

    async def _told(self) -> AsyncIterator[Chunk]:
        """The chunks up to the last; none after a failure."""
        while True:
            chunk = await self._chunks.get()
            await self._faults.gate()
            if isinstance(chunk, str):
                return
            yield chunk
            if chunk.finish_reason:
                return

    async def _stream(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [*_EVENTS, *self._load()]})
        prompt_tokens = tokens = 0
        async for chunk in self._told():
            prompt_tokens, tokens = chunk.input_tokens, tokens + chunk.token_count
            body = self._event([self._choice(chunk, "delta")])
            if chunk.finish_reason:
                usage = self._event([], _usage(prompt_tokens, tokens)) if self._question.has_usage else b""
                body += usage + b"data: [DONE]\n\n"
            more = not chunk.finish_reason
            await send({"type": "http.response.body", "body": body, "more_body": more})

    async def _whole(self, send: Send) -> None:
        async for chunk in self._told():
            kind = "chat.completion" if self._question.is_chat else "text_completion"
            values = {**self._base, "object": kind, "choices": [self._choice(chunk, "message")]}
            body = json.dumps({**values, "usage": _usage(chunk.input_tokens, chunk.token_count)}).encode()
            length = (b"content-length", str(len(body)).encode())
            await send({"type": "http.response.start", "status": 200, "headers": [*_JSON, length, *self._load()]})
            await send({"type": "http.response.body", "body": body})

    def _load(self) -> list[tuple[bytes, bytes]]:
        """The engine's load, to a client that asks for it."""
        header = orca.header_of(report_of(self._host), self._load_format)
        return [] if header is None else [(header[0].encode(), header[1].encode())]

    def _choice(self, chunk: Chunk, where: str) -> dict[str, Any]:
        said: dict[str, Any] = {"text": chunk.text}
        if self._question.is_chat:
            said = {where: {"role": "assistant", "content": chunk.text}}
        return {"index": 0, **said, "logprobs": None, "finish_reason": chunk.finish_reason or None}

    def _event(self, choices: list[dict[str, Any]], usage: dict[str, int] | None = None) -> bytes:
        kind = "chat.completion.chunk" if self._question.is_chat else "text_completion"
        told = {"usage": usage} if self._question.has_usage else {}
        return b"data: " + json.dumps({**self._base, "object": kind, "choices": choices, **told}).encode() + b"\n\n"


def _usage(prompt_tokens: int, tokens: int) -> dict[str, int]:
    return {"prompt_tokens": prompt_tokens, "completion_tokens": tokens, "total_tokens": prompt_tokens + tokens}


def _refusal(error: ForebayError) -> Response:
    status = next((status for kind, status in _STATUSES.items() if isinstance(error, kind)), 500)
    return JSONResponse({"error": {"message": error.message, "type": "BadRequestError", "code": status}}, status)


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
