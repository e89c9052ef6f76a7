"""The way of one request: placed, sent to its instance, and sent elsewhere while no token has come."""

import logging
from collections.abc import AsyncGenerator, AsyncIterable, Mapping
from contextlib import aclosing
from typing import Any

from forebay.core.errors import ForebayError
from forebay.core.scheduling import Placement
from forebay.core.tokens import TokenEstimator
from forebay.core.values import InferenceRequest, Outcome
from forebay.gateway import triton
from forebay.gateway.genai import TEXT_COMPLETION
from forebay.gateway.loop import Loop
from forebay.gateway.triton import Chunk
from forebay.gateway.upstream import Upstream

log = logging.getLogger(__name__)

_LENGTH = "length"
_NO_HEADERS: Mapping[str, str] = {}


class Answer:
    """One answer as it grows. The counts are those of the model, in tokens, up to the chunk that came last.

    `operation` is the GenAI conventions' name of it; `headers` may name the trace that it belongs to.
    """

    def __init__(
        self,
        request: InferenceRequest,
        byte_count: int,
        operation: str = TEXT_COMPLETION,
        headers: Mapping[str, str] = _NO_HEADERS,
    ) -> None:
        self.request = request
        self.byte_count = byte_count
        self.operation = operation
        self.headers = headers
        self.placement: Placement | None = None
        self.prompt_tokens = 0
        self.response_tokens = 0
        self.finish_reason = ""

    def take(self, chunk: Chunk) -> None:
        """Counts a chunk; a model that does not count tokens is taken to send one at a time."""
        self.prompt_tokens = chunk.input_tokens or self.prompt_tokens
        self.response_tokens += chunk.output_tokens or (1 if chunk.text and not chunk.input_tokens else 0)
        self.finish_reason = chunk.finish_reason or self.finish_reason


async def gathered(chunks: AsyncIterable[Chunk]) -> str:
    """The text of an answer once it has ended."""
    texts = []
    async for chunk in chunks:
        texts.append(chunk.text)
        if chunk.is_final or chunk.finish_reason:
            break
    return "".join(texts)


class Relay:
    """Brings requests to instances and answers back."""

    def __init__(self, loop: Loop, upstream: Upstream, estimator: TokenEstimator) -> None:
        self._loop = loop
        self._upstream = upstream
        self._estimator = estimator

    async def chunks(self, answer: Answer, message: Any) -> AsyncGenerator[Chunk, None]:
        """Yields the answer. Closing the generator early withdraws the request everywhere.

        Raises the ForebayError that the client gets; after the first chunk it means that the answer is broken off.
        """
        request_id = answer.request.request_id
        has_priority = "priority" in message.parameters
        message.id = request_id
        self._loop.traces.begin(answer.request, answer.operation, answer.headers)
        placed = self._loop.arrive(answer.request)
        try:
            while True:
                answer.placement = await placed
                if answer.placement.triton_priority and not has_priority:
                    message.parameters["priority"].uint64_param = answer.placement.triton_priority
                triton.set_hints(message, self._loop.hints(request_id))
                triton.name_batch(message, answer.placement)
                try:
                    async with aclosing(self._attempt(answer, message)) as attempt:
                        async for chunk in attempt:
                            yield chunk
                    return
                except ForebayError as error:
                    fields = {"instance": answer.placement.instance_id, "reason": error.code, "request": request_id}
                    log.warning("an attempt failed", extra={"fields": fields})
                    placed = self._loop.failed(request_id, error)
        finally:
            self._loop.gone(request_id)

    async def _attempt(self, answer: Answer, message: Any) -> AsyncGenerator[Chunk, None]:
        assert answer.placement is not None
        request_id = answer.request.request_id
        metadata = self._loop.traces.trying(request_id, answer.placement)
        async with aclosing(self._upstream.stream(answer.placement, message, metadata)) as chunks:
            async for chunk in chunks:
                if not (chunk.text or chunk.output_tokens or chunk.finish_reason or chunk.is_final):
                    continue
                answer.take(chunk)
                self._loop.tokens(request_id, answer.response_tokens, answer.prompt_tokens)
                if chunk.is_final or chunk.finish_reason:
                    self._finish(answer)
                yield chunk

    def _finish(self, answer: Answer) -> None:
        self._estimator.observe(answer.request.model, answer.byte_count, answer.prompt_tokens)
        outcome = Outcome.LENGTH if answer.finish_reason == _LENGTH else Outcome.STOPPED
        self._loop.finished(answer.request.request_id, outcome)
