"""What is read of an answer while it passes."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.gateway.picker.answers import Reader

EVENTS = "text/event-stream; charset=utf-8"
USAGE = {"prompt_tokens": 4, "completion_tokens": 3, "total_tokens": 7}


def event(choices: Any, end: bytes = b"\n\n", **more: Any) -> bytes:
    return b"data: " + json.dumps({"choices": choices, **more}).encode() + end


def text(content: str, reason: str | None = None) -> list[dict[str, Any]]:
    return [{"index": 0, "delta": {"content": content}, "finish_reason": reason}]


def reader(content_type: str = EVENTS, encoding: str = "", bytes_max: int = 10_000, strips: bool = False) -> Reader:
    return Reader(content_type, encoding, bytes_max, strips)


STREAM = b"".join(
    [
        event(text("")),
        event(text("one")),
        b": a comment\n\n",
        event(text(" two")),
        event(text(" three", "stop")),
        event([], usage=USAGE),
        b"data: [DONE]\n\n",
    ]
)
STRIPPED = STREAM.replace(event([], usage=USAGE), b"")


@given(cuts=st.lists(st.integers(0, len(STREAM)), max_size=8).map(sorted))
def test_where_pieces_are_cut_changes_nothing(cuts: list[int]) -> None:
    edges = [0, *cuts, len(STREAM)]
    pieces = [STREAM[begin:end] for begin, end in pairwise(edges)]
    whole, stripped = reader(), reader(strips=True)
    assert b"".join(whole.take(piece, False) for piece in pieces) + whole.take(b"", True) == STREAM
    assert b"".join(stripped.take(piece, False) for piece in pieces) + stripped.take(b"", True) == STRIPPED
    for one in (whole, stripped):
        assert (one.prompt_tokens, one.tokens, one.finish_reason) == (4, 3, "stop")
        assert one.is_done


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r"])
def test_events_end_as_the_standard_allows(end: bytes) -> None:
    one = reader()
    one.take(event(text("a"), end) + event(text("b"), end), False)
    assert one.tokens == 2


def test_without_counts_events_with_text_are_tokens() -> None:
    one = reader()
    told = [text(""), text("a"), [{"text": "b"}], [{"delta": {"reasoning_content": "c"}}], [{"delta": {}}]]
    one.take(b"".join(map(event, told)), True)
    assert one.tokens == 3


def test_counts_that_grow_with_each_event_are_taken_as_they_come() -> None:
    one = reader()
    one.take(event(text("ab"), usage={**USAGE, "completion_tokens": 2}), False)
    assert one.tokens == 2
    one.take(event(text("cd"), usage={**USAGE, "completion_tokens": 4}), False)
    assert one.tokens == 4


def test_an_event_with_text_and_counts_is_not_taken_out() -> None:
    data = event(text("a"), usage=USAGE)
    assert reader(strips=True).take(data, True) == data


@pytest.mark.parametrize(
    "data", [b"data: nonsense\n\n", b"data: [1]\n\n", b'data: {"choices": [3, null]}\n\n', b"\n\n\n"]
)
def test_what_is_no_event_of_openai_passes_and_counts_for_nothing(data: bytes) -> None:
    one = reader(strips=True)
    assert one.take(data, False) + one.take(b"", True) == data
    assert one.tokens == 0


def test_an_event_that_is_too_large_passes_and_ends_the_reading() -> None:
    one = reader(bytes_max=100, strips=True)
    assert one.take(b"data: " + b"x" * 200, False) == b"data: " + b"x" * 200
    assert one.take(event(text("a")), False) == event(text("a"))
    assert one.tokens == 0


def test_a_whole_answer_tells_its_counts() -> None:
    one = reader("application/json")
    body = json.dumps({"choices": [{"finish_reason": "length"}], "usage": USAGE}).encode()
    assert one.take(body, True) == body
    assert (one.prompt_tokens, one.tokens, one.finish_reason) == (4, 3, "length")


def test_an_encoded_answer_passes_unread() -> None:
    one = reader("application/json", "gzip")
    assert one.take(b"\x1f\x8b", True) == b"\x1f\x8b"
    assert one.is_whole


def test_a_stream_is_whole_by_its_end_or_its_reason() -> None:
    one = reader()
    one.take(event(text("a")), False)
    assert not one.is_whole
    one.take(event(text("", "stop")), False)
    assert one.is_whole
