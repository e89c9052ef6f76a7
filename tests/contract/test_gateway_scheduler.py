"""The gateway's side of the Schedule stream: what it says, and what it does when nobody answers."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import httpx
import pytest
from lmaas.scheduler.v1 import scheduler_service_pb2
from tritonclient.grpc import service_pb2_grpc

from forebay.gateway.config import Config
from forebay.gateway.values import RequestStatus
from forebay.wire import validate
from tests.contract.gateway_stage import MODEL, Stage, answers, staged, talks_for_ever, until

CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]}


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with staged() as one:
        yield one


async def post(stage: Stage, **values: Any) -> httpx.Response:
    async with httpx.AsyncClient(timeout=30) as http:
        return await http.post(f"{stage.http_url}/v1/chat/completions", json={**CHAT, **values})


async def test_a_stream_begins_with_resume(stage: Stage) -> None:
    [resume] = stage.scheduler.resumes
    assert resume.gateway_id == "gateway-1"
    assert not resume.open_leases


async def test_all_messages_keep_the_contract_s_rules(stage: Stage) -> None:
    await post(stage, max_tokens=1_048_576, temperature=2)
    await until(lambda: stage.scheduler.finished)
    for message in (*stage.scheduler.resumes, *stage.scheduler.arrived, *stage.scheduler.finished):
        validate.check(message)


async def test_running_requests_are_renewed_and_told(stage: Stage) -> None:
    stage.triton.script, stage.triton.pause_s = talks_for_ever, 0.05
    asked = asyncio.create_task(post(stage))
    await until(lambda: len(stage.scheduler.progressed) >= 2, "two renewals")
    first, second = stage.scheduler.progressed[:2]
    assert first.lease_id == second.lease_id == "lease-1"
    assert 0 < first.generated_tokens < second.generated_tokens
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)


async def test_requests_go_on_without_a_scheduler_and_are_handed_to_the_next_one(stage: Stage) -> None:
    stage.triton.script, stage.triton.pause_s = talks_for_ever, 0.02
    before = asyncio.create_task(post(stage))
    await until(lambda: stage.engine.flight_count == 1 and stage.triton.requests)

    async def meanwhile() -> None:
        during.append(asyncio.create_task(post(stage)))
        await until(lambda: len(stage.triton.requests) == 2, "a request that the gateway placed")
        stage.triton.script = answers
        answer = await post(stage)
        assert answer.status_code == 200
        assert "x-forebay-decision-id" not in answer.headers
        assert "x-forebay-predicted-tokens" not in answer.headers

    during: list[asyncio.Task[httpx.Response]] = []
    await stage.restart_scheduler(meanwhile)
    await until(lambda: len(stage.scheduler.resumes) == 2)
    leases = {one.lease_id: one for one in stage.scheduler.resumes[1].open_leases}
    assert len(leases) == 2
    assert leases["lease-1"].predicted_length.p97_tokens == 12
    assert leases["lease-1"].generated_tokens > 0
    [own] = [one for one in leases.values() if one.lease_id != "lease-1"]
    assert own.request.model == MODEL
    assert not own.HasField("predicted_length")
    assert not own.request.prompt_head
    for task in (before, *during):
        task.cancel()
    await asyncio.gather(before, *during, return_exceptions=True)
    await until(lambda: {one.lease_id for one in stage.scheduler.finished} == set(leases))
    assert (await post(stage)).headers["x-forebay-decision-id"]


async def test_a_request_that_was_placed_before_the_loss_finishes_untouched(stage: Stage) -> None:
    stage.triton.pause_s = 0.3
    asked = asyncio.create_task(post(stage))
    await until(lambda: stage.triton.requests)
    await stage.restart_scheduler()
    answer = await asked
    assert (answer.status_code, answer.headers["x-forebay-decision-id"]) == (200, "decision-1")
    [record] = await stage.records(1)
    assert record.status == RequestStatus.OK


async def test_a_question_is_answered_even_when_the_stream_ends_in_the_middle(stage: Stage) -> None:
    stage.scheduler.is_dropping = True
    answer = await post(stage)
    assert answer.status_code == 200
    assert "x-forebay-decision-id" not in answer.headers
    stage.scheduler.is_dropping = False
    await until(lambda: stage.engine.is_linked)


async def test_a_scheduler_that_answers_nothing_at_all_is_done_without() -> None:
    async with staged(Config(placement_timeout_s=0.5)) as stage:
        stage.scheduler.answer = lambda _: None
        answer = await post(stage)
        assert answer.status_code == 200
        await until(lambda: stage.scheduler.cancelled == [stage.scheduler.arrived[0].request_id])


async def test_answers_to_unknown_requests_and_answers_without_content_do_no_harm(stage: Stage) -> None:
    def nonsense(request: Any) -> Any:
        stage.scheduler.answer = stage.scheduler.place
        response = stage.scheduler.place(request)
        response.request_id = "nobody"
        return response

    stage.scheduler.answer = nonsense
    lost = asyncio.create_task(post(stage))
    await until(lambda: stage.scheduler.arrived)
    assert (await post(stage)).status_code == 200
    lost.cancel()
    await asyncio.gather(lost, return_exceptions=True)

    def empty(request: Any) -> Any:
        return scheduler_service_pb2.ScheduleResponse(request_id=request.request_id)

    stage.scheduler.answer = empty
    assert (await post(stage)).status_code == 429


async def test_a_fleet_that_changes_is_seen(stage: Stage) -> None:
    stage.scheduler.show(stage.triton, model="other")
    await until(lambda: stage.engine.fleet.ready("other"))
    assert not stage.engine.fleet.ready(MODEL)


async def test_a_stream_that_stays_open_does_not_hold_up_the_end(stage: Stage) -> None:
    async with grpc.aio.insecure_channel(stage.grpc_address) as channel:
        call = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer(timeout=60)
        await call.wait_for_connection()
        await asyncio.sleep(0.1)
        async with asyncio.timeout(10):
            await stage.fronts.stop(30)
            assert await call.code() is grpc.StatusCode.OK


async def test_a_stream_that_works_may_end_its_work_when_the_gateway_stops(stage: Stage) -> None:
    stage.triton.pause_s = 0.2
    async with httpx.AsyncClient(timeout=30) as http:
        asked = asyncio.create_task(http.post(f"{stage.http_url}/v1/chat/completions", json=CHAT))
        await until(lambda: stage.triton.requests)
        await stage.fronts.stop(30)
        assert (await asked).status_code == 200
