"""OpenAI's protocol of an emulated server, by the official client."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai
import pytest

from tests.integration.emulated_triton import EmulatedTriton, start_emulator

USER: Any = [{"role": "user", "content": "How deep is the pool?"}]


@pytest.fixture(scope="module")
def emulator() -> Iterator[EmulatedTriton]:
    made = start_emulator("--model=llama=H100/Llama-3-8B")
    yield made
    made.terminate()


@pytest.fixture
async def ai(emulator: EmulatedTriton) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"http://{emulator.http_address}/v1", api_key="none", max_retries=0
    ) as client:
        yield client


async def test_a_chat_comes_whole_or_as_a_stream_with_the_same_words_and_counts(ai: openai.AsyncOpenAI) -> None:
    whole = await ai.chat.completions.create(model="llama", messages=USER, max_tokens=12)
    stream = await ai.chat.completions.create(
        model="llama", messages=USER, max_tokens=12, stream=True, stream_options={"include_usage": True}
    )
    events = [event async for event in stream]
    text = "".join(event.choices[0].delta.content or "" for event in events if event.choices)
    assert text == whole.choices[0].message.content
    assert events[-1].usage == whole.usage
    assert [event.choices[0].finish_reason for event in events if event.choices][-1] == "length"


async def test_a_text_is_completed_and_models_are_listed(ai: openai.AsyncOpenAI) -> None:
    answer = await ai.completions.create(model="llama", prompt="The pool")
    assert answer.usage
    assert answer.usage.completion_tokens == 16
    assert [model.id for model in (await ai.models.list()).data] == ["llama"]


async def test_what_cannot_be_answered_is_refused(ai: openai.AsyncOpenAI, emulator: EmulatedTriton) -> None:
    with pytest.raises(openai.NotFoundError):
        await ai.completions.create(model="nobody's", prompt="a")
    with pytest.raises(openai.BadRequestError, match="longer than"):
        await ai.completions.create(model="llama", prompt="word " * 200_000)
    with pytest.raises(openai.BadRequestError):
        await ai.completions.create(model="llama", prompt="")
    emulator.inject({"refuse": 1})
    with pytest.raises(openai.InternalServerError):
        await ai.completions.create(model="llama", prompt="a")
    emulator.inject({"refuse": 0})


async def test_a_client_that_leaves_ends_its_request(ai: openai.AsyncOpenAI, emulator: EmulatedTriton) -> None:
    stream = await ai.chat.completions.create(
        model="llama", messages=USER, max_tokens=4000, stream=True, extra_body={"ignore_eos": True}
    )
    await anext(aiter(stream))
    await stream.close()
    async with asyncio.timeout(20):
        while not emulator.metric("nv_inference_request_failure", 'reason="CANCELED"'):
            await asyncio.sleep(0.05)
