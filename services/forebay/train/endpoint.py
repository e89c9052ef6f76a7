"""Asks any OpenAI-compatible endpoint for one answer at a time, and says clearly what is wrong with a bad one."""

import asyncio
from typing import Any

import httpx

from forebay.core.errors import ConfigError, FailedPrecondition, InvalidArgument, Unavailable
from forebay.train.measurements import Answer, Ask

CONNECT_TIMEOUT_S = 5.0
ATTEMPTS = 4
CONNECTIONS_MAX = 1_000
ENDS = ("stop", "length", "tool_calls", "function_call")
"""Finish reasons that say how long an answer is; a filter that breaks one off is none."""


class Endpoint:
    """One model behind `url`, such as http://127.0.0.1:8080/v1. Close it with `async with`.

    `backoff_s` is the first wait before a failed call is repeated; each further one doubles.
    """

    def __init__(
        self,
        url: str,
        model: str,
        timeout_s: float,
        key: str = "",
        backoff_s: float = 1.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        try:
            self._http = httpx.AsyncClient(
                base_url=url,
                timeout=httpx.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S, pool=None),
                limits=httpx.Limits(max_connections=CONNECTIONS_MAX),
                headers={"authorization": f"Bearer {key}"} if key else {},
                trust_env=False,
                transport=transport,
            )
        except (httpx.InvalidURL, UnicodeEncodeError) as error:
            raise ConfigError(f"--url: {url} is no address of an endpoint: {error}") from error
        self._url, self._model, self._backoff_s = url, model, backoff_s

    async def __aenter__(self) -> "Endpoint":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def check(self) -> None:
        """Raises a ForebayError that says what to do where the endpoint does not serve the model."""
        value = await self._call("GET", "models")
        try:
            served = sorted(str(model["id"]) for model in value["data"])
        except (KeyError, TypeError) as error:
            raise ConfigError(
                f"{self._url}/models lists no models; --url must name an OpenAI-compatible API"
            ) from error
        if self._model not in served:
            raise ConfigError(f"{self._url} does not serve {self._model!r}; it serves {', '.join(served) or 'nothing'}")

    async def answer(self, ask: Ask) -> Answer:
        """One whole answer. Raises Unavailable where the endpoint stays away, InvalidArgument where it refuses the
        prompt, FailedPrecondition where it refuses us or does not count tokens.
        """
        value = await self._call("POST", "chat/completions", _body(self._model, ask))
        try:
            finish = str(value["choices"][0]["finish_reason"])
            usage = value["usage"]
            answer = Answer(int(usage["prompt_tokens"]), int(usage["completion_tokens"]), finish)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise FailedPrecondition(
                f"{self._url} answers without finish_reason or usage, so its lengths cannot be measured"
            ) from error
        if finish not in ENDS or answer.response_tokens < 1:
            raise InvalidArgument(f"an answer of {answer.response_tokens} tokens ended by {finish!r}")
        return answer

    async def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """The JSON of a good answer; what may pass is tried again."""
        for attempt in range(ATTEMPTS):
            try:
                response = await self._http.request(method, path, json=body)
                if response.status_code != 429 and response.status_code < 500:
                    return self._read(response)
                cause = f"HTTP {response.status_code} {_message(response)}"
            except httpx.UnsupportedProtocol as error:
                raise ConfigError(f"--url: {self._url} must begin with http:// or https://") from error
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                cause = str(error) or type(error).__name__
            if attempt + 1 < ATTEMPTS:
                await asyncio.sleep(self._backoff_s * 2**attempt)
        raise Unavailable(
            f"{self._url} does not answer ({cause.strip()}); is the server running, and the address right?"
        )

    def _read(self, response: httpx.Response) -> Any:
        status = response.status_code
        if status in (401, 403):
            raise FailedPrecondition(f"{self._url} refuses us (HTTP {status}); name the variable of a key by --key-env")
        if status == 404:
            raise ConfigError(
                f"{response.url} is not there (HTTP 404); --url usually ends in /v1. {_message(response)}"
            )
        if status != 200:
            raise InvalidArgument(f"{self._url} refuses the request: HTTP {status} {_message(response)}")
        try:
            return response.json()
        except ValueError as error:
            raise ConfigError(f"{response.url} answers something else than JSON; is --url an OpenAI API?") from error


def _body(model: str, ask: Ask) -> dict[str, Any]:
    setting = ask.setting
    system = [{"role": "system", "content": setting.system}] if setting.system else []
    return {
        "model": model,
        "messages": [*system, {"role": "user", "content": ask.question.text}],
        "temperature": setting.temperature,
        "max_tokens": setting.tokens_max,
        "seed": ask.seed,
    }


def _message(response: httpx.Response) -> str:
    """What the server says of its error, in one short line."""
    try:
        error = response.json()["error"]
        text = str(error["message"] if isinstance(error, dict) else error)
    except (ValueError, KeyError, TypeError):
        text = ""
    return " ".join(text.split())[:200]
