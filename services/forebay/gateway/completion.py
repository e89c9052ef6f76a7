"""OpenAI's request bodies, checked by hand: what is asked of the model, or a clear error that names the parameter."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from forebay.core.errors import InvalidArgument, Unimplemented
from forebay.core.prediction import TURNS_MAX, system_digest
from forebay.gateway.triton import TOKENS_MAX_DEFAULT

_TOKENS_MAX = 1_048_576
_MODEL_BYTES_MAX = 200
_STOP_COUNT_MAX = 4
_ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_SYSTEM_ROLES = ("system", "developer")
_TEMPERATURE_DEFAULT = 1.0

# Name -> (type, lowest, highest): passed on to the model under the same name, which is also vLLM's.
_NUMBERS: dict[str, tuple[type[int] | type[float], float, float]] = {
    "temperature": (float, 0, 2),
    "top_p": (float, 0, 1),
    "presence_penalty": (float, -2, 2),
    "frequency_penalty": (float, -2, 2),
    "seed": (int, -(2**63), 2**63 - 1),
    "top_k": (int, -1, 2**31 - 1),
    "min_p": (float, 0, 1),
    "repetition_penalty": (float, 0.01, 2),
}

# Parameters that would change the answer if they were obeyed, with the values that ask for nothing. To ignore any other
# value would be to answer another question.
_UNSUPPORTED: dict[str, tuple[object, ...]] = {
    "tools": ([],),
    "functions": ([],),
    "logprobs": (False,),
    "logit_bias": ({},),
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
    "audio": (),
    "response_format": ({"type": "text"},),
}


@dataclass(frozen=True, slots=True)
class Completion:
    """One request of a client: a text for the model and how to answer.

    Of a chat it tells which question of the user it is (0: not known) and the digest of its system prompt.
    """

    model: str
    text: str
    sampling: Mapping[str, object]
    tokens_max: int
    temperature: float
    is_stream: bool
    has_usage: bool
    is_chat: bool
    turn_number: int = 0
    system_digest: str = ""


def parse_chat(body: bytes, tokens_max_default: int) -> Completion:
    """Reads the body of a chat completion. Raises InvalidArgument, or Unimplemented for what we do not offer."""
    values = _object(body)
    limits = ("max_completion_tokens", "max_tokens")
    turns = _messages(values)
    completion = _completion(values, _joined(turns), limits, tokens_max_default, is_chat=True)
    turn_number = min(sum(role == "user" for role, _ in turns), TURNS_MAX)
    system = "\n".join(content for role, content in turns if role in _SYSTEM_ROLES)
    return replace(completion, turn_number=turn_number, system_digest=system_digest(system))


def parse_text(body: bytes, _: int = 0) -> Completion:
    """Reads the body of a legacy completion, whose default limit is 16 tokens. Raises as parse_chat does."""
    values = _object(body)
    return _completion(values, _prompt(values), ("max_tokens",), TOKENS_MAX_DEFAULT, is_chat=False)


def _completion(
    values: dict[str, Any], text: str, limits: Sequence[str], tokens_max_default: int, *, is_chat: bool
) -> Completion:
    for name, harmless in _UNSUPPORTED.items():
        if values.get(name) is not None and values[name] not in harmless:
            raise Unimplemented(f"{name!r} is not supported; leave it out", violations={name: "is not supported"})
    if _integer(values, "n", 1, 128) not in (None, 1):
        _refuse("n", "must be 1; send one request for each answer")
    sampling = _sampling(values)
    tokens_max = next((n for n in (_integer(values, name, 1, _TOKENS_MAX) for name in limits) if n), tokens_max_default)
    is_stream = _flag(values, "stream")
    return Completion(
        model=_model(values),
        text=text,
        sampling={**sampling, "max_tokens": tokens_max},
        tokens_max=tokens_max,
        temperature=float(sampling.get("temperature", _TEMPERATURE_DEFAULT)),
        is_stream=is_stream,
        has_usage=_has_usage(values, is_stream),
        is_chat=is_chat,
    )


def _object(body: bytes) -> dict[str, Any]:
    try:
        # Infinity and NaN are not JSON, though Python reads them.
        values = json.loads(body.decode(), parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"the body is not valid UTF-8 at byte {error.start}") from error
    except RecursionError as error:
        raise InvalidArgument("the body is not valid JSON: it is nested too deeply") from error
    except ValueError as error:
        raise InvalidArgument(f"the body is not valid JSON: {error}") from error
    if not isinstance(values, dict):
        raise InvalidArgument("the body must be a JSON object")
    return values


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


def _model(values: dict[str, Any]) -> str:
    model = _text(values.get("model"), "model")
    if not model or len(model.encode()) > _MODEL_BYTES_MAX:
        _refuse("model", f"must have 1 to {_MODEL_BYTES_MAX} bytes")
    return model


def _messages(values: dict[str, Any]) -> list[tuple[str, str]]:
    messages = values.get("messages")
    if not isinstance(messages, list) or not messages:
        _refuse("messages", "must be a list with at least one message")
    turns = [_message(message, f"messages[{index}]") for index, message in enumerate(messages)]
    if not any(content for _, content in turns):
        _refuse("messages", "must not be empty: at least one message needs content")
    return turns


def _joined(turns: Sequence[tuple[str, str]]) -> str:
    if len(turns) == 1 and turns[0][0] == "user":
        return turns[0][1]
    return "\n".join(f"{role}: {content}" for role, content in turns)


def _message(message: object, where: str) -> tuple[str, str]:
    if not isinstance(message, dict):
        _refuse(where, "must be an object with role and content")
    role = message.get("role")
    if role not in _ROLES:
        _refuse(f"{where}.role", f"must be one of {', '.join(_ROLES)}")
    content = message.get("content")
    if content is None and role == "assistant":
        return role, ""
    if isinstance(content, list):
        return role, "".join(_part(part, f"{where}.content[{index}]") for index, part in enumerate(content))
    return role, _text(content, f"{where}.content")


def _part(part: object, where: str) -> str:
    if not isinstance(part, dict) or part.get("type") != "text":
        _refuse(where, "must be a part of type text; images, audio and files are not supported")
    return _text(part.get("text"), f"{where}.text")


def _prompt(values: dict[str, Any]) -> str:
    prompt = values.get("prompt")
    if isinstance(prompt, list):
        if len(prompt) != 1 or not isinstance(prompt[0], str):
            _refuse("prompt", "must be one string; send one request for each prompt, as text rather than tokens")
        prompt = prompt[0]
    text = _text(prompt, "prompt")
    if not text:
        _refuse("prompt", "must not be empty")
    return text


def _sampling(values: dict[str, Any]) -> dict[str, Any]:
    sampling: dict[str, Any] = {}
    for name, (kind, low, high) in _NUMBERS.items():
        read: Callable[..., Any] = _integer if kind is int else _number
        value = read(values, name, low, high)
        if value is not None:
            sampling[name] = value
    if _flag(values, "ignore_eos"):
        sampling["ignore_eos"] = True
    stop = _stop(values.get("stop"))
    if stop:
        sampling["stop"] = stop
    return sampling


def _stop(value: object) -> list[str]:
    words = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(words, list) or len(words) > _STOP_COUNT_MAX:
        _refuse("stop", f"must be a string or a list of up to {_STOP_COUNT_MAX} strings")
    return [_word(word) for word in words]


def _word(word: object) -> str:
    text = _text(word, "stop")
    if not text:
        _refuse("stop", "must not hold an empty string")
    return text


def _has_usage(values: dict[str, Any], is_stream: bool) -> bool:
    options = values.get("stream_options")
    if options is None:
        return False
    if not isinstance(options, dict):
        _refuse("stream_options", "must be an object")
    if not is_stream:
        _refuse("stream_options", "is allowed only with stream: true")
    return _flag(options, "include_usage", "stream_options.include_usage")


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        _refuse(where, f"must be a string, not {_kind(value)}")
    try:
        value.encode()
    except UnicodeEncodeError:
        _refuse(where, "holds half of a surrogate pair; send valid Unicode")
    return value


def _flag(values: Mapping[str, Any], name: str, where: str = "") -> bool:
    value = values.get(name)
    if value is not None and not isinstance(value, bool):
        _refuse(where or name, f"must be true or false, not {_kind(value)}")
    return bool(value)


def _integer(values: Mapping[str, Any], name: str, low: int, high: int) -> int | None:
    value = values.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        _refuse(name, f"must be an integer, not {_kind(value)}")
    if not low <= value <= high:
        _refuse(name, f"must be from {low} to {high}")
    return value


def _number(values: Mapping[str, Any], name: str, low: float, high: float) -> float | None:
    value = values.get(name)
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool):
        _refuse(name, f"must be a number, not {_kind(value)}")
    if not low <= value <= high or math.isnan(value):
        _refuse(name, f"must be from {low:g} to {high:g}")
    return float(value)


def _kind(value: object) -> str:
    kinds = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list", dict: "an object"}
    return kinds.get(type(value), "null")


def _refuse(name: str, text: str) -> NoReturn:
    raise InvalidArgument(f"{name} {text}", violations={name: text})
