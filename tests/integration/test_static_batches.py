"""Static batches through real processes: the batch that the scheduler forms is the batch that the engine runs."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from lmaas.common.v1 import instance_pb2

from tests.integration.gateway_plant import MODEL, Plant, planted
from tests.integration.test_gateway_failover import body

GATHER_S = 1.5
STATIC = (
    *("batcher=static", "batch_given=true", "batch_padding=true", "batch_answers_wait=true"),
    f"batch_delay_us={GATHER_S * 1e6:.0f}",
)
CONFIG = """
[scheduler]
grouper = "magnus"
hold_timeout_interactive_normal_s = 120.0
resume_grace_s = 1.0
"""
TOGETHER_S = 0.5
"""Between the answers of one batch, on a busy machine."""


@pytest.fixture
async def plant(tmp_path: Path) -> AsyncIterator[Plant]:
    arguments = tuple(f"--set={setting}" for setting in STATIC)
    async with planted(tmp_path, emulator_count=1, gateway_config=CONFIG, arguments=arguments) as one:
        one.fleet.instances[0].batching = instance_pb2.BATCHING_STATIC
        one.fleet.instances[0].kv_tokens_max = 65_536
        await asyncio.sleep(2)
        yield one


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=90) as client:
        yield client


async def ended(http: httpx.AsyncClient, plant: Plant, tokens: int) -> tuple[float, int]:
    """When the whole answer was there, and its tokens."""
    answer = await http.post(f"{plant.http_url}/v1/chat/completions", json=body(tokens, stream=False))
    assert answer.status_code == 200, answer.text
    return time.monotonic(), int(answer.json()["usage"]["completion_tokens"])


async def sent(http: httpx.AsyncClient, plant: Plant, *lengths: int) -> list[asyncio.Task[Any]]:
    """Requests that the scheduler knows of, in their order."""
    tasks = []
    for tokens in lengths:
        tasks.append(asyncio.create_task(ended(http, plant, tokens)))
        await asyncio.sleep(0.2)
    return tasks


async def test_what_came_while_a_batch_ran_is_answered_together_at_the_end_of_the_next(
    plant: Plant, http: httpx.AsyncClient
) -> None:
    first, *batch = await sent(http, plant, 600, 20, 200, 90)
    first_s, _ = await first
    times_s, counts = zip(*await asyncio.gather(*batch), strict=True)
    assert counts == (20, 200, 90)
    assert first_s < min(times_s)
    assert max(times_s) - min(times_s) < TOGETHER_S
    # Had the engine waited for stragglers, a batch whose count is wrong, this would have taken longer.
    assert max(times_s) - first_s < GATHER_S + 1.5


async def test_a_scheduler_that_dies_with_batches_waiting_answers_each_request_once(
    plant: Plant, http: httpx.AsyncClient
) -> None:
    first, *batch = await sent(http, plant, 400, 20, 60, 90)
    plant.processes["scheduler"].kill()
    plant.processes["scheduler"].wait()
    plant.start("scheduler")
    assert (await first)[1] == 400
    assert [tokens for _, tokens in await asyncio.gather(*batch)] == [20, 60, 90]
    await plant.until(lambda: len(plant.records) == 4, "a record of each request")
    assert MODEL in {record.model for record in plant.records}


async def test_a_client_that_leaves_does_not_hold_up_its_batch(plant: Plant, http: httpx.AsyncClient) -> None:
    first, gone, *batch = await sent(http, plant, 500, 50, 60, 70)
    gone.cancel()
    await first
    assert [tokens for _, tokens in await asyncio.gather(*batch)] == [60, 70]

    async def is_free() -> bool:
        return not await plant.leases()

    await plant.until(is_free, "no lease is left")
