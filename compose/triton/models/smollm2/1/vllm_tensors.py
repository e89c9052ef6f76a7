"""The tensors of Triton's vLLM backend: requests in, responses out, and what happens to a request in between.

Semantics follow the public documentation of that backend: with `stream` each response carries the text and the count
of tokens since the response before it (not cumulative), without it one response carries all; `finish_reason` is "None"
until the last response; an optional output is sent only when its `return_...` input is true; without `stream` the
prompt precedes the answer unless `exclude_input_in_output` is true. Sampling parameters have vLLM's names and defaults
(16 tokens, temperature 1, no top-k or top-p).
"""

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]

# vLLM's name -> (llama.cpp's name, type, lowest, highest, vLLM's default).
NUMBERS: dict[str, tuple[str, type[int] | type[float], float, float, float | None]] = {
    "max_tokens": ("max_tokens", int, 1, 1 << 30, 16),
    "temperature": ("temperature", float, 0.0, 100.0, 1.0),
    "top_p": ("top_p", float, 0.0, 1.0, 1.0),
    "top_k": ("top_k", int, -1, 1 << 30, -1),
    "min_p": ("min_p", float, 0.0, 1.0, 0.0),
    "seed": ("seed", int, 0, (1 << 32) - 2, None),
    "presence_penalty": ("presence_penalty", float, -2.0, 2.0, 0.0),
    "frequency_penalty": ("frequency_penalty", float, -2.0, 2.0, 0.0),
    "repetition_penalty": ("repeat_penalty", float, 0.01, 2.0, 1.0),
}
FLAGS = ("ignore_eos", "raw")
ACCEPTED = (*NUMBERS, *FLAGS, "stop")

OPTIONAL_OUTPUTS = ("finish_reason", "num_input_tokens", "num_output_tokens")


class Refused(Exception):
    """The request is malformed; the message says what to change."""


@dataclass(slots=True)
class Job:
    """One request from arrival to its last response. Owned by the engine loop, but for `stopped`."""

    sender: Any
    text: str
    is_stream: bool
    prepends_input: bool
    outputs: frozenset[str]
    body: dict[str, Any]
    is_raw: bool
    stopped: bool = False
    """Set by the loop, read by the worker: the next chunk ends the generation."""
    unsent: list[str] = field(default_factory=list)
    finish_reason: str = "None"
    input_count: int = 0
    output_count: int = 0
    sent_count: int = 0
    error: tuple[str, int] | None = None
    batch_id: str = ""
    batch_count: int = 0
    came_s: float = 0.0
    is_over: bool = False
    """Nothing more is generated, though the answer may wait for the rest of its batch."""

    def restart(self) -> None:
        """Forgets the answer, of which nothing was sent."""
        self.stopped = self.is_over = False
        self.unsent.clear()
        self.finish_reason, self.input_count, self.output_count, self.error = "None", 0, 0, None


def check_number(name: str, value: Any) -> None:
    """Raises Refused."""
    _, kind, low, high, _ = NUMBERS[name]
    is_kind = isinstance(value, (int, kind)) and not isinstance(value, bool)
    if not is_kind or not low <= value <= high:
        raise Refused(f"sampling parameter {name!r} must be {kind.__name__} from {low:g} to {high:g}, not {value!r}")


def read_stop(value: Any) -> list[str]:
    """Raises Refused."""
    words = [value] if isinstance(value, str) else value or []
    if not isinstance(words, list) or not all(isinstance(word, str) and word for word in words):
        raise Refused("sampling parameter 'stop' must be a string or a list of strings, none empty")
    return words


def read_sampling(values: dict[str, Any]) -> dict[str, Any]:
    """Translate vLLM's sampling parameters into llama.cpp's. Raises Refused."""
    unknown = sorted(set(values) - set(ACCEPTED))
    if unknown:
        raise Refused(f"unknown sampling parameter {unknown[0]!r}; accepted are {', '.join(ACCEPTED)}")
    body: dict[str, Any] = {"stop": read_stop(values.get("stop")), "ignore_eos": values.get("ignore_eos", False)}
    for name, (engine_name, _, _, _, default) in NUMBERS.items():
        value = values.get(name, default)
        if value is not None:
            check_number(name, value)
            body[engine_name] = value
    for name in FLAGS:
        if not isinstance(values.get(name, False), bool):
            raise Refused(f"sampling parameter {name!r} must be true or false, not {values[name]!r}")
    return body


