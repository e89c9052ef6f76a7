"""The tensors of Triton's vLLM backend: requests built and read, responses read.

Names and meanings are those of the public documentation of that backend (inputs `text_input`, `stream`,
`sampling_parameters`, `exclude_input_in_output`, `return_...`; outputs `text_output`, `finish_reason`,
`num_input_tokens`, `num_output_tokens`, the last one counted since the response before).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tritonclient.grpc import service_pb2

from forebay.core.errors import InvalidArgument
from forebay.core.instance.hints import NAMES, PARAMETER_PREFIX, Hints
from forebay.core.scheduling import Placement

TOKENS_MAX_DEFAULT = 16
"""Longest answer of a vLLM model where nobody sets a limit."""
FINAL = "triton_final_response"
TRACEPARENT = "traceparent"
"""Request parameter for clients that send many requests over one stream, each of its own trace."""
WANTS_FINAL = "triton_enable_empty_final_response"
BATCH_ID, BATCH_COUNT = "batch_id", "batch_count"
"""Request parameters for engines with static batches: the batch that a request runs in, and the requests it has."""
_COUNTS = ("return_finish_reason", "return_num_input_tokens", "return_num_output_tokens")
_RUNNING = ("", "None")
_TRUE, _LENGTH_BYTES = b"\x01", 4


@dataclass(slots=True)
class Chunk:
    """What one response of the model brought; `finish_reason` is empty until the last one with text."""

    text: str
    input_tokens: int
    output_tokens: int
    finish_reason: str
    is_final: bool
    message: Any
    """The message itself, for those who pass it on."""


def text_request(model: str, text: str, sampling: Mapping[str, object]) -> Any:
    """A streaming request to a model that takes a text."""
    request = service_pb2.ModelInferRequest(model_name=model)
    set_tensor(request, "text_input", text.encode())
    set_tensor(request, "sampling_parameters", json.dumps(sampling).encode())
    return streaming(request)


def streaming(request: Any) -> Any:
    """Makes a request stream its answer without the prompt, counting tokens and marking the end. Returns it."""
    for name in ("stream", "exclude_input_in_output", *_COUNTS):
        set_tensor(request, name, True)
    request.parameters[WANTS_FINAL].bool_param = True
    return request


def set_hints(request: Any, hints: Hints) -> None:
    """Tells a server what it may know of the request; what a client said in these parameters does not count.

    A request without a tensor of sampling parameters is left alone: vLLM takes all of its parameters for sampling then,
    and refuses those that it does not know.
    """
    for name in NAMES:
        request.parameters.pop(PARAMETER_PREFIX + name, None)
    if not any(tensor.name == "sampling_parameters" for tensor in request.inputs):
        return
    for name, value in hints.parameters().items():
        request.parameters[name].int64_param = value


def set_tensor(request: Any, name: str, value: bytes | bool) -> None:
    """Sets an input of one element, in place of what was there. The request's inputs must be raw."""
    is_flag = isinstance(value, bool)
    raw = value.to_bytes(1, "little") if isinstance(value, bool) else len(value).to_bytes(4, "little") + value
    for index, known in enumerate(request.inputs):
        if known.name == name:
            request.raw_input_contents[index] = raw
            return
    request.inputs.add(name=name, datatype="BOOL" if is_flag else "BYTES", shape=[1])
    request.raw_input_contents.append(raw)


def name_batch(request: Any, placement: Placement) -> None:
    """Says which batch the request runs in, to an engine with static batches; it is sent to no other."""
    for name in (BATCH_ID, BATCH_COUNT):
        request.parameters.pop(name, None)
    if placement.batch_id:
        request.parameters[BATCH_ID].string_param = placement.batch_id
        request.parameters[BATCH_COUNT].int64_param = placement.batch_count


def make_raw(request: Any) -> None:
    """Moves inputs that came as typed contents into raw ones. Raises InvalidArgument for types that no text has."""
    if request.raw_input_contents or not request.inputs:
        return
    for tensor in request.inputs:
        if tensor.datatype == "BYTES":
            raw = b"".join(len(one).to_bytes(4, "little") + one for one in tensor.contents.bytes_contents)
        elif tensor.datatype == "BOOL":
            raw = bytes(tensor.contents.bool_contents)
        else:
            raise InvalidArgument(f"send input {tensor.name!r} of type {tensor.datatype} in raw_input_contents")
        request.raw_input_contents.append(raw)
        tensor.ClearField("contents")


def inputs(request: Any) -> dict[str, bytes]:
    """The raw inputs by name. Raises InvalidArgument where their number does not fit."""
    if len(request.inputs) != len(request.raw_input_contents):
        found, needed = len(request.raw_input_contents), len(request.inputs)
        raise InvalidArgument(f"the request has {needed} inputs but {found} raw_input_contents; each input needs one")
    return {tensor.name: raw for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True)}


def as_text(raw: bytes, name: str) -> str:
    """The text of a BYTES input of one element. Raises InvalidArgument for anything else."""
    if len(raw) < _LENGTH_BYTES or int.from_bytes(raw[:_LENGTH_BYTES], "little") != len(raw) - _LENGTH_BYTES:
        raise InvalidArgument(f"input {name!r} must be a BYTES tensor with one element")
    try:
        return raw[_LENGTH_BYTES:].decode()
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"input {name!r} is not valid UTF-8 at byte {error.start}") from error


def as_flag(raw: bytes | None, default: bool) -> bool:
    """The value of a BOOL input of one element, or the default where there is none."""
    return default if raw is None else raw == _TRUE


def read(message: Any) -> Chunk:
    """What a message of the stream brought. An output that is not there counts as nothing."""
    response = message.infer_response
    is_final = FINAL in response.parameters and response.parameters[FINAL].bool_param
    chunk = Chunk("", 0, 0, "", is_final, message)
    for tensor, raw in zip(response.outputs, response.raw_output_contents, strict=False):
        name = tensor.name
        if name == "text_output":
            chunk.text = _first(raw)
        elif name == "num_output_tokens":
            chunk.output_tokens = int.from_bytes(raw[:4], "little")
        elif name == "num_input_tokens":
            chunk.input_tokens = int.from_bytes(raw[:4], "little")
        elif name == "finish_reason":
            reason = _first(raw)
            chunk.finish_reason = "" if reason in _RUNNING else reason
    return chunk


def _first(raw: bytes) -> str:
    size = int.from_bytes(raw[:_LENGTH_BYTES], "little")
    return raw[_LENGTH_BYTES : _LENGTH_BYTES + size].decode(errors="replace")
