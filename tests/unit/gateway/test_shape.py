import json
from typing import Any

import pytest

from forebay.core.errors import (
    Aborted,
    DeadlineExceeded,
    ForebayError,
    InvalidArgument,
    ModelUnknown,
    NoInstanceReady,
    PromptTooLong,
    ResourceExhausted,
    Unavailable,
    Unimplemented,
)
from forebay.gateway import shape
from forebay.gateway.completion import Completion
from forebay.gateway.shape import Shape


def form(*, is_chat: bool = True, has_usage: bool = False, model: str = "m") -> Shape:
    completion = Completion(model, "Hi", {}, 16, 1.0, True, has_usage, is_chat)
    return Shape(completion, "id", 1000)


def events(raw: bytes) -> list[Any]:
    parts = raw.decode().split("\n\n")
    assert parts.pop() == ""
    assert all(part.startswith("data: ") for part in parts)
    return [part if part == "data: [DONE]" else json.loads(part.removeprefix("data: ")) for part in parts]


def choice(index: int = 0, **values: object) -> dict[str, object]:
    return {"index": index, "logprobs": None, **values}


def test_a_chat_stream_names_its_role_then_its_text_then_its_reason() -> None:
    head = {"id": "chatcmpl-id", "object": "chat.completion.chunk", "created": 1000, "model": "m"}
    shaped = form()
    first, second, last, done = events(shaped.opening() + shaped.text("Hello") + shaped.closing("stop", 3, 5))
    role = {"role": "assistant", "content": ""}
    assert first == {**head, "choices": [choice(delta=role, finish_reason=None)]}
    assert second == {**head, "choices": [choice(delta={"content": "Hello"}, finish_reason=None)]}
    assert last == {**head, "choices": [choice(delta={}, finish_reason="stop")]}
    assert done == "data: [DONE]"


def test_a_text_stream_has_no_opening() -> None:
    head = {"id": "cmpl-id", "object": "text_completion", "created": 1000, "model": "m"}
    shaped = form(is_chat=False)
    assert shaped.opening() == b""
    first, last, _ = events(shaped.text("Hello") + shaped.closing("length", 3, 5))
    assert first == {**head, "choices": [choice(text="Hello", finish_reason=None)]}
    assert last == {**head, "choices": [choice(text="", finish_reason="length")]}


def test_usage_comes_in_an_event_of_its_own_and_is_null_before() -> None:
    shaped = form(has_usage=True)
    first, last, usage, _ = events(shaped.text("Hello") + shaped.closing("stop", 3, 5))
    assert (first["usage"], last["usage"]) == (None, None)
    assert usage["choices"] == []
    assert usage["usage"] == {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}


@pytest.mark.parametrize("text", ['"quoted"\\', "line\nbreak\r\n\n", "naïve 漢字 🙂", "\x00\x1f\u2028"])
def test_any_text_survives(text: str) -> None:
    [event] = events(form(model=text).text(text))
    assert event["choices"][0]["delta"]["content"] == text
    assert event["model"] == text


def test_a_whole_answer_holds_text_reason_and_usage() -> None:
    whole = json.loads(form().whole("Hello", "stop", 3, 5))
    assert whole["object"] == "chat.completion"
    message = {"role": "assistant", "content": "Hello", "refusal": None}
    assert whole["choices"] == [choice(message=message, finish_reason="stop")]
    assert whole["usage"]["total_tokens"] == 8
    assert json.loads(form(is_chat=False).whole("Hello", "stop", 3, 5))["choices"][0]["text"] == "Hello"


@pytest.mark.parametrize(
    ("error", "status", "retry_after", "code"),
    [
        (InvalidArgument("bad"), 400, None, "invalid_argument"),
        (Unimplemented("no tools"), 400, None, "unimplemented"),
        (PromptTooLong("long"), 400, None, "context_length_exceeded"),
        (InvalidArgument("big", reason="BODY_TOO_LARGE"), 413, None, "body_too_large"),
        (InvalidArgument("slow", reason="BODY_TOO_SLOW"), 408, None, "body_too_slow"),
        (ModelUnknown("who"), 404, None, "model_not_found"),
        (ResourceExhausted("full", retry_after_us=1_500_000), 429, "2", "resource_exhausted"),
        (ResourceExhausted("full", reason="HELD_TOO_LONG"), 429, "1", "held_too_long"),
        (NoInstanceReady("none", retry_after_us=1), 503, "1", "no_instance_ready"),
        (Unavailable("down"), 503, "1", "unavailable"),
        (Aborted("died"), 502, None, "aborted"),
        (DeadlineExceeded("slow"), 504, None, "deadline_exceeded"),
    ],
)
def test_every_error_has_its_status(error: ForebayError, status: int, retry_after: str | None, code: str) -> None:
    found, headers, body = shape.failure(error)
    assert (found, headers.get("retry-after")) == (status, retry_after)
    said = json.loads(body)["error"]
    assert (said["message"], said["code"]) == (error.message, code)


def test_every_error_of_the_tree_has_a_status() -> None:
    kinds, open_ends = set(), [ForebayError]
    while open_ends:
        found = open_ends.pop().__subclasses__()
        kinds.update(kind for kind in found if kind.__module__ == "forebay.core.errors")
        open_ends += found
    assert len(kinds) >= 10
    for kind in kinds:
        assert 400 <= shape.failure(kind("x"))[0] < 600


def test_a_bad_parameter_is_named() -> None:
    error = InvalidArgument("n must be 1", violations={"n": "must be 1"})
    assert json.loads(shape.failure(error)[2])["error"]["param"] == "n"


def test_an_answer_that_breaks_off_ends_with_the_error_as_an_event() -> None:
    [event] = events(shape.failure_event(Aborted("died")))
    assert event["error"]["message"] == "died"
