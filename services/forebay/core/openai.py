"""What a body of OpenAI's protocol asks of a model, read leniently: whoever answers it decides what it refuses."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from forebay.core.errors import InvalidArgument

_SYSTEM_ROLES = ("system", "developer")
_LIMITS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
_TOKENS_MAX = 1_048_576
_MODEL_BYTES_MAX = 200
_TEMPERATURE_DEFAULT = 1.0


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked; `tokens_max` is 0 where the client sets no limit.

    Of a chat it tells which question of the user it is (0: not known) and the text of its system prompt. `asks_options`
    says whether the client says itself what a stream tells beside the text.
    """

    model: str
    text: str
    is_chat: bool
    tokens_max: int = 0
    temperature: float = _TEMPERATURE_DEFAULT
    is_stream: bool = False
    has_usage: bool = False
    asks_options: bool = False
    turn_number: int = 0
    system: str = ""
    ignore_eos: bool = False


def read_question(body: bytes) -> Question:
    """The question of a request's body. Raises InvalidArgument for what is not JSON or names no model."""
    values = _object(body)
    model = values.get("model")
    if not isinstance(model, str) or not 1 <= len(model.encode(errors="replace")) <= _MODEL_BYTES_MAX:
        text = f"must be a string of 1 to {_MODEL_BYTES_MAX} bytes"
        raise InvalidArgument(f"model {text}", violations={"model": text})
    turns = _turns(values.get("messages"))
    return Question(
        model=model,
        text=_joined(turns) if turns else _flat(values.get("prompt", values.get("input"))),
        is_chat="messages" in values,
        tokens_max=next((found for name in _LIMITS if (found := _count(values.get(name)))), 0),
        temperature=_temperature(values.get("temperature")),
        is_stream=values.get("stream") is True,
        has_usage=_has_usage(values.get("stream_options")),
        asks_options=values.get("stream_options") is not None,
        turn_number=sum(role == "user" for role, _ in turns),
        system="\n".join(content for role, content in turns if role in _SYSTEM_ROLES),
        ignore_eos=values.get("ignore_eos") is True,
    )


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        values = json.loads(body.decode())
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"the body is not valid JSON: {error}") from error
    if not isinstance(values, dict):
        raise InvalidArgument("the body must be a JSON object")
    return values


def _turns(messages: object) -> list[tuple[str, str]]:
    found = messages if isinstance(messages, list) else []
    return [(str(one.get("role", "")), _flat(one.get("content"))) for one in found if isinstance(one, dict)]


def _joined(turns: Sequence[tuple[str, str]]) -> str:
    """The text of a chat as the gateway's own front makes it, so that both learn from the same texts."""
    if len(turns) == 1 and turns[0][0] == "user":
        return turns[0][1]
    return "\n".join(f"{role}: {content}" for role, content in turns)


def _flat(content: object) -> str:
    """The text in a string, a part of a message, or a list of either; what is no text counts for nothing."""
    if isinstance(content, str):
        return content.encode(errors="replace").decode()
    if isinstance(content, dict):
        return _flat(content.get("text"))
    if isinstance(content, list):
        return "".join(_flat(part) for part in content if isinstance(part, str | dict))
    return ""


def _count(value: object) -> int:
    is_count = isinstance(value, int) and not isinstance(value, bool) and value > 0
    return min(int(value), _TOKENS_MAX) if is_count else 0  # type: ignore[call-overload]


def _temperature(value: object) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 100
    return float(value) if is_number else _TEMPERATURE_DEFAULT  # type: ignore[arg-type]


def _has_usage(options: object) -> bool:
    return isinstance(options, dict) and options.get("include_usage") is True
