"""One ModelStreamInfer call: requests in, their responses out as they come; all are cancelled with the call."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable
from functools import partial
from typing import TypeAlias

from tritonclient.grpc import service_pb2

from forebay.core.errors import Aborted, ForebayError
from forebay.emulator.faults import Faults
from forebay.emulator.generate import MODEL_REFUSED, Chunk, GenerateRequest, make_error, make_response, read_request
from forebay.emulator.host import ModelHost
from forebay.emulator.model_config import VERSION
from forebay.emulator.repository import Repository
from forebay.wire.tracing import Span

Begin: TypeAlias = Callable[[str, str], Span | None]


class StreamSession:
    """The requests of one stream. Errors become responses, unless the client asked for `closes_on_error`.

    In that mode, Triton's `triton_grpc_error`, an error of the model ends the call with its status. `begin` gives a
    span for a request of the model and id that it names, or None.
    """

    def __init__(
        self,
        repository: Repository,
        faults: Faults,
        closes_on_error: bool = False,
        begin: Begin | None = None,
    ) -> None:
        self._begin = begin
        self._spans: dict[int, Span] = {}
        self._repository = repository
        self._faults = faults
        self._closes_on_error = closes_on_error
        self._responses: asyncio.Queue[service_pb2.ModelStreamInferResponse | ForebayError | None] = asyncio.Queue()
        self._in_flight: dict[int, tuple[ModelHost, str]] = {}
        self.host: ModelHost | None = None
        """The model that the newest request went to."""
        self._accepted_count = 0
        self._reading = True

    async def run(
        self, messages: AsyncIterable[service_pb2.ModelInferRequest]
    ) -> AsyncIterator[service_pb2.ModelStreamInferResponse]:
        """All responses; ends when the client sends no more and nothing is in flight."""
        reader = asyncio.ensure_future(self._read(messages))
        try:
            while self._reading or self._in_flight or not self._responses.empty():
                response = await self._responses.get()
                if isinstance(response, ForebayError):
                    raise response
                if response is not None:
                    await self._faults.gate()
                    yield response
        finally:
            reader.cancel()
            for host, key in self._in_flight.values():
                host.cancel(key)
            for number in list(self._spans):
                self._end_span(number, "CANCELLED")

    async def _read(self, messages: AsyncIterable[service_pb2.ModelInferRequest]) -> None:
        async for message in messages:
            await self._faults.gate()
            self._accept(message)
        self._reading = False
        self._responses.put_nowait(None)

    def _accept(self, message: service_pb2.ModelInferRequest) -> None:
        self._accepted_count += 1
        number = self._accepted_count
        try:
            self._faults.check_refusal()
            host = self._repository.serving(message.model_name, message.model_version)
            request = read_request(message)
            key = host.start(request, partial(self._deliver, number, request), partial(self._fail, number, request))
        except ForebayError as error:
            self._refuse(message, error)
            return
        self._in_flight[number] = (host, key)
        self.host = host
        span = self._begin(message.model_name, message.id) if self._begin is not None else None
        if span is not None:
            self._spans[number] = span

    def _refuse(self, message: service_pb2.ModelInferRequest, error: ForebayError) -> None:
        by_model = error.code == MODEL_REFUSED
        if by_model and self._closes_on_error:
            self._responses.put_nowait(error)
        else:
            model = message.model_name if by_model else ""
            self._responses.put_nowait(make_error(error.message, message.id, model))

    def _deliver(self, number: int, request: GenerateRequest, chunk: Chunk) -> None:
        if chunk.finish_reason:
            self._in_flight.pop(number, None)
            self._end_span(number)
        self._responses.put_nowait(make_response(request, VERSION, chunk))

    def _end_span(self, number: int, error: str = "") -> None:
        span = self._spans.pop(number, None)
        if span is not None:
            span.end(error)

    def _fail(self, number: int, request: GenerateRequest, text: str) -> None:
        self._in_flight.pop(number, None)
        self._end_span(number, "ABORTED")
        if self._closes_on_error:
            self._responses.put_nowait(Aborted(text))
        else:
            self._responses.put_nowait(make_error(text, request.request_id, request.model))
