"""The gateway's HTTP front as the official openai package and a plain HTTP client see it."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pytest

from forebay.gateway.config import Config
from forebay.gateway.values import RequestStatus
from tests.contract.gateway_stage import (
    MODEL,
    Script,
    Stage,
    answers,
    cancels,
    dies_after_three,
    dies_at_once,
    ends_too_early,
    hangs,
    hangs_after_three,
    refuses,
    says_error,
    staged,
    talks_for_ever,
    until,
)

USER: Any = [{"role": "user", "content": "Hello"}]
WORDS = "w0 w1 w2 w3 w4 "
CHAT = {"model": MODEL, "messages": USER}


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with staged() as one:
        yield one


def client(stage: Stage) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{stage.http_url}/v1", api_key="none", max_retries=0)


async def post(stage: Stage, path: str = "/v1/chat/completions", **options: Any) -> httpx.Response:
    async with httpx.AsyncClient(base_url=stage.http_url, timeout=30) as http:
        return await http.post(path, **options)


# The official client


async def test_a_chat_completion_holds_text_reason_and_the_model_s_own_counts(stage: Stage) -> None:
    async with client(stage) as ai:
        answer = await ai.chat.completions.create(model=MODEL, messages=USER)
    assert answer.choices[0].message.content == WORDS
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (7, 5, 12)


async def test_a_chat_completion_streams(stage: Stage) -> None:
    async with client(stage) as ai:
        stream = await ai.chat.completions.create(
            model=MODEL, messages=USER, stream=True, stream_options={"include_usage": True}
        )
        events = [event async for event in stream]
    assert events[0].choices[0].delta.role == "assistant"
    texts = [event.choices[0].delta.content or "" for event in events if event.choices]
    assert "".join(texts) == WORDS
    assert len(texts) == 7
    assert [event.choices[0].finish_reason for event in events if event.choices][-1] == "stop"
    assert events[-1].usage
    assert events[-1].usage.completion_tokens == 5
    assert len({event.id for event in events}) == 1


async def test_a_text_completion_answers_whole_and_streamed(stage: Stage) -> None:
    async with client(stage) as ai:
        whole = await ai.completions.create(model=MODEL, prompt="Hello", max_tokens=3)
        stream = await ai.completions.create(model=MODEL, prompt="Hello", max_tokens=3, stream=True)
        texts = [event.choices[0].text async for event in stream]
    assert (whole.choices[0].text, whole.choices[0].finish_reason) == ("w0 w1 w2 ", "length")
    assert "".join(texts) == "w0 w1 w2 "


async def test_the_synchronous_client_works_too(stage: Stage) -> None:
    def ask() -> tuple[str | None, str]:
        with openai.OpenAI(base_url=f"{stage.http_url}/v1", api_key="none", max_retries=0) as ai:
            whole = ai.chat.completions.create(model=MODEL, messages=USER)
            stream = ai.chat.completions.create(model=MODEL, messages=USER, stream=True)
            return whole.choices[0].message.content, "".join(one.choices[0].delta.content or "" for one in stream)

    assert await asyncio.to_thread(ask) == (WORDS, WORDS)


async def test_models_are_listed_and_described(stage: Stage) -> None:
    async with client(stage) as ai:
        assert [model.id async for model in ai.models.list()] == [MODEL]
        assert (await ai.models.retrieve(MODEL)).id == MODEL
        with pytest.raises(openai.NotFoundError, match="known models: llama"):
            await ai.models.retrieve("nobody")


async def test_the_client_s_exceptions_fit_our_errors(stage: Stage) -> None:
    async with client(stage) as ai:
        with pytest.raises(openai.NotFoundError, match="known models: llama") as unknown:
            await ai.chat.completions.create(model="nobody", messages=USER)
        with pytest.raises(openai.BadRequestError) as bad:
            await ai.chat.completions.create(model=MODEL, messages=USER, n=2)
        stage.scheduler.answer = lambda request: stage.scheduler.retry(request, "HELD_TOO_LONG", 1.5)
        with pytest.raises(openai.RateLimitError) as full:
            await ai.chat.completions.create(model=MODEL, messages=USER)
    assert unknown.value.code == "model_not_found"
    assert bad.value.param == "n"
    assert full.value.response.headers["retry-after"] == "2"


async def test_the_client_s_own_retries_get_through(stage: Stage) -> None:
    def second_time(request: Any) -> Any:
        stage.scheduler.answer = stage.scheduler.place
        return stage.scheduler.retry(request, "QUEUE_FULL", 0.01)

    stage.scheduler.answer = second_time
    async with client(stage).with_options(max_retries=1) as ai:
        answer = await ai.chat.completions.create(model=MODEL, messages=USER)
    assert answer.choices[0].message.content == WORDS


# What goes to the instance and to the scheduler


async def test_the_instance_gets_prompt_and_sampling_parameters(stage: Stage) -> None:
    async with client(stage) as ai:
        await ai.chat.completions.create(
            model=MODEL, messages=USER, temperature=0.5, top_p=0.9, stop=["END"], seed=7, max_tokens=4
        )
    request = stage.triton.requests[-1]
    assert stage.triton.text() == "Hello"
    sampling = {"temperature": 0.5, "top_p": 0.9, "stop": ["END"], "seed": 7, "max_tokens": 4}
    assert stage.triton.sampling(request) == sampling
    assert request.parameters["priority"].uint64_param == 2
    assert stage.triton.metadata[-1]["triton_grpc_error"] == "true"


async def test_the_scheduler_learns_what_it_needs_and_nothing_of_the_answer(stage: Stage) -> None:
    headers = {
        "x-forebay-slo-class": "interactive-fast",
        "x-forebay-tenant": "acme",
        "x-forebay-application": "translation",
    }
    await post(stage, json={**CHAT, "max_tokens": 4, "temperature": 0.25}, headers=headers)
    [arrived] = stage.scheduler.arrived
    assert (arrived.model, arrived.tokens_max, arrived.temperature) == (MODEL, 4, 0.25)
    assert (arrived.slo_class, arrived.tenant, arrived.application) == (1, "acme", "translation")
    assert (arrived.prompt_tokens, arrived.prompt_head) == (2, "Hello")
    assert (arrived.turn_number, arrived.system_digest) == (1, "")
    await until(lambda: stage.scheduler.finished)
    [finished] = stage.scheduler.finished
    assert (finished.lease_id, finished.outcome, finished.generated_tokens) == ("lease-1", 2, 4)
    assert finished.prompt_tokens == 7


async def test_answers_say_who_decided_and_where_they_come_from(stage: Stage) -> None:
    for stream in (False, True):
        answer = await post(stage, json={**CHAT, "stream": stream}, headers={"x-request-id": "my-id"})
        assert answer.headers["x-request-id"] == "my-id"
        assert answer.headers["x-forebay-instance"] == "t0/llama"
        assert answer.headers["x-forebay-decision-id"].startswith("decision-")
        assert answer.headers["x-forebay-predicted-tokens"] == "1,5,9,12"


async def test_clients_that_repeat_an_id_do_not_meet(stage: Stage) -> None:
    stage.triton.pause_s = 0.05
    asked = [post(stage, json=CHAT, headers={"x-request-id": "same"}) for _ in range(3)]
    found = await asyncio.gather(*asked)
    assert [one.status_code for one in found] == [200, 200, 200]
    assert len({arrived.request_id for arrived in stage.scheduler.arrived}) == 3


async def test_prompt_tokens_are_estimated_better_once_the_model_has_counted(stage: Stage) -> None:
    long = {"model": MODEL, "messages": [{"role": "user", "content": "x" * 700}]}
    for _ in range(40):
        await post(stage, json=long)
    first, last = stage.scheduler.arrived[0].prompt_tokens, stage.scheduler.arrived[-1].prompt_tokens
    assert first == 175
    assert abs(last - 7) < 5, "the instance counts 7"


# Records


async def test_every_request_leaves_one_record(stage: Stage) -> None:
    await post(stage, json=CHAT)
    stage.scheduler.answer = lambda request: stage.scheduler.reject(request, "PROMPT_TOO_LONG")
    assert (await post(stage, json=CHAT)).status_code == 400
    stage.scheduler.answer = stage.scheduler.place
    stage.triton.script = dies_at_once
    assert (await post(stage, json=CHAT)).status_code == 502
    records = await stage.records(3)
    statuses = [(one.status, one.error_reason, one.attempt_count) for one in records]
    assert statuses == [
        (RequestStatus.OK, "", 1),
        (RequestStatus.REJECTED, "PROMPT_TOO_LONG", 0),
        (RequestStatus.FAILED, "ABORTED", 1),
    ]
    assert records[0].predicted_length.p97_tokens == 12
    assert records[0].predicted_by == "test"
    assert records[0].time_to_first_token.ToMicroseconds() > 0


# Bad input


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"", None),
        (b"{", None),
        (b'{"model": "llama", "messages": [{"role": "user", "content": "\xff\xfe"}]}', None),
        (b"[" * 200_000, None),
        (json.dumps({**CHAT, "max_tokens": -5}).encode(), "max_tokens"),
        (json.dumps({**CHAT, "max_tokens": 10**12}).encode(), "max_tokens"),
        (json.dumps({**CHAT, "temperature": "warm"}).encode(), "temperature"),
        (json.dumps({**CHAT, "messages": []}).encode(), "messages"),
        (b'{"model": "llama", "messages": [{"role": "user", "content": "\\ud800"}]}', "messages[0].content"),
    ],
)
async def test_a_bad_body_is_refused_in_openai_s_form(stage: Stage, body: bytes, param: str | None) -> None:
    answer = await post(stage, content=body)
    error = answer.json()["error"]
    assert answer.status_code == 400
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert set(error) == {"message", "type", "param", "code"}
    assert not stage.scheduler.arrived


async def test_a_body_that_is_announced_too_large_is_refused_before_it_is_sent(stage: Stage) -> None:
    host, port = stage.http_url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 100000000\r\nexpect: 100-continue\r\n\r\n"
    )
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    assert head.startswith(b"HTTP/1.1 413")
    writer.close()
    await writer.wait_closed()


async def test_a_body_that_turns_out_too_large_is_refused(stage: Stage) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 65536

    answer = await post(stage, content=endless())
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "body_too_large"


async def test_a_body_that_takes_too_long_is_refused() -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(1)
        yield b"}"

    async with staged(Config(body_timeout_s=0.2)) as stage:
        assert (await post(stage, content=slow())).status_code == 408


async def test_a_head_without_end_is_refused(stage: Stage) -> None:
    host, port = stage.http_url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /v1/models HTTP/1.1\r\nx: " + b"y" * 1_000_000)
    # The answer may be lost, since the connection is closed while the client still sends.
    said = (await asyncio.gather(asyncio.wait_for(reader.readline(), 10), return_exceptions=True))[0]
    assert isinstance(said, ConnectionError) or said.startswith(b"HTTP/1.1 400")
    writer.close()
    assert (await post(stage, json=CHAT)).status_code == 200


async def test_a_head_that_takes_too_long_is_given_up() -> None:
    async with staged(Config(body_timeout_s=0.2)) as stage:
        host, port = stage.http_url.removeprefix("http://").split(":")
        for head in (b"", b"GET /v1/models HT"):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(head)
            assert await asyncio.wait_for(reader.read(), 10) == b""
            writer.close()
        assert (await post(stage, json=CHAT)).status_code == 200


async def test_connections_are_used_again(stage: Stage) -> None:
    async with httpx.AsyncClient(base_url=stage.http_url, limits=httpx.Limits(max_connections=1)) as http:
        for number in range(6):
            answer = await http.post("/v1/chat/completions", json={**CHAT, "stream": number % 2 == 0})
            assert answer.status_code == 200


@pytest.mark.parametrize("name", ["x-forebay-slo-class", "x-forebay-tenant"])
async def test_a_bad_header_is_named(stage: Stage, name: str) -> None:
    answer = await post(stage, json=CHAT, headers={name: "x" * 200})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, name)


async def test_unknown_paths_and_methods_are_refused_in_openai_s_form(stage: Stage) -> None:
    assert (await post(stage, "/v1/embeddings", json={})).status_code == 404
    wrong = await post(stage, "/v1/models", json={})
    assert (wrong.status_code, wrong.json()["error"]["type"]) == (405, "invalid_request_error")


async def test_a_bug_tells_nothing(stage: Stage) -> None:
    def bug(_: Any) -> Any:
        raise RuntimeError("secret")

    stage.loop.arrive = bug  # type: ignore[method-assign]
    answer = await post(stage, json=CHAT)
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal"
    assert "secret" not in answer.text


# When there is no room


@pytest.mark.parametrize(
    ("reason", "status"), [("NO_INSTANCE_READY", 503), ("HELD_TOO_LONG", 429), ("QUEUE_FULL", 429)]
)
async def test_a_no_for_now_says_when_to_come_back(stage: Stage, reason: str, status: int) -> None:
    stage.scheduler.answer = lambda request: stage.scheduler.retry(request, reason, 2.5)
    answer = await post(stage, json={**CHAT, "stream": True})
    assert (answer.status_code, answer.headers["retry-after"]) == (status, "3")
    assert answer.json()["error"]["code"] == reason.lower()


async def test_more_requests_than_the_limit_are_refused_at_once() -> None:
    async with staged(Config(requests_max=1)) as stage:
        stage.triton.script = hangs
        first = asyncio.create_task(post(stage, json=CHAT))
        await until(lambda: stage.triton.requests)
        answer = await post(stage, json=CHAT)
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "2")
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)


# When instances fail


@pytest.mark.parametrize("script", [dies_at_once, says_error, cancels])
@pytest.mark.parametrize("stream", [False, True])
async def test_before_the_first_token_another_instance_takes_over(script: Script, stream: bool) -> None:
    async with staged(instance_count=2) as stage:
        stage.triton.script = script
        answer = await post(stage, json={**CHAT, "stream": stream})
        assert answer.status_code == 200
        assert answer.headers["x-forebay-instance"] == "t1/llama"
        [record] = await stage.records(1)
        assert (record.status, record.attempt_count, record.instance_id) == (RequestStatus.OK, 2, "t1/llama")
        await until(lambda: len(stage.scheduler.finished) == 2)
        assert [one.outcome for one in stage.scheduler.finished] == [3, 1]
        assert list(stage.scheduler.arrived[1].excluded_instance_ids) == ["t0/llama"]


async def test_an_instance_that_is_not_there_is_replaced() -> None:
    async with staged(instance_count=2) as stage:
        await stage.triton.server.stop(0)
        answer = await post(stage, json=CHAT)
        assert (answer.status_code, answer.headers["x-forebay-instance"]) == (200, "t1/llama")


async def test_an_instance_that_is_silent_is_replaced() -> None:
    async with staged(Config(first_token_timeout_s=0.3), instance_count=2) as stage:
        stage.triton.script = hangs
        answer = await post(stage, json=CHAT)
        assert (answer.status_code, answer.headers["x-forebay-instance"]) == (200, "t1/llama")
        await until(lambda: stage.triton.cancelled_count == 1)


async def test_instances_that_are_all_silent_time_out() -> None:
    async with staged(Config(first_token_timeout_s=0.2), instance_count=2) as stage:
        for triton in stage.tritons:
            triton.script = hangs
        answer = await post(stage, json={**CHAT, "stream": True})
        assert (answer.status_code, answer.json()["error"]["type"]) == (504, "timeout_error")


async def test_no_more_instances_are_tried_than_allowed() -> None:
    async with staged(Config(attempts_max=2), instance_count=4) as stage:
        for triton in stage.tritons:
            triton.script = dies_at_once
        answer = await post(stage, json=CHAT)
        assert (answer.status_code, answer.json()["error"]["type"]) == (502, "upstream_error")
        assert [len(triton.requests) for triton in stage.tritons] == [1, 1, 0, 0]


async def test_what_the_model_refuses_is_told_and_not_tried_elsewhere() -> None:
    async with staged(instance_count=2) as stage:
        stage.triton.script = refuses
        answer = await post(stage, json=CHAT)
        assert answer.status_code == 400
        assert "seed must be positive" in answer.json()["error"]["message"]
        assert not stage.tritons[1].requests


@pytest.mark.parametrize("script", [dies_after_three, hangs_after_three, ends_too_early])
async def test_after_the_first_token_the_stream_ends_with_an_error_and_what_was_sent_stands(script: Script) -> None:
    async with staged(Config(inter_token_timeout_s=0.3), instance_count=2) as stage:
        stage.triton.script = script
        texts = []
        async with client(stage) as ai:
            stream = await ai.chat.completions.create(model=MODEL, messages=USER, stream=True)
            with pytest.raises(openai.APIError, match="instance t0/llama"):  # noqa: PT012 - the loop raises
                async for event in stream:
                    texts.append(event.choices[0].delta.content or "")
        assert "".join(texts).startswith("w0 ")
        assert not stage.tritons[1].requests
        [record] = await stage.records(1)
        assert (record.status, record.response_tokens) == (RequestStatus.FAILED, len(texts) - 1)


async def test_a_whole_answer_that_breaks_off_is_an_error() -> None:
    async with staged(instance_count=2) as stage:
        stage.triton.script = dies_after_three
        assert (await post(stage, json=CHAT)).status_code == 502


# When clients leave


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_cancels_its_request_on_the_instance(stage: Stage, stream: bool) -> None:
    stage.triton.script, stage.triton.pause_s = talks_for_ever, 0.01
    leaving = asyncio.create_task(post(stage, json={**CHAT, "stream": stream}))
    await until(lambda: stage.engine.flight_count == 1 and stage.triton.requests)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    await until(lambda: stage.triton.cancelled_count == 1, "the cancellation on the instance")
    [record] = await stage.records(1)
    assert record.status == RequestStatus.CANCELLED
    await until(lambda: stage.scheduler.finished)
    assert stage.scheduler.finished[0].outcome == 4


async def test_a_client_that_leaves_while_it_waits_is_withdrawn(stage: Stage) -> None:
    stage.scheduler.answer = lambda _: None
    leaving = asyncio.create_task(post(stage, json=CHAT))
    await until(lambda: stage.scheduler.arrived)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    await until(lambda: stage.scheduler.cancelled == [stage.scheduler.arrived[0].request_id])


async def test_a_finished_request_is_not_cancelled_on_the_instance(stage: Stage) -> None:
    for _ in range(20):
        await post(stage, json=CHAT)
        await post(stage, json={**CHAT, "stream": True})
    assert stage.triton.cancelled_count == 0
    assert {one.outcome for one in stage.scheduler.finished} == {1}


async def test_a_client_that_does_not_read_holds_up_nobody_else(stage: Stage) -> None:
    stage.triton.script, stage.triton.padding = talks_for_ever, 20_000
    host, port = stage.http_url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
    body = json.dumps({**CHAT, "stream": True}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n".encode()
    writer.write(head + body)
    await reader.readexactly(20)

    async def stalled() -> bool:
        before = stage.triton.talked_count
        await asyncio.sleep(0.3)
        return stage.triton.talked_count == before > 0

    async with asyncio.timeout(20):
        while not await stalled():
            pass
    stage.triton.script = answers
    assert (await asyncio.wait_for(post(stage, json=CHAT), 10)).status_code == 200
    writer.close()
    await until(lambda: stage.triton.cancelled_count == 1)


# Health


async def test_health_and_readiness_are_told(stage: Stage) -> None:
    async with httpx.AsyncClient(base_url=stage.http_url) as http:
        assert (await http.get("/healthz")).json() == {"status": "ok"}
        assert (await http.get("/readyz")).json() == {"status": "ok", "scheduler": "linked"}


async def test_the_gateway_s_own_metrics_count_what_happened(stage: Stage) -> None:
    await post(stage, json=CHAT)
    await post(stage, json={**CHAT, "model": "nobody"})
    await stage.records(2)

    def value(name: str, **labels: str) -> float | None:
        return stage.registry.get_sample_value(f"forebay_gateway_{name}", labels)

    assert value("requests_total", model=MODEL, status="OK") == 1
    assert value("requests_total", model="unknown", status="REJECTED") == 1
    assert value("tokens_total", model=MODEL, kind="response") == 5
    assert value("time_to_first_token_seconds_count", model=MODEL) == 1
    assert value("in_flight_requests") == 0
    assert value("scheduler_linked") == 1
