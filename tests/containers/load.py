"""Load on the gateways of a stack that is being broken: what each client of a request saw, counted."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

MODEL = "llama-8b"
CLIENTS, PAUSE_S = 4, 0.2
ATTEMPTS_MAX, RETRY_S = 60, 0.5
TIMEOUT = httpx.Timeout(30.0, connect=10.0)
RETRYABLE = (429, 502, 503, 504)

ANSWERED = "answered"
REFUSED = "refused before the first token, retryable"
UNREACHED = "no gateway reached"
BROKEN_OFF = "broken off after the first token, told"
CUT = "connection cut with its gateway"
LOST = "lost without a word"


@dataclass
class Seen:
    """What came of all requests: attempts by what happened to them, and how many requests were answered in the end."""

    attempts: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    answered: int = 0
    first_try: int = 0
    strange: list[str] = field(default_factory=list)

    def row(self) -> str:
        """One line for a table."""
        rest = ", ".join(f"{count} × {what}" for what, count in sorted(self.attempts.items()) if what != ANSWERED)
        answered = f"{self.answered} answered, {self.first_try} at the first try"
        return f"{self.requests} requests, {answered}; {rest or 'none failed'}"


async def attempt(http: httpx.AsyncClient, gateway: str, number: int) -> tuple[str, str]:
    """Asks once; what happened, and what is strange about it."""
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": f"A short question, number {number}"}],
        "max_tokens": 40,
        "stream": True,
    }
    try:
        async with http.stream("POST", f"{gateway}/v1/chat/completions", json=body) as answer:
            if answer.status_code != httpx.codes.OK:
                return refusal(answer.status_code, (await answer.aread()).decode())
            return await end_of(answer)
    except (httpx.ConnectError, httpx.ConnectTimeout):
        return UNREACHED, ""
    except httpx.TimeoutException:
        return LOST, f"silence, {time.strftime('%X')}"
    except httpx.TransportError as error:
        return CUT, repr(error)


def refusal(status: int, text: str) -> tuple[str, str]:
    """An answer that is an error must say what is wrong, and that another try may help."""
    clear = status in RETRYABLE and json.loads(text)["error"]["message"]
    return (REFUSED, "") if clear else (LOST, f"{status}: {text}")


async def end_of(answer: httpx.Response) -> tuple[str, str]:
    """A stream ends with [DONE] or with an error that is told."""
    tokens = 0
    async for line in answer.aiter_lines():
        data: Any = line.removeprefix("data: ")
        if data == "[DONE]":
            return (ANSWERED, "") if tokens else (LOST, "an end without tokens")
        if line:
            message = json.loads(data)
            if "error" in message:
                return (BROKEN_OFF if tokens else REFUSED), ""
            tokens += bool(message["choices"] and message["choices"][0]["delta"].get("content"))
    return LOST, f"{tokens} tokens and no end"


async def client(http: httpx.AsyncClient, gateways: Callable[[], list[str]], seen: Seen, ending: asyncio.Event) -> None:
    """One question after the other; each is asked until it is answered, of another gateway each time."""
    while not ending.is_set():
        seen.requests += 1
        number = seen.requests
        for turn in range(ATTEMPTS_MAX):
            known = gateways()
            what, strange = (
                await attempt(http, known[(number + turn) % len(known)], number) if known else (UNREACHED, "")
            )
            seen.attempts[what] += 1
            seen.strange += [f"{what}: {strange}"] if strange else []
            if what == ANSWERED:
                seen.answered += 1
                seen.first_try += turn == 0
                break
            await asyncio.sleep(RETRY_S)
        await asyncio.sleep(PAUSE_S)


@asynccontextmanager
async def load(look: Callable[[], list[str]]) -> AsyncIterator[Seen]:
    """Load for as long as the block lasts; `look` says where gateways are, and is asked again and again."""
    seen, ending, known = Seen(), asyncio.Event(), await asyncio.to_thread(look)

    async def follow() -> None:
        nonlocal known
        while not ending.is_set():
            await asyncio.sleep(1.0)
            known = await asyncio.to_thread(look) or known

    async with httpx.AsyncClient(timeout=TIMEOUT, trust_env=False) as http:
        clients = [asyncio.create_task(client(http, lambda: known, seen, ending)) for _ in range(CLIENTS)]
        following = asyncio.create_task(follow())
        try:
            yield seen
        finally:
            ending.set()
            await asyncio.gather(*clients, following)


class Job:
    """One job of deferred work over OpenAI's Batch API, on whichever gateway answers."""

    def __init__(self, look: Callable[[], list[str]], count: int) -> None:
        self._look, self.count = look, count
        self._id = ""

    async def submit(self) -> None:
        """Submits it."""
        lines = [
            json.dumps(
                {
                    "custom_id": f"r{number}",
                    "method": "POST",
                    "url": "/v1/chat/completions",
                    "body": {
                        "model": MODEL,
                        "messages": [{"role": "user", "content": f"Work that can wait, number {number}"}],
                        "max_tokens": 60,
                    },
                }
            )
            for number in range(self.count)
        ]
        files = {"file": ("requests.jsonl", "\n".join(lines).encode()), "purpose": (None, "batch")}
        file = (await self._ask("POST", "/v1/files", files=files))["id"]
        body = {"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        self._id = (await self._ask("POST", "/v1/batches", json=body))["id"]

    async def completed(self) -> int:
        """How many of its requests are answered."""
        return int((await self._ask("GET", f"/v1/batches/{self._id}"))["request_counts"]["completed"])

    async def results(self, timeout_s: float) -> Counter[tuple[str, int]]:
        """The answers by custom id and HTTP status, once it has ended."""
        async with asyncio.timeout(timeout_s):
            while (job := await self._ask("GET", f"/v1/batches/{self._id}"))["status"] != "completed":
                await asyncio.sleep(1.0)
        text = await self._text(f"/v1/files/{job['output_file_id']}/content")
        rows = [json.loads(line) for line in text.splitlines()]
        return Counter((row["custom_id"], row["response"]["status_code"]) for row in rows)

    async def _ask(self, method: str, path: str, **fields: Any) -> Any:
        return json.loads(await self._text(path, method, **fields))

    async def _text(self, path: str, method: str = "GET", **fields: Any) -> str:
        for _ in range(ATTEMPTS_MAX):
            for gateway in await asyncio.to_thread(self._look):
                try:
                    async with httpx.AsyncClient(timeout=TIMEOUT, trust_env=False) as http:
                        answer = await http.request(method, gateway + path, **fields)
                except httpx.TransportError:
                    continue
                if answer.is_success:
                    return answer.text
                assert answer.status_code in RETRYABLE, answer.text
            await asyncio.sleep(RETRY_S)
        raise AssertionError(f"{method} {path}: no gateway answered")
