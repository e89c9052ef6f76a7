"""What becomes of the parts of a request and of its response, part by part."""

import json
from typing import Any

from forebay.core.errors import Aborted, ForebayError, InvalidArgument, NoInstanceReady
from forebay.core.values import Outcome
from forebay.gateway.picker.exchange import PIECE_BYTES, Exchange, Limits
from forebay.gateway.picker.values import (
    Action,
    Break,
    Count,
    Finish,
    Place,
    Point,
    Refuse,
    ReturnBody,
    ReturnHead,
    ReturnTrailers,
    SendBody,
    SendHead,
    SendTrailers,
    Served,
)

HEADERS = {":path": "/v1/chat/completions", "x-request-id": "r1"}
CHAT: dict[str, Any] = {"model": "llama", "messages": [{"role": "user", "content": "Hello"}]}
LIMITS = Limits(body_bytes_max=1_000_000, response_bytes_max=10_000, asks_for_usage=True)
EVENTS = {"content-type": "text/event-stream"}
ENDPOINT = "10.0.0.1:8000"


def body(**changes: Any) -> bytes:
    return json.dumps({**CHAT, **changes}).encode()


def event(text: str, reason: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": reason}
    return b"data: " + json.dumps({"choices": [choice], **more}).encode() + b"\n\n"


def asked(data: bytes, limits: Limits = LIMITS, **modes: bool) -> tuple[Exchange, list[Action]]:
    """An exchange after the whole request has come."""
    exchange = Exchange(limits)
    assert exchange.on_request_head(HEADERS, None, False, **modes) == []
    return exchange, exchange.on_request_body(data, True)


def placed(data: bytes, **modes: bool) -> Exchange:
    exchange, _ = asked(data, **modes)
    exchange.on_found(ENDPOINT)
    return exchange


def error_of(action: Action) -> ForebayError:
    assert isinstance(action, Refuse | Break)
    return action.error


def test_a_request_is_kept_back_until_its_body_is_whole_and_then_asks_for_a_place() -> None:
    exchange = Exchange(LIMITS)
    assert exchange.on_request_head(HEADERS, frozenset({ENDPOINT}), False) == []
    whole = body(max_tokens=7, temperature=0.5)
    assert exchange.on_request_body(whole[:10], False) == []
    (place,) = exchange.on_request_body(whole[10:], True)
    assert isinstance(place, Place)
    assert (place.headers, place.subset) == (HEADERS, {ENDPOINT})
    assert (place.question.model, place.question.text, place.question.tokens_max) == ("llama", "Hello", 7)


def test_a_placed_request_goes_on_unchanged_in_pieces_that_proxies_take() -> None:
    whole = body(messages=[{"role": "user", "content": "x" * 150_000}])
    exchange, _ = asked(whole)
    head, *pieces = exchange.on_found(ENDPOINT)
    assert head == SendHead(ENDPOINT)
    assert all(isinstance(one, SendBody) and len(one.piece) <= PIECE_BYTES for one in pieces)
    assert b"".join(one.piece for one in pieces if isinstance(one, SendBody)) == whole
    assert [one.is_last for one in pieces if isinstance(one, SendBody)] == [False, False, True]


def test_trailers_end_a_body_and_go_on_after_it() -> None:
    exchange = Exchange(LIMITS)
    exchange.on_request_head(HEADERS, None, False)
    assert exchange.on_request_body(body(), False) == []
    (place,) = exchange.on_request_trailers()
    assert isinstance(place, Place)
    assert exchange.on_found(ENDPOINT) == [SendHead(ENDPOINT), SendBody(body(), False), SendTrailers()]


def test_a_request_without_a_body_is_only_pointed_somewhere() -> None:
    exchange = Exchange(LIMITS)
    assert exchange.on_request_head(HEADERS, None, True) == [Point(HEADERS, None)]
    assert exchange.on_found(ENDPOINT) == [SendHead(ENDPOINT)]


def test_a_body_that_is_too_large_is_refused_before_it_is_whole() -> None:
    exchange = Exchange(Limits(100, 100, False))
    exchange.on_request_head(HEADERS, None, False)
    (refusal,) = exchange.on_request_body(b"x" * 101, False)
    assert error_of(refusal).code == "BODY_TOO_LARGE"
    assert exchange.on_request_body(b"more", True) == []


def test_a_body_that_is_no_question_is_refused() -> None:
    for data in (b"", b"no JSON", b"[1]", b'{"model": 3}', b"\xff", b"[" * 100_000):
        _, (refusal,) = asked(data)
        assert isinstance(error_of(refusal), InvalidArgument)


def test_a_proxy_that_does_not_stream_the_body_is_told_what_to_mend() -> None:
    (refusal,) = Exchange(LIMITS).on_request_head(HEADERS, None, False, is_duplex=False)
    assert error_of(refusal).code == "PROXY_MISCONFIGURED"
    assert "FULL_DUPLEX_STREAMED" in error_of(refusal).message


def test_a_request_that_finds_no_place_is_refused() -> None:
    exchange, _ = asked(body())
    error = NoInstanceReady("none")
    assert exchange.on_refused(error) == [Refuse(error)]


def test_a_stream_is_asked_for_its_counts_which_its_client_does_not_see() -> None:
    exchange, _ = asked(body(stream=True))
    _, piece = exchange.on_found(ENDPOINT)
    assert isinstance(piece, SendBody)
    assert json.loads(piece.piece) == {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
    exchange.on_response_head(200, EVENTS, "", False)
    assert exchange.on_response_body(event("a"), False) == [Count(0, 1, True), ReturnBody(event("a"), False)]
    usage = b'data: {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 5}}\n\n'
    last = event("b", "length")
    end = exchange.on_response_body(last + usage + b"data: [DONE]\n\n", False)
    assert end == [Count(3, 5, True), Finish(Outcome.LENGTH), ReturnBody(last + b"data: [DONE]\n\n", False)]
    assert exchange.on_response_body(b"", True)[-1] == ReturnBody(b"", True)


def test_a_client_that_says_what_it_wants_to_be_told_gets_just_that() -> None:
    for options in ({"include_usage": True}, {"include_usage": False}, {}):
        exchange, _ = asked(body(stream=True, stream_options=options))
        _, piece = exchange.on_found(ENDPOINT)
        assert piece == SendBody(body(stream=True, stream_options=options), True)
        exchange.on_response_head(200, EVENTS, "", False)
        usage = b'data: {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 5}}\n\n'
        assert exchange.on_response_body(usage, False) == [Count(3, 5, True), ReturnBody(usage, False)]


def test_an_answer_that_comes_whole_is_counted_at_its_end() -> None:
    exchange = placed(body())
    assert exchange.on_response_head(200, {"content-type": "application/json"}, "", False) == [ReturnHead(False)]
    answer = json.dumps({"choices": [{"finish_reason": "stop"}], "usage": {"prompt_tokens": 3, "completion_tokens": 9}})
    first, rest = answer[:20].encode(), answer[20:].encode()
    assert exchange.on_response_body(first, False) == [ReturnBody(first, False)]
    end = exchange.on_response_body(rest, True)
    assert end == [Count(3, 9, False), Finish(Outcome.STOPPED), ReturnBody(rest, True)]


def test_what_the_client_sees_fail_ends_the_lease_as_failed() -> None:
    for status, kind in ((500, Aborted), (503, Aborted), (429, Aborted), (400, InvalidArgument)):
        exchange = placed(body())
        broken, head = exchange.on_response_head(status, {}, "", False)
        assert type(error_of(broken)) is kind
        assert head == ReturnHead(status >= 500)
        assert exchange.on_response_body(b"{}", True) == [ReturnBody(b"{}", True)]


def test_a_failure_that_says_when_to_come_back_is_believed() -> None:
    exchange = placed(body())
    assert exchange.on_response_head(503, {"retry-after": "7"}, "", True)[-1] == ReturnHead(False)


def test_a_stream_that_ends_without_its_end_or_tells_an_error_has_failed() -> None:
    for data in (event("a"), b'data: {"error": {"message": "out of memory"}}\n\n'):
        exchange = placed(body(stream=True))
        exchange.on_response_head(200, EVENTS, "", False)
        found = exchange.on_response_body(data, True)
        assert [one for one in found if isinstance(one, Break | Finish)] == [one for one in found if type(one) is Break]
        assert any(isinstance(one, Break) for one in found)


def test_trailers_of_a_response_end_it() -> None:
    exchange = placed(body())
    exchange.on_response_head(200, {}, "", False)
    assert exchange.on_response_trailers() == [Finish(Outcome.STOPPED), ReturnTrailers()]
    assert exchange.on_response_trailers() == [ReturnTrailers()]


def test_the_endpoint_that_served_is_told() -> None:
    exchange = placed(body())
    assert exchange.on_response_head(200, {}, "10.0.0.2:8000", False)[0] == Served("10.0.0.2:8000")


def test_a_proxy_that_sends_responses_on_by_itself_hears_of_each_piece_and_no_stream_is_changed() -> None:
    exchange, _ = asked(body(stream=True), is_duplex_response=False)
    assert exchange.on_found(ENDPOINT)[1] == SendBody(body(stream=True), True)
    exchange.on_response_head(200, EVENTS, "", False)
    assert exchange.on_response_body(b"data: {", False) == [ReturnBody(b"data: {", False)]
