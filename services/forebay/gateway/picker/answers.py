"""Reads an answer of OpenAI's protocol as it passes: how many tokens, why it ended, and whether it failed."""

import json
import re
from typing import Any

_EVENTS = "text/event-stream"
_PLAIN = ("", "identity")
_END = re.compile(rb"\r?\n\r?\n|\r\r")
_FIELD = b"data:"
_DONE = b"[DONE]"


class Reader:
    """Counts the tokens of one response, by its own word where it gives one and else one for each event with text.

    With `strips_usage` the event that only tells the counts is taken out: its client has not asked for it. What is
    larger than `bytes_max`, or encoded, passes unread.
    """

    def __init__(self, content_type: str, content_encoding: str, bytes_max: int, strips_usage: bool) -> None:
        self.is_stream = content_type.lower().startswith(_EVENTS)
        self._strips_usage = strips_usage and self.is_stream
        self._is_blind = content_encoding.lower() not in _PLAIN
        self._bytes_max = bytes_max
        self._held = bytearray()
        self.prompt_tokens = 0
        self.tokens = 0
        self.finish_reason = ""
        self.failure = ""
        """What the server said instead of an answer, if it did."""
        self.is_done = False
        """Whether a stream has told its end."""

    @property
    def is_whole(self) -> bool:
        """Whether the answer is known to be complete, or nothing says when it is."""
        return not self.is_stream or self._is_blind or self.is_done or bool(self.finish_reason)

    def take(self, data: bytes, is_last: bool) -> bytes:
        """Reads a piece of the body and gives what passes on."""
        if self._is_blind:
            return data
        self._held += data
        passing = self._events() if self.is_stream else b""
        if len(self._held) > self._bytes_max or is_last:
            passing += bytes(self._held)
            self._end(is_last)
        return passing if self._strips_usage else data

    def _end(self, is_last: bool) -> None:
        if is_last and not self.is_stream:
            self._read(bytes(self._held))
        self._is_blind = not is_last
        self._held.clear()

    def _events(self) -> bytes:
        """Reads the events that are complete and gives those that pass on."""
        passing, begin = bytearray(), 0
        for found in _END.finditer(self._held):
            event = bytes(self._held[begin : found.end()])
            begin = found.end()
            if self._event(event) or not self._strips_usage:
                passing += event
        del self._held[:begin]
        return bytes(passing)

    def _event(self, event: bytes) -> bool:
        """Reads an event; false for one that tells nothing but counts."""
        lines = [line[len(_FIELD) :].strip() for line in event.splitlines() if line.startswith(_FIELD)]
        payload = b"\n".join(lines)
        if payload == _DONE:
            self.is_done = True
            return True
        return self._read(payload)

    def _read(self, payload: bytes) -> bool:
        values = _object(payload)
        error = values.get("error")
        if error:
            self.failure = str(error.get("message", "")) if isinstance(error, dict) else str(error)
        choices = [one for one in _list(values.get("choices")) if isinstance(one, dict)]
        for choice in choices:
            self.finish_reason = str(choice.get("finish_reason") or self.finish_reason)
        usage = values.get("usage")
        if isinstance(usage, dict):
            self.prompt_tokens = _count(usage, "prompt_tokens", "input_tokens") or self.prompt_tokens
            self.tokens = _count(usage, "completion_tokens", "output_tokens") or self.tokens
        elif self.is_stream:
            self.tokens += any(map(_has_text, choices))
        return bool(choices) or not isinstance(usage, dict)


def _object(payload: bytes) -> dict[str, Any]:
    try:
        values = json.loads(payload)
    except (ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _has_text(choice: dict[str, Any]) -> bool:
    delta = choice.get("delta")
    said = delta if isinstance(delta, dict) else choice
    return any(said.get(name) for name in ("content", "text", "reasoning_content", "reasoning", "tool_calls"))


def _count(usage: dict[str, Any], *names: str) -> int:
    found = (usage.get(name) for name in names)
    return next((one for one in found if isinstance(one, int) and one > 0), 0)
