"""Requests and responses of a text model with the tensors and the semantics of Triton's vLLM backend.

Facts from the public documentation of https://github.com/triton-inference-server/vllm_backend: a decoupled model; with
`stream` each response carries the text and count of tokens since the one before, without it one response carries all,
after the prompt unless `exclude_input_in_output` is true; `finish_reason` is "None" until the end; further outputs come
only where a `return_...` input asks for them; the last response carries the final flag.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from tritonclient.grpc import service_pb2

from forebay.core.errors import InvalidArgument
from forebay.core.instance import ALONE, Batch
from forebay.core.instance.hints import NO_HINTS, Hints, hints_of
from forebay.emulator.tensors import (
    Tensor,
    add_output,
    by_name,
    check_outputs,
    read_inputs,
    text_bytes,
    uint32_bytes,
)

FINAL = "triton_final_response"
MODEL_REFUSED = "MODEL_REFUSED"
"""Reason of an error that comes from the model itself rather than from the server in front of it."""

TOKENS_MAX_DEFAULT = 16
"""vLLM's own `max_tokens` where the client gives none."""

INPUTS = by_name(
    [
        Tensor("text_input", "BYTES", required=True),
        Tensor("stream", "BOOL"),
        Tensor("sampling_parameters", "BYTES"),
        Tensor("exclude_input_in_output", "BOOL"),
        Tensor("return_finish_reason", "BOOL"),
        Tensor("return_num_input_tokens", "BOOL"),
        Tensor("return_num_output_tokens", "BOOL"),
    ]
)
OUTPUTS = by_name(
    [
        Tensor("text_output", "BYTES", -1),
        Tensor("finish_reason", "BYTES", -1),
        Tensor("num_input_tokens", "UINT32"),
        Tensor("num_output_tokens", "UINT32", -1),
    ]
)


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """One request as the client meant it; `outputs` are the tensors that it gets back.

    `priority` is the request parameter of that name, the smallest first, for engines that heed it; `hints` are what
    others tell of it, and `batch` what the parameters `batch_id` and `batch_count` say to engines that run the batches
    they are given.
    """

    request_id: str
    model: str
    prompt: str
    stream: bool
    prepend_prompt: bool
    outputs: frozenset[str]
    tokens_max: int
    ignore_eos: bool
    priority: int = 0
    hints: Hints = NO_HINTS
    batch: Batch = ALONE


def read_request(message: service_pb2.ModelInferRequest) -> GenerateRequest:
    """The request in `message`; raises InvalidArgument with Triton's words, or with vLLM's as MODEL_REFUSED."""
    values = read_inputs(message, INPUTS)
    named = check_outputs(message, OUTPUTS)
    stream = _flag(values, "stream", False)
    prepend_prompt = not _flag(values, "exclude_input_in_output", stream)
    if stream and prepend_prompt:
        raise refusal("When streaming, `exclude_input_in_output` = False is not allowed.")
    sampling = _sampling(message, values.get("sampling_parameters"))
    wanted = {"text_output", *(name for name in OUTPUTS if _flag(values, f"return_{name}", False))}
    return GenerateRequest(
        request_id=message.id,
        model=message.model_name,
        prompt=_text(values["text_input"], "text_input"),
        stream=stream,
        prepend_prompt=prepend_prompt,
        outputs=named & wanted,
        tokens_max=_tokens_max(sampling),
        ignore_eos=sampling.get("ignore_eos") is True,
        hints=hints_of({name: _parameter(value) for name, value in message.parameters.items()}),
        priority=_number(message, "priority"),
        batch=_batch(message),
    )


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one response tells: `token_count` further tokens with their text; a `finish_reason` only at the end."""

    text: str
    token_count: int
    input_tokens: int
    finish_reason: str = ""


def make_response(request: GenerateRequest, version: str, chunk: Chunk) -> service_pb2.ModelStreamInferResponse:
    """The response that carries `chunk`."""
    answer = service_pb2.ModelStreamInferResponse()
    message = answer.infer_response
    message.model_name, message.model_version, message.id = request.model, version, request.request_id
    message.parameters[FINAL].bool_param = bool(chunk.finish_reason)
    contents = {
        "text_output": text_bytes(chunk.text),
        "finish_reason": text_bytes(chunk.finish_reason or "None"),
        "num_input_tokens": uint32_bytes(chunk.input_tokens),
        "num_output_tokens": uint32_bytes(chunk.token_count),
    }
    for name, tensor in OUTPUTS.items():
        if name in request.outputs:
            add_output(message, tensor, contents[name])
    return answer


def refusal(text: str) -> InvalidArgument:
    """What the vLLM backend says of a request that it cannot run."""
    return InvalidArgument(f"Error generating stream: {text}", reason=MODEL_REFUSED)


def make_error(text: str, request_id: str, model: str = "") -> service_pb2.ModelStreamInferResponse:
    """An error inside a stream; `model` is given where the model itself refused, which ends the request."""
    answer = service_pb2.ModelStreamInferResponse(error_message=text)
    answer.infer_response.id = request_id
    if model:
        answer.infer_response.model_name = model
        answer.infer_response.parameters[FINAL].bool_param = True
    return answer


def _flag(values: Mapping[str, bytes], name: str, default: bool) -> bool:
    return values[name] != b"\0" if name in values else default


def _text(data: bytes, name: str) -> str:
    if not data:
        raise refusal("The decoder prompt cannot be empty")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise refusal(f"{name} is not valid UTF-8") from error


def _sampling(message: service_pb2.ModelInferRequest, data: bytes | None) -> Mapping[str, object]:
    """The sampling parameters from their tensor, else from the request's own parameters."""
    if data is None:
        return {name: _parameter(value) for name, value in message.parameters.items()}
    try:
        values = json.loads(data)
    except ValueError as error:
        raise refusal(f"sampling_parameters is not valid JSON: {error}") from error
    if not isinstance(values, dict):
        raise refusal("sampling_parameters must be a JSON object")
    return values


def _parameter(value: service_pb2.InferParameter) -> object:
    return getattr(value, value.WhichOneof("parameter_choice") or "string_param")


def _number(message: service_pb2.ModelInferRequest, name: str) -> int:
    value = _parameter(message.parameters[name]) if name in message.parameters else 0
    return value if isinstance(value, int) else 0


def _batch(message: service_pb2.ModelInferRequest) -> Batch:
    batch_id = message.parameters["batch_id"].string_param if "batch_id" in message.parameters else ""
    return Batch(batch_id, max(1, _number(message, "batch_count"))) if batch_id else ALONE


def _tokens_max(sampling: Mapping[str, object]) -> int:
    value = sampling.get("max_tokens", TOKENS_MAX_DEFAULT)
    try:
        tokens_max = int(str(value))
    except ValueError:
        tokens_max = 0
    if tokens_max < 1:
        raise refusal(f"max_tokens must be at least 1, got {value}.")
    return tokens_max
