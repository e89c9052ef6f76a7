"""OpenAI's Files and Batches as the official openai package and a plain HTTP client see them."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pytest

from forebay.core.errors import ConfigError
from forebay.gateway.config import Config
from forebay.gateway.deferred.config import DeferredConfig
from forebay.gateway.deferred.store import Store
from forebay.gateway.deferred.store_memory import MemoryStore
from forebay.gateway.deferred.values import Job, NewRequest
from forebay.wire.clock import now_us
from tests.contract.gateway_stage import (
    MODEL,
    Stage,
    answers,
    dies_after_three,
    hangs,
    refuses,
    staged,
    until,
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


async def test_a_batch_of_text_completions_is_answered(stage: Stage) -> None:
    body = {"model": MODEL, "prompt": "Hello", "max_tokens": 3}
    lines = [{"custom_id": f"t{n}", "method": "POST", "url": TEXT, "body": body} for n in range(3)]
    async with client(stage) as ai:
        done = await ended(ai, (await submit(ai, *lines, endpoint=TEXT)).id)
        found = await content(ai, done.output_file_id)
    assert [line["response"]["body"]["choices"][0]["text"] for line in found] == ["w0 w1 w2 "] * 3
    assert found[0]["response"]["body"]["object"] == "text_completion"


async def test_the_synchronous_client_works_too(stage: Stage) -> None:
    def run() -> list[str]:
        with openai.OpenAI(base_url=f"{stage.http_url}/v1", api_key="none", max_retries=0) as ai:
            file = ai.files.create(file=as_file(chat("a"), chat("b")), purpose="batch")
            batch = ai.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
            while batch.status != "completed":
                batch = ai.batches.retrieve(batch.id)
            assert batch.output_file_id
            return [json.loads(line)["custom_id"] for line in ai.files.content(batch.output_file_id).iter_lines()]

    assert await asyncio.to_thread(run) == ["a", "b"]


# Files


async def test_files_come_back_are_listed_and_deleted(stage: Stage) -> None:
    async with client(stage) as ai:
        kept = [await ai.files.create(file=(f"n{n}.jsonl", b"x\n" * n), purpose="batch") for n in range(1, 5)]
        assert (kept[1].filename, kept[1].bytes, kept[1].purpose, kept[1].status) == (
            "n2.jsonl",
            4,
            "batch",
            "processed",
        )
        assert (await ai.files.content(kept[2].id)).content == b"x\nx\nx\n"
        assert await ai.files.retrieve(kept[0].id) == kept[0]
        newest = [file.id async for file in ai.files.list(limit=3)]
        assert newest == [file.id for file in reversed(kept)], "the client follows the pages"
        assert [file.id async for file in ai.files.list(order="asc", limit=10)] == [file.id for file in kept]
        assert [file.id async for file in ai.files.list(purpose="vision")] == []
        gone = await ai.files.delete(kept[0].id)
        assert (gone.deleted, gone.id) == (True, kept[0].id)
        for asked in (ai.files.retrieve(kept[0].id), ai.files.content(kept[0].id), ai.files.delete(kept[0].id)):
            with pytest.raises(openai.NotFoundError, match="no file"):
                await asked


async def test_a_large_file_comes_back_as_it_was(stage: Stage) -> None:
    content = bytes(range(256)) * 14_000
    async with client(stage) as ai:
        file = await ai.files.create(file=("big.jsonl", content), purpose="batch")
        assert file.bytes == len(content)
        assert (await ai.files.content(file.id)).content == content


async def test_other_purposes_and_bodies_are_refused(stage: Stage) -> None:
    async with client(stage) as ai:
        with pytest.raises(openai.BadRequestError, match="purpose must be 'batch'") as wrong:
            await ai.files.create(file=as_file(chat("a")), purpose="fine-tune")
    assert wrong.value.param == "purpose"
    async with httpx.AsyncClient(base_url=stage.http_url) as http:
        nothing = await http.post("/v1/files", data={"purpose": "batch"})
        no_form = await http.post("/v1/files", json={"purpose": "batch"})
    for answer in (nothing, no_form):
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "file")
        assert answer.headers["x-request-id"]


async def test_a_file_that_is_too_large_is_refused(stage: Stage) -> None:
    limits = Config(deferred=DeferredConfig(file_bytes_max=10_000))
    async with staged(limits) as small, client(small) as ai:
        with pytest.raises(openai.APIStatusError, match="larger than") as big:
            await ai.files.create(file=("big.jsonl", b"x" * 100_000), purpose="batch")
        assert big.value.status_code == 413

        async def endless() -> AsyncIterator[bytes]:
            head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
            yield head
            for _ in range(100):
                yield b"y" * 10_000

        kind = {"content-type": "multipart/form-data; boundary=x"}
        async with httpx.AsyncClient(base_url=small.http_url) as http:
            unannounced = await http.post("/v1/files", content=endless(), headers=kind)
    assert unannounced.status_code == 413


# Bad batches


def bad(**changes: Any) -> dict[str, Any]:
    return {**chat("b"), **changes}


BAD_LINES: list[tuple[str, Any, str, str]] = [
    ("not json", "{broken", "line 2: is not valid JSON", "invalid_json_line"),
    ("a list", "[1]", "line 2: is not a JSON object", "invalid_json_line"),
    ("another endpoint", bad(url=TEXT), "line 2: url must be the endpoint", "mismatched_endpoint"),
    ("another method", bad(method="GET"), "line 2: method must be POST", "invalid_method"),
    ("no body", bad(body="x"), "line 2: body must be an object", "invalid_body"),
    ("no name", bad(custom_id=None), "line 2: custom_id must be a string", "invalid_custom_id"),
    ("a name twice", bad(custom_id="a"), "line 2: custom_id 'a' is that of line 1 too", "duplicate_custom_id"),
    ("a control character", bad(custom_id="a\0b"), "line 2: custom_id must be", "invalid_custom_id"),
    ("another model", chat("b", model="other"), "line 2: model is 'other'", "mismatched_model"),
    ("no messages", bad(body={"model": MODEL}), "line 2: body: messages must be a list", "invalid_argument"),
    ("a bad limit", chat("b", max_tokens=0), "line 2: body: max_tokens must be from 1", "invalid_argument"),
    ("tools", chat("b", tools=[{}]), "line 2: body: 'tools' is not supported", "unimplemented"),
    ("a stream", chat("b", stream=True), "line 2: body: stream must be false", "invalid_body"),
]


@pytest.mark.parametrize(("line", "message", "code"), [one[1:] for one in BAD_LINES], ids=[one[0] for one in BAD_LINES])
async def test_a_bad_line_is_refused_by_its_number(stage: Stage, line: Any, message: str, code: str) -> None:
    async with client(stage) as ai:
        with pytest.raises(openai.BadRequestError) as caught:
            await submit(ai, chat("a"), line)
        assert not [batch async for batch in ai.batches.list()], "nothing is kept"
    assert message in caught.value.message
    assert (caught.value.code, caught.value.param, caught.value.type) == (
        code,
        "input_file_id",
        "invalid_request_error",
    )
    assert not stage.triton.requests


async def test_bad_batches_are_refused_at_creation(stage: Stage) -> None:
    async with client(stage) as ai:
        good = await upload(ai, chat("a"))

        async def refused(kind: type[openai.APIStatusError], **changes: Any) -> Any:
            values: Any = {"input_file_id": good, "endpoint": CHAT, "completion_window": "24h", **changes}
            with pytest.raises(kind) as caught:
                await ai.batches.create(**values)
            return caught.value

        unknown = await refused(openai.NotFoundError, input_file_id="file-none")
        assert unknown.param == "input_file_id"
        endpoint = await refused(openai.BadRequestError, endpoint="/v1/embeddings")
        assert (endpoint.param, endpoint.code) == ("endpoint", "invalid_endpoint")
        for window in ("0h", "8d", "soon", "24", "99999999999h"):
            assert (await refused(openai.BadRequestError, completion_window=window)).param == "completion_window"
        for metadata in ({"a": 1}, {"k" * 65: "v"}, {"k": "v" * 513}, {str(n): "" for n in range(17)}):
            assert (await refused(openai.BadRequestError, metadata=metadata)).param == "metadata"
        other = await refused(openai.BadRequestError, input_file_id=await upload(ai, chat("a", model="nobody")))
        assert "line 1: the model 'nobody' does not exist; known models: llama" in other.message
        assert other.code == "model_not_found"
        empty = await refused(openai.BadRequestError, input_file_id=await upload(ai, "", " "))
        assert empty.code == "empty_file"
        done = await ended(ai, (await submit(ai, chat("a"))).id)
        output = await refused(openai.NotFoundError, input_file_id=done.output_file_id)
        assert output.code == "file_not_found"


async def test_names_that_cannot_be_are_not_found(stage: Stage) -> None:
    async with httpx.AsyncClient(base_url=stage.http_url) as http:
        for path in ("/v1/files/a%00b", "/v1/batches/a%00b", "/v1/files/%F0%9F/content", f"/v1/batches/{'x' * 200}"):
            assert (await http.get(path)).status_code == 404, path
        body = {"input_file_id": "\ud800", "endpoint": CHAT, "completion_window": "24h"}
        broken = await http.post("/v1/batches", content=json.dumps(body))
        assert (broken.status_code, broken.json()["error"]["param"]) == (404, "input_file_id")
        body = {**body, "input_file_id": "file-1", "metadata": {"a": "\ud800"}}
        answer = await http.post("/v1/batches", content=json.dumps(body))
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "metadata")
        for content in (b"[]", b"{", b"", b"x" * 100_000):
            assert (await http.post("/v1/batches", content=content)).status_code in (400, 413)


async def test_too_many_and_too_large_requests_are_refused() -> None:
    config = Config(body_bytes_max=2_000, deferred=DeferredConfig(requests_max=3))
    async with staged(config) as stage, client(stage) as ai:
        with pytest.raises(openai.BadRequestError, match="line 4: a batch has at most 3 requests"):
            await submit(ai, *(chat(f"r{n}") for n in range(4)))
        with pytest.raises(openai.BadRequestError, match="line 2: body is larger than 2000 bytes"):
            await submit(ai, chat("a"), chat("b", "x" * 2_000))
        with pytest.raises(openai.BadRequestError, match="line 1: is longer than"):
            await submit(ai, "x" * 10_000)
        assert (await submit(ai, *(chat(f"r{n}") for n in range(3)))).request_counts.total == 3


# Lists, tenants, keys


async def test_batches_are_listed_newest_first_by_pages(stage: Stage) -> None:
    async with client(stage) as ai:
        ids = [(await submit(ai, chat("a"))).id for _ in range(5)]
        page = await ai.batches.list(limit=2)
        assert ([batch.id for batch in page.data], page.has_more) == ([ids[4], ids[3]], True)
        assert [batch.id async for batch in ai.batches.list(limit=2)] == ids[::-1]
        with pytest.raises(openai.NotFoundError):
            await ai.batches.list(after="batch_none")
        with pytest.raises(openai.BadRequestError, match="limit must be from 1 to 100"):
            await ai.batches.list(limit=101)


async def test_a_tenant_sees_its_own_work_only(stage: Stage) -> None:
    async with client(stage, **{"x-forebay-tenant": "blue"}) as blue, client(stage) as other:
        batch = await ended(blue, (await submit(blue, chat("a"))).id)
        assert [one.id async for one in blue.batches.list()] == [batch.id]
        assert [one.id async for one in other.batches.list()] == []
        assert [one.id async for one in other.files.list()] == []
        for asked in (
            other.batches.retrieve(batch.id),
            other.batches.cancel(batch.id),
            other.files.retrieve(batch.input_file_id),
            other.files.content(batch.output_file_id),
            other.batches.create(input_file_id=batch.input_file_id, endpoint=CHAT, completion_window="24h"),
        ):
            with pytest.raises(openai.NotFoundError):
                await asked
    assert {request.tenant for request in stage.scheduler.arrived} == {"blue"}


async def test_an_idempotency_key_makes_one_batch(stage: Stage) -> None:
    async with client(stage) as ai:
        file_id = await upload(ai, chat("a"))
        values: Any = {"input_file_id": file_id, "endpoint": CHAT, "completion_window": "24h"}
        keyed = {"idempotency-key": "night-1"}
        first = await ai.batches.create(**values, extra_headers=keyed)
        again = await ai.batches.create(**values, extra_headers=keyed)
        assert first.id == again.id
        values["input_file_id"] = await upload(ai, chat("b"))
        with pytest.raises(openai.ConflictError, match="another job"):
            await ai.batches.create(**values, extra_headers=keyed)
        assert len([one async for one in ai.batches.list()]) == 1


# Errors of single requests, cancelling, expiring


async def test_a_request_that_the_model_refuses_stands_in_the_error_file(stage: Stage) -> None:
    stage.triton.script = refuses
    async with client(stage) as ai:
        done = await ended(ai, (await submit(ai, chat("a"))).id)
        assert (done.status, done.output_file_id) == ("completed", None)
        assert done.request_counts.failed == 1
        [line] = await content(ai, done.error_file_id)
    assert (line["custom_id"], line["error"], line["response"]["status_code"]) == ("a", None, 400)
    assert line["response"]["body"]["error"]["code"] == "refused_by_model"


async def test_a_broken_answer_is_asked_for_again_and_comes_whole(stage: Stage) -> None:
    stage.triton.script = dies_after_three
    async with client(stage) as ai:
        batch = await submit(ai, chat("a"))
        await until(lambda: len(stage.triton.requests) >= 2, "a second attempt")
        stage.triton.script = answers
        done = await ended(ai, batch.id)
        [line] = await content(ai, done.output_file_id)
    assert line["response"]["body"]["choices"][0]["message"]["content"] == WORDS


async def test_an_answer_that_always_breaks_is_given_up(stage: Stage) -> None:
    stage.triton.script = dies_after_three
    async with client(stage) as ai:
        done = await ended(ai, (await submit(ai, chat("a"))).id)
        [line] = await content(ai, done.error_file_id)
    assert line["response"]["status_code"] == 502
    assert len(stage.triton.requests) == FAST.deferred.attempts_max


async def test_a_request_without_room_is_tried_until_there_is_some(stage: Stage) -> None:
    place = stage.scheduler.answer
    stage.scheduler.answer = lambda request: stage.scheduler.retry(request, "HELD_TOO_LONG", 0.05)
    async with client(stage) as ai:
        batch = await submit(ai, chat("a"))
        await until(lambda: len(stage.scheduler.arrived) > FAST.deferred.attempts_max + 3, "many attempts")
        assert (await ai.batches.retrieve(batch.id)).request_counts.failed == 0
        stage.scheduler.answer = place
        assert (await ended(ai, batch.id)).request_counts.completed == 1


async def test_a_cancelled_batch_keeps_what_is_answered(stage: Stage) -> None:
    async with client(stage) as ai:
        first = await submit(ai, *(chat(f"r{n}", f"Hello {n}") for n in range(40)))
        await until(lambda: len(stage.triton.requests) >= 10, "some answers")
        stage.triton.script = hangs
        await until(lambda: stage.triton.cancelled_count == 0 and stage.engine.flight_count == 8, "a full window")
        stopping = await ai.batches.cancel(first.id)
        assert stopping.status in ("cancelling", "cancelled")
        done = await ended(ai, first.id)
        assert done.status == "cancelled"
        assert done.cancelling_at <= done.cancelled_at
        counts = done.request_counts
        assert (counts.completed + counts.failed, counts.completed > 0, counts.failed >= 8) == (40, True, True)
        answered = await content(ai, done.output_file_id)
        errors = await content(ai, done.error_file_id)
        assert (await ai.batches.cancel(first.id)).status == "cancelled"
    assert {one["error"]["code"] for one in errors} == {"batch_cancelled"}
    assert {one["response"] for one in errors} == {None}
    assert {one["custom_id"] for one in answered + errors} == {f"r{n}" for n in range(40)}
    await until(lambda: stage.engine.flight_count == 0, "the instances are free")


async def test_a_batch_past_its_deadline_expires_with_what_is_answered(stage: Stage) -> None:
    stage.triton.script = hangs
    async with client(stage) as ai:
        done = await ended(ai, (await submit(ai, *(chat(f"r{n}") for n in range(20)), window="1s")).id)
        assert (done.status, done.request_counts.failed, done.output_file_id) == ("expired", 20, None)
        errors = await content(ai, done.error_file_id)
    assert {one["error"]["code"] for one in errors} == {"batch_expired"}
    await until(lambda: stage.engine.flight_count == 0, "the instances are free")


# Several gateways


async def test_the_claims_of_a_dead_gateway_run_out_and_its_work_is_done() -> None:
    store, now = MemoryStore(), now_us()
    job = Job("batch_1", "default", TEXT, "", "", 3_600, now, now + 3_600_000_000)
    body = json.dumps({"model": MODEL, "prompt": "Hello"})
    store.keep_job(job, (NewRequest(n, f"r{n}", MODEL, body) for n in range(1, 6)), "", now)
    assert len(store.claim("batch_1", "dead", 3, now, now + 1_500_000)) == 3
    async with staged(FAST, open_store=lambda: store) as stage, client(stage) as ai:
        await until(lambda: len(stage.triton.requests) == 2, "what was free is answered")
        done = await ended(ai, "batch_1")
        assert (done.status, done.request_counts.completed) == ("completed", 5)
    assert now_us() - now > 1_500_000
    assert len(stage.triton.requests) == 5


async def test_several_gateways_share_the_work_of_one_store() -> None:
    store = MemoryStore()
    async with staged(FAST, open_store=lambda: store) as one, staged(FAST, open_store=lambda: store) as other:
        one.triton.pause_s = other.triton.pause_s = 0.01
        async with client(one) as ai, client(other) as there:
            batch = await submit(ai, *(chat(f"r{n}") for n in range(80)))
            done = await ended(there, batch.id)
            assert done.request_counts.completed == 80
            lines = await content(there, done.output_file_id)
    assert [line["custom_id"] for line in lines] == [f"r{n}" for n in range(80)]
    assert len(one.triton.requests) + len(other.triton.requests) == 80
    assert min(len(one.triton.requests), len(other.triton.requests)) > 10


# Parts that are down


async def test_while_the_scheduler_is_away_nothing_starts_and_then_it_goes_on(stage: Stage) -> None:
    async def without() -> None:
        async with client(stage) as ai:
            batch = await submit(ai, *(chat(f"r{n}") for n in range(5)))
            stage.batch_id = batch.id  # type: ignore[attr-defined]
        await asyncio.sleep(0.4)
        assert not stage.triton.requests

    await stage.restart_scheduler(stop_first=without)
    async with client(stage) as ai:
        assert (await ended(ai, stage.batch_id)).request_counts.completed == 5  # type: ignore[attr-defined]


async def test_without_its_database_only_deferred_work_is_refused() -> None:
    opened: list[Store] = []

    def open_store() -> Store:
        if not opened:
            raise ConfigError("cannot open the database")
        return opened[0]

    async with staged(FAST, open_store=open_store) as stage, client(stage) as ai:
        for asked in (
            ai.files.create(file=as_file(chat("a")), purpose="batch"),
            ai.batches.create(input_file_id="file-1", endpoint=CHAT, completion_window="24h"),
        ):
            with pytest.raises(openai.InternalServerError, match="its database does not answer") as away:
                await asked
            assert away.value.status_code == 503
            assert away.value.response.headers["retry-after"] == "1"
        answer = await ai.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Hello"}])
        assert answer.choices[0].message.content == WORDS
        opened.append(MemoryStore())
        await asyncio.sleep(1.1)
        assert (await ended(ai, (await submit(ai, chat("a"))).id)).status == "completed"


async def test_switched_off_there_are_no_routes() -> None:
    async with staged(Config(deferred=DeferredConfig(enabled=False))) as stage, client(stage) as ai:
        with pytest.raises(openai.NotFoundError):
            await ai.batches.list()


async def test_prompts_are_never_logged(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    async with client(stage) as ai:
        stage.triton.script = refuses
        await ended(ai, (await submit(ai, chat("a", "the SECRET prompt"))).id)
        stage.triton.script = answers
        await ended(ai, (await submit(ai, chat("a", "the SECRET prompt"))).id)
        with pytest.raises(openai.BadRequestError):
            await submit(ai, chat("a", "the SECRET prompt", max_tokens=0))
    ours = [one for one in caplog.records if one.name.startswith(("forebay", "sqlalchemy", "uvicorn"))]
    assert ours
    assert not [one for one in ours if "SECRET" in f"{one.getMessage()} {one.__dict__}"]