def read_parameters(request: Any) -> dict[str, Any]:
    """The tensor's values, else those among the request's own parameters, where Triton's HTTP generate puts them."""
    tensor = pb_utils.get_input_tensor_by_name(request, "sampling_parameters")
    if tensor is None:
        return {name: value for name, value in json.loads(request.parameters()).items() if name in ACCEPTED}
    try:
        values = json.loads(tensor.as_numpy().reshape(-1)[0])
    except ValueError as error:
        raise Refused(f"sampling_parameters is not valid JSON: {error}") from None
    if not isinstance(values, dict):
        raise Refused("sampling_parameters must be a JSON object")
    return values


def read_batch(request: Any) -> tuple[str, int]:
    """The batch that the request runs in where batches are static, and how many requests that has. Raises Refused."""
    values = json.loads(request.parameters())
    batch_id, count = values.get("batch_id", ""), values.get("batch_count", 0)
    if not isinstance(batch_id, str) or isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise Refused("request parameters: batch_id must be a string and batch_count a number of requests")
    return batch_id, count


def read_flag(request: Any, name: str, default: bool) -> bool:
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return default if tensor is None else bool(tensor.as_numpy().reshape(-1)[0])


def read_text(request: Any) -> str:
    """Raises Refused."""
    # Triton lets a request through that has as many inputs as are required, whatever their names.
    tensor = pb_utils.get_input_tensor_by_name(request, "text_input")
    if tensor is None:
        raise Refused("text_input is missing")
    try:
        text: str = tensor.as_numpy().reshape(-1)[0].decode()
    except UnicodeDecodeError:
        raise Refused("text_input is not valid UTF-8") from None
    if not text.strip():
        raise Refused("text_input is empty")
    return text


def read_request(request: Any, sender: Any) -> Job:
    """Raises Refused."""
    text = read_text(request)
    is_stream = read_flag(request, "stream", False)
    prepends_input = not read_flag(request, "exclude_input_in_output", is_stream)
    if is_stream and prepends_input:
        raise Refused("with stream, exclude_input_in_output must not be false")
    values = read_parameters(request)
    body = read_sampling(values)
    # vLLM takes the prompt as it is. An instruct model of this size answers, and ends its answers, only inside its chat
    # template, and our lengths should be real: so a plain text becomes one user message, unless the client has rendered
    # the template itself or says `raw`.
    is_raw = values.get("raw", text.startswith("<|"))
    outputs = frozenset(name for name in OPTIONAL_OUTPUTS if read_flag(request, f"return_{name}", False))
    batch_id, batch_count = read_batch(request)
    return Job(
        sender, text, is_stream, prepends_input, outputs, body, is_raw, batch_id=batch_id, batch_count=batch_count
    )


def take_chunk(job: Job, chunk: dict[str, Any]) -> None:
    """Add what one chunk of llama.cpp's completion or chat stream says."""
    if "error" in chunk:
        job.error = (chunk["error"]["message"], int(chunk["error"].get("code", 500)))
        return
    for choice in chunk.get("choices", ()):
        text = choice.get("text") or choice.get("delta", {}).get("content")
        if text:
            job.unsent.append(text)
        job.finish_reason = choice.get("finish_reason") or job.finish_reason
    timings = chunk.get("timings")
    if timings:
        job.input_count = timings["cache_n"] + timings["prompt_n"]
        job.output_count = timings["predicted_n"]


def make_response(job: Job) -> Any:
    """Everything since the last response."""
    text = (job.text if job.prepends_input and not job.sent_count else "") + "".join(job.unsent)
    values = {
        "finish_reason": np.array([job.finish_reason.encode()], dtype=np.object_),
        "num_input_tokens": np.array([job.input_count], dtype=np.uint32),
        "num_output_tokens": np.array([job.output_count - job.sent_count], dtype=np.uint32),
    }
    tensors = [pb_utils.Tensor("text_output", np.array([text.encode()], dtype=np.object_))]
    tensors += [pb_utils.Tensor(name, value) for name, value in values.items() if name in job.outputs]
    job.unsent.clear()
    job.sent_count = job.output_count
    return pb_utils.InferenceResponse(output_tensors=tensors)
