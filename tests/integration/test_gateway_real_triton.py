"""The gateway in front of a real Triton with a real language model."""

import asyncio
from collections.abc import AsyncIterator

import openai
import pytest
from lmaas.common.v1 import instance_pb2
from lmaas.scheduler.v1 import status_pb2

from tests.contract.gateway_stage import Stage, staged
from tests.integration.real_triton import RealTriton, real_triton

__all__ = ["real_triton"]

USER = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture
async def stage(real_triton: RealTriton) -> AsyncIterator[Stage]:
    async with staged(instance_count=0) as one:
        instance = instance_pb2.Instance(
            instance_id=f"real/{real_triton.model}",
            model=real_triton.model,
            grpc_address=real_triton.grpc_address,
            server_id="real",
            state="INSTANCE_STATE_READY",
        )
        one.scheduler.instances = [status_pb2.ScheduledInstance(instance=instance)]
        one.scheduler.changed.set()
        yield one


def client(stage: Stage) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{stage.http_url}/v1", api_key="none", max_retries=0, timeout=120)


async def test_a_real_model_answers_and_counts_its_tokens(stage: Stage, real_triton: RealTriton) -> None:
    async with client(stage) as ai:
        answer = await ai.chat.completions.create(
            model=real_triton.model, messages=USER, temperature=0, max_completion_tokens=40
        )
    assert "Paris" in (answer.choices[0].message.content or "")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage
    assert answer.usage.prompt_tokens > 10, "the template counts"
    assert 0 < answer.usage.completion_tokens < 40


async def test_a_real_model_streams_and_is_cut_at_its_limit(stage: Stage, real_triton: RealTriton) -> None:
    async with client(stage) as ai:
        stream = await ai.chat.completions.create(
            model=real_triton.model,
            messages=[{"role": "user", "content": "Tell me a long story about a river."}],
            max_tokens=12,
            stream=True,
            stream_options={"include_usage": True},
        )
        events = [event async for event in stream]
    assert len([event for event in events if event.choices and event.choices[0].delta.content]) > 3
    assert events[-2].choices[0].finish_reason == "length"
    assert events[-1].usage
    assert events[-1].usage.completion_tokens == 12


async def test_what_a_real_model_refuses_is_the_client_s_fault(stage: Stage, real_triton: RealTriton) -> None:
    async with client(stage) as ai:
        with pytest.raises(openai.BadRequestError, match="seed"):
            await ai.chat.completions.create(model=real_triton.model, messages=USER, seed=-1)


async def test_a_real_model_is_cancelled_when_its_client_leaves(stage: Stage, real_triton: RealTriton) -> None:
    async with client(stage) as ai:
        asked = [
            asyncio.create_task(
                ai.chat.completions.create(
                    model=real_triton.model,
                    messages=USER,
                    max_tokens=2000,
                    extra_body={"ignore_eos": True},
                )
            )
            for _ in range(4)
        ]
        async with asyncio.timeout(60):
            while stage.engine.flight_count < 4:
                await asyncio.sleep(0.05)
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        # All four slots must be free again: each of 2,000 tokens would take half a minute.
        async with asyncio.timeout(25):
            answer = await ai.chat.completions.create(model=real_triton.model, messages=USER, max_tokens=5)
    assert answer.choices[0].finish_reason in ("length", "stop")
