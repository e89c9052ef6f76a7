"""Reads the requests of a job, line by line, and refuses what could not be answered; errors name the line."""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

from forebay.core.errors import ForebayError, InvalidArgument, ModelUnknown
from forebay.gateway.completion import Completion, parse_chat, parse_text
from forebay.gateway.deferred.values import NewRequest

Parse = Callable[[bytes, int], Completion]
PARSERS: dict[str, Parse] = {"/v1/chat/completions": parse_chat, "/v1/completions": parse_text}
"""The endpoints whose requests can be deferred, and what reads their bodies."""
_CUSTOM_ID_BYTES_MAX = 512
_ENVELOPE_BYTES = 4096
_PAUSE_EVERY, _PAUSE_S = 16, 0.0002
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Rules:
    """What a job's requests must keep to; `check_model` raises where a model does not exist."""

    endpoint: str
    requests_max: int
    body_bytes_max: int
    tokens_max_default: int
    count_tokens: Callable[[str, str], int]
    """Tokens of a text for a model, by estimate."""
    check_model: Callable[[str], None]


class Reader:
    """Checks the requests of one job as they come. Raises InvalidArgument that names the line (1 is the first)."""

    def __init__(self, rules: Rules) -> None:
        if rules.endpoint not in PARSERS:
            raise InvalidArgument(
                f"endpoint must be one of {', '.join(PARSERS)}",
                reason="INVALID_ENDPOINT",
                violations={"endpoint": f"must be one of {', '.join(PARSERS)}"},
            )
        self._rules = rules
        self._known: dict[str, int] = {}
        self._model = ""

    @property
    def count(self) -> int:
        """Requests read."""
        return len(self._known)

    def from_pieces(self, pieces: Iterable[bytes]) -> Iterator[NewRequest]:
        """The requests of a file in OpenAI's form; empty lines are left out. Raises for a file without requests.

        Runs beside the event loop, and pauses now and then so that nobody waits long for the interpreter.
        """
        for number, line in _lines(pieces, self._rules.body_bytes_max + _ENVELOPE_BYTES):
            if line.strip():
                yield self._from_line(number, line)
            if number % _PAUSE_EVERY == 0:
                time.sleep(_PAUSE_S)
        if not self.count:
            raise InvalidArgument(
                "the file holds no requests; each line must be one", reason="EMPTY_FILE", violations=_in("is empty")
            )

    def add(self, number: int, custom_id: object, body: bytes) -> NewRequest:
        """One request that came by itself: its line is its number."""
        return self._take(number, custom_id, _ascii(number, body))

    def _take(self, number: int, custom_id: object, body: str) -> NewRequest:
        name, rules = self._name(number, custom_id), self._rules
        completion = self._completion(number, body.encode())
        tokens = rules.count_tokens(completion.model, completion.text)
        return NewRequest(self.count, name, completion.model, body, tokens, completion.tokens_max)

    def _from_line(self, number: int, line: bytes) -> NewRequest:
        value = _object(number, line)
        if value.get("method", "POST") != "POST":
            _refuse(number, "method must be POST", "INVALID_METHOD")
        if value.get("url") != self._rules.endpoint:
            text = f"url must be the endpoint of the batch, {self._rules.endpoint}"
            _refuse(number, text, "MISMATCHED_ENDPOINT")
        if not isinstance(value.get("body"), dict):
            _refuse(number, "body must be an object", "INVALID_BODY")
        return self._take(number, value.get("custom_id"), json.dumps(value["body"]))

    def _name(self, number: int, custom_id: object) -> str:
        if self.count >= self._rules.requests_max:
            _refuse(number, f"a batch has at most {self._rules.requests_max} requests", "TOO_MANY_REQUESTS")
        if not isinstance(custom_id, str) or not _is_name(custom_id):
            text = f"custom_id must be a string of 1 to {_CUSTOM_ID_BYTES_MAX} bytes without control characters"
            _refuse(number, text, "INVALID_CUSTOM_ID")
        if custom_id in self._known:
            text = f"custom_id {custom_id[:100]!r} is that of line {self._known[custom_id]} too; each needs its own"
            _refuse(number, text, "DUPLICATE_CUSTOM_ID")
        self._known[custom_id] = number
        return custom_id

    def _completion(self, number: int, body: bytes) -> Completion:
        rules = self._rules
        if len(body) > rules.body_bytes_max:
            _refuse(number, f"body is larger than {rules.body_bytes_max} bytes", "REQUEST_TOO_LARGE")
        try:
            completion = PARSERS[rules.endpoint](body, rules.tokens_max_default)
            if completion.model != self._model:
                self._check_model(number, completion.model)
        except ModelUnknown as error:
            _refuse(number, error.message, error.code)
        except ForebayError as error:
            _refuse(number, f"body: {error.message}", error.code)
        if completion.is_stream:
            _refuse(number, "body: stream must be false; a batch is answered whole", "INVALID_BODY")
        return completion

    def _check_model(self, number: int, model: str) -> None:
        if self._model:
            text = f"model is {model!r} but that of the first line is {self._model!r}; a batch has one model"
            _refuse(number, text, "MISMATCHED_MODEL")
        if "\0" in model:
            _refuse(number, "body: model must not hold control characters", "INVALID_BODY")
        self._rules.check_model(model)
        self._model = model


def _lines(pieces: Iterable[bytes], bytes_max: int) -> Iterator[tuple[int, bytes]]:
    """Lines with their numbers, from 1; the pieces may cut them anywhere."""
    rest, number = b"", 0
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            number += 1
            yield number, _bounded(number, line.removeprefix(_BOM) if number == 1 else line, bytes_max)
        _bounded(number + 1, rest, bytes_max)
    yield number + 1, rest.removeprefix(_BOM) if number == 0 else rest


def _bounded(number: int, line: bytes, bytes_max: int) -> bytes:
    if len(line) > bytes_max:
        _refuse(number, f"is longer than {bytes_max} bytes", "REQUEST_TOO_LARGE")
    return line


def _ascii(number: int, body: bytes) -> str:
    """The same JSON in ASCII."""
    try:
        return json.dumps(json.loads(body))
    except (ValueError, RecursionError):
        _refuse(number, "body: is not valid JSON", "INVALID_BODY")


def _object(number: int, line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        _refuse(number, "is not valid JSON; each line must be one JSON object", "INVALID_JSON_LINE")
    if not isinstance(value, dict):
        _refuse(number, "is not a JSON object", "INVALID_JSON_LINE")
    return value


def _is_name(text: str) -> bool:
    if not text or any(ord(one) < 32 or 0xD800 <= ord(one) < 0xE000 for one in text):
        return False
    return len(text.encode()) <= _CUSTOM_ID_BYTES_MAX


def _refuse(number: int, text: str, reason: str) -> NoReturn:
    raise InvalidArgument(f"line {number}: {text}", reason=reason, violations=_in(f"line {number}: {text}"))


def _in(text: str) -> dict[str, str]:
    return {"input_file_id": text}
