"""The measuring client turns every kind of answer into one result, and never raises for a failed request."""

import json
from collections.abc import AsyncIterator, Callable, Sequence

import httpx
import pytest

from forebay.cli.client import GatewayClient, parse_quantiles
from forebay.cli.loaders import Prompt
from forebay.cli.plan import PlannedRequest
from forebay.cli.stats import OK, Result
from forebay.core.errors import Unauthenticated, Unavailable
from forebay.core.values import LengthQuantiles

REQUEST = PlannedRequest(7, 0.0, Prompt("Hello", "chat"), "m", "interactive-fast", tokens_max=9)
HEADERS = {
    "x-forebay-decision-id": "d-1",
    "x-forebay-instance": "s/m",
    "x-forebay-predicted-tokens": "1,2,3,4",
}


class Lines(httpx.AsyncByteStream):
    """A body that comes in pieces, and then breaks off where `error` says how."""

    def __init__(self, pieces: Sequence[bytes], error: Exception | None = None) -> None:
        self._pieces, self._error = pieces, error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece
        if self._error is not None:
            raise self._error


def event(**value: object) -> bytes:
    return f"data: {json.dumps(value)}\n\n".encode()


def text(part: str, finish: str | None = None) -> bytes:
    return event(choices=[{"text": part, "finish_reason": finish}])


def serving(
    pieces: Sequence[bytes], error: Exception | None = None, status: int = 200
) -> Callable[[httpx.Request], httpx.Response]:
    return lambda _: httpx.Response(status, headers=HEADERS, stream=Lines(pieces, error))


async def complete(handler: Callable[[httpx.Request], httpx.Response]) -> Result:
    async with GatewayClient("http://gateway", 5.0, httpx.MockTransport(handler)) as client:
        return await client.complete(REQUEST)


async def test_a_whole_answer_is_measured_and_carries_what_the_gateway_decided() -> None:
    usage = event(choices=[], usage={"completion_tokens": 5, "prompt_tokens": 2})
    result = await complete(serving([text("a"), text(" b c", "stop"), usage, b"data: [DONE]\n\n"]))
    assert (result.outcome, result.output_tokens, result.finish_reason) == (OK, 5, "stop")
    assert (result.index, result.model, result.slo_class, result.application) == (7, "m", "interactive-fast", "chat")
    assert (result.decision_id, result.instance_id) == ("d-1", "s/m")
    assert result.predicted == LengthQuantiles(1, 2, 3, 4)
    assert result.ttft_s is not None
    assert result.e2e_s is not None
    assert 0 <= result.ttft_s <= result.e2e_s


async def test_without_usage_each_piece_of_text_counts_as_one_token() -> None:
    result = await complete(serving([text(""), text("a"), text("b"), text("", "length")]))
    assert (result.output_tokens, result.finish_reason) == (2, "length")


async def test_the_request_says_what_the_plan_says() -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return serving([text("a", "stop")])(request)

    await complete(handler)
    body = json.loads(seen[0].content)
    assert body["model"] == "m"
    assert body["prompt"] == "Hello"
    assert body["max_tokens"] == 9
    assert body["stream"] is True
    assert body["stream_options"] == {"include_usage": True}
    assert seen[0].headers["x-forebay-slo-class"] == "interactive-fast"
    assert seen[0].headers["x-forebay-application"] == "chat"


@pytest.mark.parametrize(
    ("body", "status", "reason", "message"),
    [
        (b'{"error": {"code": "HELD_TOO_LONG", "message": "come back"}}', 429, "HELD_TOO_LONG", "come back"),
        (b'{"error": {"code": null, "type": "invalid_request_error"}}', 400, "invalid_request_error", ""),
        (b"<html>bad gateway</html>", 502, "HTTP_502", ""),
        (b"[]", 500, "HTTP_500", ""),
    ],
)
async def test_a_refusal_fails_with_the_gateways_reason(body: bytes, status: int, reason: str, message: str) -> None:
    result = await complete(serving([body], status=status))
    assert (result.outcome, result.message, result.ttft_s) == (reason, message, None)


async def test_an_error_in_the_middle_of_an_answer_fails_with_its_reason() -> None:
    broken = event(error={"code": "ABORTED", "message": "the instance died"})
    result = await complete(serving([text("a"), broken]))
    assert (result.outcome, result.message, result.output_tokens) == ("ABORTED", "the instance died", 1)
    assert result.ttft_s is not None


@pytest.mark.parametrize(
    ("pieces", "error", "reason"),
    [
        ([text("a")], None, "STREAM_CUT"),
        ([b"data: {oops\n\n"], None, "STREAM_MALFORMED"),
        ([text("a")], httpx.ReadError("reset"), "CONNECTION_LOST"),
        ([], httpx.ConnectError("refused"), "CONNECT_FAILED"),
        ([], httpx.ReadTimeout("slow"), "CLIENT_TIMEOUT"),
    ],
)
async def test_a_broken_stream_fails_with_what_broke_it(
    pieces: list[bytes], error: Exception | None, reason: str
) -> None:
    assert (await complete(serving(pieces, error))).outcome == reason


async def test_the_models_are_those_that_the_gateway_lists() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/v1/models"
        return httpx.Response(200, json={"data": [{"id": "b"}, {"id": "a"}]})

    async with GatewayClient("http://gateway", 5.0, httpx.MockTransport(handler)) as client:
        assert await client.models() == ["a", "b"]


async def test_a_key_is_shown_with_every_request_and_asked_for_where_it_is_wanted() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        is_known = request.headers.get("authorization") == "Bearer k1"
        return httpx.Response(200, json={"data": []}) if is_known else httpx.Response(401)

    async with GatewayClient("http://gateway", 5.0, httpx.MockTransport(handler), key="k1") as client:
        assert await client.models() == []
    async with GatewayClient("http://gateway", 5.0, httpx.MockTransport(handler)) as client:
        with pytest.raises(Unauthenticated, match="--key"):
            await client.models()


async def test_a_gateway_that_does_not_answer_is_an_error_that_says_what_to_do() -> None:
    async with GatewayClient("http://gateway", 5.0, httpx.MockTransport(serving([], status=500))) as client:
        with pytest.raises(Unavailable, match="forebay up"):
            await client.models()


@pytest.mark.parametrize("header", ["", "1,2,3", "1,2,3,x", "4,3,2,1"])
def test_a_header_that_is_no_prediction_is_none(header: str) -> None:
    assert parse_quantiles(header) is None
