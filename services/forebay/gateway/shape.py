"""OpenAI's answers as bytes: what does not change from token to token is serialised once."""

import json
from json.encoder import encode_basestring_ascii as quoted

from forebay.core.errors import (
    Aborted,
    AlreadyExists,
    DeadlineExceeded,
    FailedPrecondition,
    ForebayError,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    PromptTooLong,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)
from forebay.core.units import US_PER_MS, US_PER_S
from forebay.gateway.completion import Completion

DONE = b"data: [DONE]\n\n"
_RETRY_AFTER_S = 1
HTTP_UNAUTHENTICATED = 401

# The first class that fits decides: (class, HTTP status, OpenAI's type).
_STATUS: tuple[tuple[type[ForebayError], int, str], ...] = (
    (InvalidArgument, 400, "invalid_request_error"),
    (Unimplemented, 400, "invalid_request_error"),
    (FailedPrecondition, 400, "invalid_request_error"),
    (Unauthenticated, 401, "invalid_request_error"),
    (PermissionDenied, 403, "permission_error"),
    (AlreadyExists, 409, "invalid_request_error"),
    (NotFound, 404, "invalid_request_error"),
    (ResourceExhausted, 429, "rate_limit_error"),
    (Unavailable, 503, "service_unavailable_error"),
    (Aborted, 502, "upstream_error"),
    (DeadlineExceeded, 504, "timeout_error"),
)
# What only HTTP has a status for, by our reasons.
_STATUS_BY_REASON = {"BODY_TOO_LARGE": 413, "BODY_TOO_SLOW": 408}
# Codes that OpenAI's clients know, by our reasons.
_CODES = {
    "MODEL_UNKNOWN": "model_not_found",
    "PROMPT_TOO_LONG": "context_length_exceeded",
    "API_KEY_MISSING": "invalid_api_key",
    "API_KEY_UNKNOWN": "invalid_api_key",
}


class Shape:
    """The answer to one completion, streamed or whole."""

    def __init__(self, completion: Completion, answer_id: str, created_s: int) -> None:
        self._is_chat = completion.is_chat
        self._has_usage = completion.has_usage
        kind = "chat.completion" if completion.is_chat else "text_completion"
        name = f"{'chatcmpl' if completion.is_chat else 'cmpl'}-{answer_id}"
        self._base = {"id": name, "object": kind, "created": created_s, "model": completion.model}
        event = {**self._base, "object": "chat.completion.chunk"} if completion.is_chat else self._base
        self._head = "data: " + json.dumps(event, separators=(",", ":"))[:-1] + ","
        usage = ',"usage":null' if completion.has_usage else ""
        self._tail = f"]{usage}}}\n\n"
        opening, closing = ('"delta":{"content":', "}") if completion.is_chat else ('"text":', "")
        self._before = f'{self._head}"choices":[{{"index":0,{opening}'
        self._after = f'{closing},"logprobs":null,"finish_reason":null}}{self._tail}'

    def opening(self) -> bytes:
        """The event before the first text: a chat answer names its role."""
        if not self._is_chat:
            return b""
        choice = '{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}'
        return f'{self._head}"choices":[{choice}{self._tail}'.encode()

    def text(self, text: str) -> bytes:
        """The event of one piece of text."""
        return f"{self._before}{quoted(text)}{self._after}".encode()

    def closing(self, finish_reason: str, prompt_tokens: int, response_tokens: int) -> bytes:
        """The events after the last text."""
        content = '"delta":{}' if self._is_chat else '"text":""'
        choice = f'{{"index":0,{content},"logprobs":null,"finish_reason":{quoted(finish_reason)}}}'
        end = f'{self._head}"choices":[{choice}{self._tail}'.encode()
        if self._has_usage:
            counts = json.dumps(usage(prompt_tokens, response_tokens), separators=(",", ":"))
            end += f'{self._head}"choices":[],"usage":{counts}}}\n\n'.encode()
        return end + DONE

    def whole(self, text: str, finish_reason: str, prompt_tokens: int, response_tokens: int) -> bytes:
        """The answer in one piece."""
        message = {"role": "assistant", "content": text, "refusal": None}
        content = {"message": message} if self._is_chat else {"text": text}
        choice = {"index": 0, **content, "logprobs": None, "finish_reason": finish_reason}
        return json.dumps({**self._base, "choices": [choice], "usage": usage(prompt_tokens, response_tokens)}).encode()


def usage(prompt_tokens: int, response_tokens: int) -> dict[str, int]:
    """OpenAI's token counts."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": response_tokens,
        "total_tokens": prompt_tokens + response_tokens,
    }


def failure(error: ForebayError) -> tuple[int, dict[str, str], bytes]:
    """HTTP status, headers and body of an error."""
    status, kind = next((status, kind) for known, status, kind in _STATUS if isinstance(error, known))
    status = _STATUS_BY_REASON.get(error.code, status)
    headers = {}
    if status in (429, 503):
        after_us = error.retry_after_us or _RETRY_AFTER_S * US_PER_S
        headers["retry-after"] = str(max(1, -(-after_us // US_PER_S)))
        # OpenAI's clients read this one first: it is as exact as what was promised.
        headers["retry-after-ms"] = str(max(1, -(-after_us // US_PER_MS)))
    if status == HTTP_UNAUTHENTICATED:
        headers["www-authenticate"] = "Bearer"
    return status, headers, error_body(error.message, kind, _CODES.get(error.code, error.code.lower()), _param(error))


def failure_event(error: ForebayError) -> bytes:
    """The event that breaks off an answer which has begun."""
    return b"data: " + failure(error)[2] + b"\n\n"


def error_body(message: str, kind: str, code: str | None, param: str | None = None) -> bytes:
    """An error in OpenAI's form."""
    return json.dumps({"error": {"message": message, "type": kind, "param": param, "code": code}}).encode()


def _param(error: ForebayError) -> str | None:
    if isinstance(error, PromptTooLong):
        return "messages"
    return next(iter(error.violations), None)
