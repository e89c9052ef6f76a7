"""OpenAI's Files and Batches as the official openai package and a plain HTTP client see them."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from forebay.gateway.config import Config
from forebay.gateway.deferred.config import DeferredConfig
from tests.contract.gateway_stage import (
    MODEL,
    Stage,
    staged,
)

WORDS = "w0 w1 w2 w3 w4 "
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
FAST = Config(deferred=DeferredConfig(poll_s=0.05, retry_s=0.02, retry_s_max=0.05, completion_s_min=0.1))


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with staged(FAST) as one:
        yield one


def client(stage: Stage, **headers: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{stage.http_url}/v1", api_key="none", max_retries=0, default_headers=headers)


def chat(name: str, content: str = "Hello", **values: Any) -> dict[str, Any]:
    body = {"model": MODEL, "messages": [{"role": "user", "content": content}], **values}
    return {"custom_id": name, "method": "POST", "url": CHAT, "body": body}


def as_file(*lines: Any) -> tuple[str, bytes]:
    parts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    return "requests.jsonl", "\n".join(parts).encode() + b"\n"


async def upload(ai: openai.AsyncOpenAI, *lines: Any) -> str:
    return (await ai.files.create(file=as_file(*lines), purpose="batch")).id


async def submit(ai: openai.AsyncOpenAI, *lines: Any, endpoint: Any = CHAT, window: Any = "24h", **more: Any) -> Any:
    file_id = await upload(ai, *lines)
    return await ai.batches.create(input_file_id=file_id, endpoint=endpoint, completion_window=window, **more)


async def ended(ai: openai.AsyncOpenAI, batch_id: str) -> Any:
    async with asyncio.timeout(20):
        while True:
            batch = await ai.batches.retrieve(batch_id)
            if batch.status in ("completed", "failed", "expired", "cancelled"):
                return batch
            await asyncio.sleep(0.02)


async def content(ai: openai.AsyncOpenAI, file_id: str | None) -> list[dict[str, Any]]:
    assert file_id is not None
    return [json.loads(line) for line in (await ai.files.content(file_id)).text.splitlines()]


async def test_a_batch_of_chats_is_answered_by_id(stage: Stage) -> None:
    async with client(stage) as ai:
        batch = await submit(ai, *(chat(f"r{n}") for n in range(30)), metadata={"night": "yes"})
        assert (batch.object, batch.status, batch.endpoint) == ("batch", "in_progress", CHAT)
        assert (batch.completion_window, batch.metadata) == ("24h", {"night": "yes"})
        assert batch.expires_at == batch.created_at + 86_400
        done = await ended(ai, batch.id)
        assert done.status == "completed"
        assert (done.request_counts.total, done.request_counts.completed, done.request_counts.failed) == (30, 30, 0)
        assert done.error_file_id is None
        assert done.created_at <= done.in_progress_at <= done.finalizing_at <= done.completed_at
        lines = await content(ai, done.output_file_id)
        file = await ai.files.retrieve(done.output_file_id)
    assert [line["custom_id"] for line in lines] == [f"r{n}" for n in range(30)]
    assert len({line["id"] for line in lines}) == 30
    assert {line["error"] for line in lines} == {None}
    assert {line["response"]["status_code"] for line in lines} == {200}
    body = openai.types.chat.ChatCompletion.model_validate(lines[0]["response"]["body"])
    assert body.choices[0].message.content == WORDS
    assert body.usage
    assert body.usage.completion_tokens == 5
    assert (file.purpose, file.status, file.object) == ("batch_output", "processed", "file")
    assert len(stage.triton.requests) == 30
    assert {request.slo_class for request in stage.scheduler.arrived} == {3}
    assert all(86_000 < request.deadline.seconds <= 86_400 for request in stage.scheduler.arrived)
