"""Deferred work on a PostgreSQL that goes away in the middle and comes back: nothing is lost, chat goes on."""

import asyncio
import json
from typing import Any

import openai
import pytest

from forebay import sql
from forebay.gateway.config import Config
from forebay.gateway.deferred.config import DeferredConfig
from forebay.gateway.deferred.store import Store
from forebay.gateway.deferred.store_sql import SqlStore
from tests.contract.gateway_stage import MODEL, staged, until
from tests.integration.postgres import Postgres, postgres

__all__ = ["postgres"]

CHAT: Any = "/v1/chat/completions"
USER: Any = [{"role": "user", "content": "Hello"}]
CONFIG = Config(deferred=DeferredConfig(poll_s=0.1, retry_s=0.1))


def line(number: int) -> str:
    return json.dumps({"custom_id": f"r{number}", "url": CHAT, "body": {"model": MODEL, "messages": USER}})


async def test_a_database_that_goes_away_refuses_new_work_and_loses_none(postgres: Postgres) -> None:
    url = postgres.new_database()
    engines: list[Any] = []

    def open_store() -> Store:
        engines.append(sql.open_engine(url))
        return SqlStore(engines[-1])

    async with staged(CONFIG, open_store=open_store) as stage:
        stage.triton.pause_s = 0.02
        async with openai.AsyncOpenAI(base_url=f"{stage.http_url}/v1", api_key="none", max_retries=0) as ai:
            content = "\n".join(line(number) for number in range(60)).encode()
            file = await ai.files.create(file=("in.jsonl", content), purpose="batch")
            batch = await ai.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
            await until(lambda: len(stage.triton.requests) >= 15, "some work is done")
            await asyncio.to_thread(postgres.stop)
            try:
                for asked in (
                    ai.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h"),
                    ai.files.create(file=("in.jsonl", content), purpose="batch"),
                    ai.batches.retrieve(batch.id),
                ):
                    with pytest.raises(openai.InternalServerError) as away:
                        await asked
                    assert (away.value.status_code, away.value.code) == (503, "database_unavailable")
                answer = await ai.chat.completions.create(model=MODEL, messages=USER)
                assert answer.choices[0].message.content
            finally:
                await asyncio.to_thread(postgres.start)
            async with asyncio.timeout(30):
                while (done := await ai.batches.retrieve(batch.id)).status != "completed":
                    await asyncio.sleep(0.1)
            assert done.output_file_id
            lines = (await ai.files.content(done.output_file_id)).text.splitlines()
            assert [json.loads(one)["custom_id"] for one in lines] == [f"r{number}" for number in range(60)]
            assert len([one async for one in ai.batches.list()]) == 1
    for engine in engines:
        engine.dispose()
