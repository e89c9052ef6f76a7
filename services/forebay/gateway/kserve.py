"""The KServe v2 inference protocol with Triton's streaming extension: one model-wide server over the whole fleet."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from grpc_status import rpc_status
from tritonclient.grpc import service_pb2, service_pb2_grpc

from forebay.core.errors import ForebayError, InvalidArgument, NoInstanceReady
from forebay.gateway import triton
from forebay.gateway.intake import Intake, client_id
from forebay.gateway.loop import Loop
from forebay.gateway.relay import Answer, Relay
from forebay.gateway.triton import Chunk
from forebay.gateway.upstream import Upstream
from forebay.wire.errors import to_status

log = logging.getLogger(__name__)

NAME = "inference.GRPCInferenceService"
_VERSION = "1"
_COUNTS = ("finish_reason", "num_input_tokens", "num_output_tokens")
_TEMPERATURE_DEFAULT = 1.0
_INTERNAL = "internal error; the gateway's log has the details"


@dataclass(slots=True)
class _Query:
    """One request as its client meant it."""

    message: Any
    text: str
    wanted: frozenset[str]
    """Outputs that the client asked for."""
    is_stream: bool
    prepends_input: bool
    wants_final: bool
    answer: Answer


class KServe(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Answers unmodified Triton clients. Methods that manage one server's files or memory are not offered."""

    def __init__(self, loop: Loop, relay: Relay, upstream: Upstream, intake: Intake) -> None:
        self._loop = loop
        self._relay = relay
        self._upstream = upstream
        self._intake = intake
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Takes no new requests from the streams that are open; they end with what runs."""
        self._stopping.set()

    async def ServerLive(self, request: Any, context: Any) -> Any:
        """True: who reads this, lives."""
        return service_pb2.ServerLiveResponse(live=True)

    async def ServerReady(self, request: Any, context: Any) -> Any:
        """Whether any model takes requests."""
        fleet = self._loop.engine.fleet
        return service_pb2.ServerReadyResponse(ready=any(fleet.ready(model) for model in fleet.models()))

    async def ModelReady(self, request: Any, context: Any) -> Any:
        """Whether an instance of the model takes requests."""
        return service_pb2.ModelReadyResponse(ready=bool(self._loop.engine.fleet.ready(request.name)))

    async def ServerMetadata(self, request: Any, context: Any) -> Any:
        """Who this is."""
        return service_pb2.ServerMetadataResponse(name="forebay", version=_VERSION)

    async def ModelMetadata(self, request: Any, context: Any) -> Any:
        """The model's tensors, as one of its instances describes them."""
        return await _or_abort(context, self._describe("ModelMetadata", request))

    async def ModelConfig(self, request: Any, context: Any) -> Any:
        """The model's configuration, as one of its instances describes it."""
        return await _or_abort(context, self._describe("ModelConfig", request))

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        """The whole answer in one response, though the model streams."""
        return await _or_abort(context, self._infer(request, _headers(context)))

    async def ModelStreamInfer(self, requests: AsyncIterator[Any], context: Any) -> None:
        """Any number of requests at once over one stream; responses carry the id of their request, errors too."""
        headers, turn = _headers(context), asyncio.Lock()

        async def send(response: Any) -> None:
            async with turn:
                await context.write(response)

        # A client that goes away cancels this handler, and the group with it.
        async with asyncio.TaskGroup() as group:
            async for request in self._until_stopped(requests):
                group.create_task(self._stream(request, headers, send))

    async def _until_stopped(self, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            while True:
                arriving = asyncio.ensure_future(anext(requests, None))
                await asyncio.wait((arriving, stopping), return_when=asyncio.FIRST_COMPLETED)
                if not arriving.done() or arriving.result() is None:
                    arriving.cancel()
                    return
                yield arriving.result()
        finally:
            stopping.cancel()

    async def _describe(self, method: str, request: Any) -> Any:
        fleet = self._loop.engine.fleet
        if not fleet.knows(request.name):
            raise fleet.unknown(request.name)
        instances = fleet.ready(request.name)
        if not instances:
            raise NoInstanceReady(f"no instance of model {request.name!r} is ready; try again later")
        return await self._upstream.describe(instances[0].grpc_address, method, request)

    async def _infer(self, request: Any, headers: Mapping[str, str]) -> Any:
        query = self._read(request, headers)
        return await self._collect(query, request.id)

    async def _stream(self, request: Any, headers: Mapping[str, str], send: Callable[[Any], Awaitable[None]]) -> None:
        request_id = request.id
        try:
            query = self._read(request, headers)
            if not query.is_stream:
                whole = await self._collect(query, request_id)
                await send(service_pb2.ModelStreamInferResponse(infer_response=whole))
                return
            async with aclosing(self._relay.chunks(query.answer, query.message)) as chunks:
                async for chunk in chunks:
                    if chunk.message.infer_response.outputs or query.wants_final:
                        await send(_passed_on(chunk, query, request_id))
        except ForebayError as error:
            await send(_error(error.message, request_id, request.model_name))
        except Exception:
            log.exception("a request failed")
            await send(_error(_INTERNAL, request_id, request.model_name))

    async def _collect(self, query: _Query, request_id: str) -> Any:
        texts = []
        async with aclosing(self._relay.chunks(query.answer, query.message)) as chunks:
            async for chunk in chunks:
                texts.append(chunk.text)
        return _whole("".join(texts), query, request_id)

    def _read(self, request: Any, headers: Mapping[str, str]) -> _Query:
        """Checks the request and turns it into one that streams. Raises InvalidArgument."""
        if not request.model_name:
            raise InvalidArgument("model_name must not be empty")
        triton.make_raw(request)
        tensors = triton.inputs(request)
        text, sampling = _text(tensors), _sampling(tensors)
        tokens_max = int(_positive(sampling.get("max_tokens"), triton.TOKENS_MAX_DEFAULT))
        temperature = _positive(sampling.get("temperature"), _TEMPERATURE_DEFAULT)
        inference = self._intake.request(client_id(headers), request.model_name, text, tokens_max, temperature, headers)
        is_stream = triton.as_flag(tensors.get("stream"), False)
        prepends_input = not triton.as_flag(tensors.get("exclude_input_in_output"), is_stream)
        if is_stream and prepends_input:
            raise InvalidArgument("with stream, exclude_input_in_output must not be false")
        wants_final = triton.WANTS_FINAL in request.parameters and request.parameters[triton.WANTS_FINAL].bool_param
        wanted = _wanted(request, tensors)
        del request.outputs[:]
        if triton.TRACEPARENT in request.parameters:
            headers = {**headers, triton.TRACEPARENT: request.parameters.pop(triton.TRACEPARENT).string_param}
        answer = Answer(inference, len(text.encode()), headers=headers)
        message = service_pb2.ModelInferRequest()
        message.CopyFrom(request)
        return _Query(triton.streaming(message), text, wanted, is_stream, prepends_input, wants_final, answer)


def _headers(context: Any) -> dict[str, str]:
    return {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}


def _text(tensors: Mapping[str, bytes]) -> str:
    if "text_input" not in tensors:
        raise InvalidArgument("input 'text_input' is missing: this gateway serves language models")
    text = triton.as_text(tensors["text_input"], "text_input")
    if not text:
        raise InvalidArgument("input 'text_input' must not be empty")
    return text


def _sampling(tensors: Mapping[str, bytes]) -> dict[str, Any]:
    raw = tensors.get("sampling_parameters")
    if raw is None:
        return {}
    try:
        values = json.loads(triton.as_text(raw, "sampling_parameters"))
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"sampling_parameters is not valid JSON: {error}") from error
    if not isinstance(values, dict):
        raise InvalidArgument("sampling_parameters must be a JSON object")
    return values


