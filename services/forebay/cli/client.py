"""An OpenAI client that measures: sends one streamed request to the gateway and times what comes back."""

import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

import httpx

from forebay.cli.plan import PlannedRequest
from forebay.cli.stats import OK, Result
from forebay.core.errors import Unauthenticated, Unavailable
from forebay.core.values import LengthQuantiles

CONNECT_TIMEOUT_S = 5.0
CONNECTIONS_MAX = 1_000


class GatewayClient:
    """Talks to one gateway; `start_s` of the results is the client's creation. Close it with `async with`."""

    def __init__(
        self,
        url: str,
        timeout_s: float,
        transport: httpx.AsyncBaseTransport | None = None,
        key: str = "",
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
    ) -> None:
        self._http = httpx.AsyncClient(
            base_url=url,
            headers={"authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(timeout_s, connect=connect_timeout_s, pool=None),
            limits=httpx.Limits(max_connections=CONNECTIONS_MAX, max_keepalive_connections=CONNECTIONS_MAX),
            trust_env=False,
            transport=transport,
        )
        self._url = url
        self._start_s = time.perf_counter()

    async def __aenter__(self) -> "GatewayClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    def elapsed_s(self) -> float:
        """Seconds since the client was made."""
        return time.perf_counter() - self._start_s

    async def models(self) -> list[str]:
        """The models that the gateway serves.

        Raises Unavailable when it does not answer, and Unauthenticated when it wants another key.
        """
        try:
            response = await self._http.get("/v1/models")
            if response.status_code == httpx.codes.UNAUTHORIZED:
                text = "the gateway does not know the key; give a tenant's with --key or FOREBAY_API_KEY"
                raise Unauthenticated(text)
            response.raise_for_status()
            return sorted(str(model["id"]) for model in response.json()["data"])
        except (httpx.HTTPError, ValueError, KeyError) as error:
            raise Unavailable(
                f"no gateway answers at {self._url} ({_cause(error)}); start a stack with: forebay up"
            ) from error

    async def complete(self, request: PlannedRequest) -> Result:
        """Sends the request and reads its answer to the end; a failure is a result too."""
        answer = _Answer()
        started_s = self.elapsed_s()
        outcome, message = OK, ""
        try:
            async with self._http.stream("POST", "/v1/completions", **_body(request)) as response:
                answer.read_headers(response.headers)
                if response.status_code != httpx.codes.OK:
                    raise _Failure(*_error(await response.aread(), response.status_code))
                async for chunk in _events(response):
                    self._take(chunk, answer, started_s)
                answer.check_complete()
        except _Failure as failure:
            outcome, message = failure.reason, failure.text
        except httpx.HTTPError as error:
            outcome, message = _transport_reason(error), _cause(error)
        result = answer.result(request, started_s)
        return replace(result, outcome=outcome, message=message, e2e_s=self.elapsed_s() - started_s)

    def _take(self, chunk: dict[str, Any], answer: "_Answer", started_s: float) -> None:
        if "error" in chunk:
            raise _Failure(*_error_of(chunk, "STREAM_ERROR"))
        if answer.take(chunk) and answer.ttft_s is None:
            answer.ttft_s = self.elapsed_s() - started_s


class _Failure(Exception):
    """An answer that is an error, with its stable reason."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason, self.text = reason, text


@dataclass(slots=True)
class _Answer:
    """What has been read of one answer."""

    ttft_s: float | None = None
    chunk_count: int = 0
    usage_tokens: int | None = None
    finish_reason: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    def read_headers(self, headers: httpx.Headers) -> None:
        self.headers = {key: value for key, value in headers.items() if key.startswith("x-forebay-")}

    def take(self, chunk: dict[str, Any]) -> bool:
        """Whether the chunk carried text, which counts as one token unless the usage says better."""
        usage = chunk.get("usage")
        if usage:
            self.usage_tokens = int(usage["completion_tokens"])
        text = False
        for choice in chunk.get("choices", ()):
            self.finish_reason = choice.get("finish_reason") or self.finish_reason
            text = text or bool(choice.get("text"))
        self.chunk_count += text
        return text

    def check_complete(self) -> None:
        if not self.finish_reason:
            raise _Failure("STREAM_CUT", "the answer ended without a finish reason")

    def result(self, request: PlannedRequest, sent_s: float) -> Result:
        return Result(
            index=request.index,
            model=request.model,
            application=request.prompt.application,
            slo_class=request.slo_class,
            sent_s=sent_s,
            ttft_s=self.ttft_s,
            output_tokens=self.chunk_count if self.usage_tokens is None else self.usage_tokens,
            finish_reason=self.finish_reason,
            decision_id=self.headers.get("x-forebay-decision-id", ""),
            instance_id=self.headers.get("x-forebay-instance", ""),
            predicted=parse_quantiles(self.headers.get("x-forebay-predicted-tokens", "")),
        )


def parse_quantiles(header: str) -> LengthQuantiles | None:
    """The header `p10,p50,p90,p97`; None where it is absent or malformed."""
    try:
        p10, p50, p90, p97 = (int(part) for part in header.split(","))
        return LengthQuantiles(p10, p50, p90, p97)
    except ValueError:
        return None


def _body(request: PlannedRequest) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": request.model,
        "prompt": request.prompt.text,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if request.tokens_max is not None:
        body["max_tokens"] = request.tokens_max
    headers = {"x-forebay-slo-class": request.slo_class, "x-forebay-application": request.prompt.application}
    return {"json": body, "headers": {key: value for key, value in headers.items() if value}}


async def _events(response: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    async for line in response.aiter_lines():
        if not line.startswith("data:"):
            continue
        data = line[5:].strip()
        if data == "[DONE]":
            return
        try:
            chunk = json.loads(data)
        except ValueError as error:
            raise _Failure("STREAM_MALFORMED", "the gateway sent an event that is not JSON") from error
        if isinstance(chunk, dict):
            yield chunk


def _error(body: bytes, status: int) -> tuple[str, str]:
    try:
        value = json.loads(body)
    except ValueError:
        value = {}
    return _error_of(value if isinstance(value, dict) else {}, f"HTTP_{status}")


def _error_of(value: dict[str, Any], otherwise: str) -> tuple[str, str]:
    error = value.get("error")
    if not isinstance(error, dict):
        return otherwise, str(error or "")
    return str(error.get("code") or error.get("type") or otherwise), str(error.get("message", ""))


def _transport_reason(error: httpx.HTTPError) -> str:
    if isinstance(error, httpx.TimeoutException):
        return "CLIENT_TIMEOUT"
    return "CONNECT_FAILED" if isinstance(error, httpx.ConnectError) else "CONNECTION_LOST"


def _cause(error: Exception) -> str:
    return str(error) or type(error).__name__
