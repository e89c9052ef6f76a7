"""Deferred work on a whole stack: services are killed in the middle, and every request is answered exactly once."""

import asyncio
import json
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import openai
from openai.types import Batch

from forebay.cli.stats import OK
from forebay.cli.supervisor import is_serving
from tests.e2e.running_stack import LONG, MODEL, SHORT, RunningStack, load

COUNT = 300
CHAT: Any = "/v1/chat/completions"
ENDED_TIMEOUT_S = 150.0
TRANSIENT = (openai.APIConnectionError, openai.InternalServerError)


def line(number: int) -> str:
    content = SHORT[number % len(SHORT)].text
    body = {"model": MODEL, "messages": [{"role": "user", "content": content}], "max_tokens": 100}
    return json.dumps({"custom_id": f"r{number}", "method": "POST", "url": CHAT, "body": body})


async def counts(ai: openai.AsyncOpenAI, batch_id: str) -> Batch | None:
    """The batch; None while the gateway is away."""
    try:
        return await ai.batches.retrieve(batch_id)
    except TRANSIENT:
        return None


async def completed(ai: openai.AsyncOpenAI, batch_id: str, least: int) -> Batch:
    async with asyncio.timeout(ENDED_TIMEOUT_S):
        while True:
            batch = await counts(ai, batch_id)
            if batch and batch.request_counts and batch.request_counts.completed >= least:
                return batch
            await asyncio.sleep(0.1)


async def back(stack: RunningStack, name: str) -> None:
    async with asyncio.timeout(30):
        while not await is_serving(stack.addresses.grpc[name]):
            await asyncio.sleep(0.1)


async def test_a_job_survives_the_death_of_gateway_scheduler_and_instance(stack: RunningStack, tmp_path: Path) -> None:
    file = tmp_path / "requests.jsonl"
    file.write_text("\n".join(line(number) for number in range(COUNT)))
    async with openai.AsyncOpenAI(base_url=f"{stack.addresses.http_url}/v1", api_key="none", timeout=30) as ai:
        uploaded = await ai.files.create(file=file, purpose="batch")
        batch = await ai.batches.create(input_file_id=uploaded.id, endpoint=CHAT, completion_window="24h")
        await completed(ai, batch.id, 20)
        async with load(stack, clients=2) as replay:
            stack.kill("gateway")
            await back(stack, "gateway")
            middle = await completed(ai, batch.id, 60)
            assert middle.status == "in_progress", "there is work left to lose"
            await stack.outage("scheduler", times=2)
            await back(stack, "scheduler")
            await completed(ai, batch.id, 100)
            os.kill(next(iter(stack.emulators())), signal.SIGKILL)
            await completed(ai, batch.id, 120)
            stack.kill("gateway")
            await back(stack, "gateway")
            await completed(ai, batch.id, 180)
            since = len(replay.results)
            done = await completed(ai, batch.id, COUNT)
            assert Counter(one.outcome for one in replay.results[since:]) == {OK: len(replay.results) - since}
        async with asyncio.timeout(30):
            while done.status != "completed":
                done = await completed(ai, batch.id, COUNT)
        assert done.request_counts
        assert (done.request_counts.total, done.request_counts.completed, done.request_counts.failed) == (
            COUNT,
            COUNT,
            0,
        )
        assert done.output_file_id
        lines = [json.loads(one) for one in (await ai.files.content(done.output_file_id)).text.splitlines()]
    assert [one["custom_id"] for one in lines] == [f"r{number}" for number in range(COUNT)]
    assert all(one["response"]["body"]["choices"][0]["finish_reason"] for one in lines)


def test_the_command_line_submits_watches_fetches_and_cancels(stack: RunningStack, tmp_path: Path) -> None:
    prompts, answers = tmp_path / "prompts.txt", tmp_path / "answers.jsonl"
    prompts.write_text("\n".join(one.text for one in SHORT[:20]))
    said = stack.cli(
        "batch", "submit", str(prompts), "--model", MODEL, "--max-tokens", "20", "--wait", "--metadata", "a=b"
    )
    assert "20 answered, 0 errors, of 20" in said
    [found] = [one for one in json.loads(stack.cli("batch", "list", "--json")) if one["metadata"] == {"a": "b"}]
    assert found["id"] in said
    assert "completed" in stack.cli("batch", "show", found["id"])
    stack.cli("batch", "results", found["id"], "--output", str(answers))
    assert [json.loads(one)["custom_id"] for one in answers.read_text().splitlines()] == [
        f"line-{n}" for n in range(1, 21)
    ]
    prompts.write_text("\n".join([LONG.text] * 40))
    long = json.loads(stack.cli("batch", "submit", str(prompts), "--model", MODEL, "--window", "2h", "--json"))
    assert "wait with: forebay batch show" in stack.cli("batch", "results", long["id"], status=1)
    assert json.loads(stack.cli("batch", "cancel", long["id"], "--json"))["status"] in ("cancelling", "cancelled")
    assert "cancelled" in stack.cli("batch", "show", long["id"], "--wait")
    assert "known models: llama-8b" in stack.cli("batch", "submit", str(prompts), "--model", "nobody", status=1)