def _positive(value: object, default: float) -> float:
    """A number as the scheduler needs it; the model itself refuses bad ones, in its own words."""
    try:
        number = float(value) if isinstance(value, str | int | float) else default
    except (ValueError, OverflowError):
        return default
    return number if 0 <= number <= 1_048_576 else default


def _wanted(request: Any, tensors: Mapping[str, bytes]) -> frozenset[str]:
    if request.outputs:
        return frozenset(output.name for output in request.outputs)
    return frozenset(name for name in _COUNTS if triton.as_flag(tensors.get(f"return_{name}"), False)) | {"text_output"}


def _passed_on(chunk: Chunk, query: _Query, request_id: str) -> Any:
    """The model's response under the client's id, without what only the gateway asked for."""
    response = chunk.message.infer_response
    response.id = request_id
    for index in reversed(range(len(response.outputs))):
        name = response.outputs[index].name
        if name not in query.wanted and name in (*_COUNTS, "text_output"):
            del response.outputs[index]
            del response.raw_output_contents[index]
    is_last = chunk.is_final or bool(chunk.finish_reason)
    response.parameters[triton.FINAL].bool_param = is_last
    if is_last:
        _sign(response, query.answer)
    return chunk.message


def _whole(text: str, query: _Query, request_id: str) -> Any:
    answer = query.answer
    response = service_pb2.ModelInferResponse(
        model_name=answer.request.model, model_version=query.message.model_version or _VERSION, id=request_id
    )
    full = query.text + text if query.prepends_input else text
    values: dict[str, tuple[str, bytes]] = {
        "text_output": ("BYTES", _element(full)),
        "finish_reason": ("BYTES", _element(answer.finish_reason or "stop")),
        "num_input_tokens": ("UINT32", answer.prompt_tokens.to_bytes(4, "little")),
        "num_output_tokens": ("UINT32", answer.response_tokens.to_bytes(4, "little")),
    }
    for name, (datatype, raw) in values.items():
        if name in query.wanted:
            response.outputs.add(name=name, datatype=datatype, shape=[1])
            response.raw_output_contents.append(raw)
    response.parameters[triton.FINAL].bool_param = True
    _sign(response, answer)
    return response


def _sign(response: Any, answer: Answer) -> None:
    """Says where the answer came from."""
    if answer.placement is not None:
        response.parameters["forebay_instance"].string_param = answer.placement.instance_id
        response.parameters["forebay_decision_id"].string_param = answer.placement.decision_id


def _element(text: str) -> bytes:
    raw = text.encode()
    return len(raw).to_bytes(4, "little") + raw


def _error(message: str, request_id: str, model: str) -> Any:
    response = service_pb2.ModelStreamInferResponse(error_message=message)
    response.infer_response.id = request_id
    response.infer_response.model_name = model
    response.infer_response.parameters[triton.FINAL].bool_param = True
    return response


async def _or_abort(context: Any, work: Awaitable[Any]) -> Any:
    try:
        return await work
    except Exception as error:
        if not isinstance(error, ForebayError):
            log.exception("a request failed")
        await context.abort_with_status(rpc_status.to_status(to_status(error)))
