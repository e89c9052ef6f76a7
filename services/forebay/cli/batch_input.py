"""Turns what users have, prompts line by line or OpenAI's batch lines, into a file of requests."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from forebay.core.errors import ConfigError

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
_KEPT = ("messages", "prompt", "max_tokens", "temperature", "top_p", "stop", "seed")


def requests_from(lines: Iterable[str], model: str, endpoint: str, tokens_max: int | None) -> Iterator[str]:
    """A request line for each line that is not empty.

    A line is OpenAI's (an object with `custom_id` and `body`), an object with `prompt` or `messages`, a JSON string, or
    plain text: the prompt. `model` and `tokens_max` fill in where a line has none of its own. Raises ConfigError that
    names the line.
    """
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield json.dumps(_request(number, line.strip(), model, endpoint, tokens_max))


def _request(number: int, line: str, model: str, endpoint: str, tokens_max: int | None) -> dict[str, Any]:
    value = _value(number, line)
    if isinstance(value, str):
        value = {"prompt": value}
    given = value.get("body")
    body = dict(given) if isinstance(given, dict) else {name: value[name] for name in _KEPT if name in value}
    if "body" not in value:
        body = _as_chat(body) if endpoint == CHAT else body
    if model:
        body.setdefault("model", model)
    if tokens_max is not None:
        body.setdefault("max_tokens", tokens_max)
    if not body.get("model"):
        raise ConfigError(f"line {number} names no model; give --model")
    custom_id = value.get("custom_id", f"line-{number}")
    return {"custom_id": custom_id, "method": "POST", "url": value.get("url", endpoint), "body": body}


def _value(number: int, line: str) -> Any:
    if not line.startswith(("{", '"')):
        return line
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"line {number} is not valid JSON: {error}") from error
    if isinstance(value, dict) and not any(name in value for name in ("body", "prompt", "messages")):
        raise ConfigError(f"line {number} has neither body nor prompt nor messages")
    return value


def _as_chat(body: dict[str, Any]) -> dict[str, Any]:
    prompt = body.pop("prompt", None)
    return {"messages": [{"role": "user", "content": prompt}], **body} if prompt is not None else body
