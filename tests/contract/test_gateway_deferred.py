"""DeferredService as a gRPC client sees it."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc
import httpx
import pytest
from google.protobuf import duration_pb2
from lmaas.deferred.v1 import deferred_service_pb2 as pb
from lmaas.deferred.v1 import job_pb2
from lmaas.deferred.v1.deferred_service_pb2_grpc import DeferredServiceStub

from forebay.core.errors import (
    AlreadyExists,
    ConfigError,
    ForebayError,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unavailable,
)
from forebay.gateway.config import Config
from forebay.gateway.deferred.config import DeferredConfig
from forebay.gateway.deferred.store import Store
from forebay.wire.channel import connect
from forebay.wire.errors import from_rpc_error
from lmaas_client import ForebayError as ClientError
from lmaas_client.deferred import AsyncDeferredClient
from tests.contract.gateway_stage import MODEL, Stage, hangs, staged, until

TEXT = "/v1/completions"
LIMITS = DeferredConfig(poll_s=0.05, retry_s=0.02, retry_s_max=0.05, requests_max=5_000, open_jobs_max=2)
Stub = DeferredServiceStub


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with staged(Config(deferred=LIMITS)) as one:
        yield one


@pytest.fixture
async def stub(stage: Stage) -> AsyncIterator[Stub]:
    async with connect(stage.grpc_address) as channel:
        yield DeferredServiceStub(channel)


def request(name: str, **values: Any) -> job_pb2.DeferredRequest:
    body = {"model": MODEL, "prompt": "Hello", "max_tokens": 3, **values}
    return job_pb2.DeferredRequest(custom_id=name, body=json.dumps(body))


def parts(
    requests: Iterable[job_pb2.DeferredRequest], request_id: str = "once", endpoint: str = TEXT, size: int = 1_000
) -> list[pb.SubmitJobRequest]:
    every = list(requests)
    slices = [every[start : start + size] for start in range(0, len(every), size)] or [[]]
    first, *more = [pb.SubmitJobRequest(requests=some) for some in slices]
    first.request_id = request_id
    first.spec.endpoint = endpoint
    first.spec.metadata["night"] = "yes"
    return [first, *more]


async def submit(stub: Stub, messages: Iterable[pb.SubmitJobRequest], **metadata: str) -> job_pb2.Job:
    call: Any = stub.SubmitJob(iter(messages), timeout=30, metadata=tuple(metadata.items()))
    return (await call).job  # type: ignore[no-any-return]


async def refusal(call: Any) -> ForebayError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc_error(caught.value)


async def watched(stub: Stub, job_id: str) -> list[job_pb2.Job]:
    interval = duration_pb2.Duration(nanos=100_000_000)
    call: Any = stub.WatchJob(pb.WatchJobRequest(job_id=job_id, interval=interval), timeout=30)
    return [message.job async for message in call]


async def results(stub: Stub, job_id: str, **selection: Any) -> list[job_pb2.Result]:
    call: Any = stub.StreamResults(pb.StreamResultsRequest(job_id=job_id, **selection), timeout=30)
    return [one async for message in call for one in message.results]


async def test_a_job_in_several_messages_is_watched_and_its_results_are_streamed(stage: Stage, stub: Stub) -> None:
    job = await submit(stub, parts((request(f"r{n}") for n in range(250)), size=100))
    assert (job.status, job.total_count, job.model) == (job_pb2.JOB_STATUS_IN_PROGRESS, 250, MODEL)
    assert dict(job.metadata) == {"night": "yes"}
    assert job.deadline.seconds - job.create_time.seconds == 86_400
    seen = await watched(stub, job.job_id)
    assert seen[-1].status == job_pb2.JOB_STATUS_COMPLETED
    assert seen[-1].completed_count == 250
    assert seen[-1].HasField("end_time")
    assert [one.completed_count for one in seen] == sorted(one.completed_count for one in seen)
    every = await results(stub, job.job_id)
    assert [one.number for one in every] == list(range(1, 251))
    assert [one.custom_id for one in every] == [f"r{n}" for n in range(250)]
    assert {one.state for one in every} == {job_pb2.RESULT_STATE_ANSWERED}
    assert json.loads(every[0].body)["choices"][0]["text"] == "w0 w1 w2 "
    assert (every[0].status_code, every[0].request_id.startswith(f"{job.job_id}-1-")) == (200, True)


async def test_the_scheduler_hears_what_waits_in_the_store_until_nothing_does(stage: Stage, stub: Stub) -> None:
    stage.triton.script = hangs
    job = await submit(stub, parts(request(f"r{n}") for n in range(50)))
    told = stage.scheduler.backlogs
    await until(lambda: bool(told) and told[-1].jobs[0].in_flight_count == 8, "the window is in flight")
    [one] = told[-1].jobs
    assert (one.job_id, one.model, one.region) == (job.job_id, MODEL, "local")
    assert (one.remaining_count, one.prompt_tokens > 0, one.tokens_max) == (50, True, 3)
    assert one.deadline == job.deadline
    assert one.create_time == job.create_time
    await stub.CancelJob(pb.CancelJobRequest(job_id=job.job_id, request_id="no more"), timeout=10)
    await until(lambda: not told[-1].jobs, "nothing waits any more")
    count = len(told)
    await asyncio.sleep(0.3)
    assert len(told) == count, "where nothing waits nothing is told"


async def test_results_go_on_where_a_stream_broke_and_can_be_had_by_name(stub: Stub) -> None:
    job = await submit(stub, parts(request(f"r{n}") for n in range(5)))
    await watched(stub, job.job_id)
    assert [one.number for one in await results(stub, job.job_id, after_number=3)] == [4, 5]
    named = await results(stub, job.job_id, custom_ids=["r4", "nobody", "r0"])
    assert [one.custom_id for one in named] == ["r4", "r0"]


async def test_the_same_request_id_makes_one_job(stub: Stub) -> None:
    first = await submit(stub, parts([request("a")]))
    again = await submit(stub, parts([request("a")]))
    other = await submit(stub, parts([request("a")], request_id="twice"))
    assert (again.job_id, other.job_id == first.job_id) == (first.job_id, False)
    chat = job_pb2.DeferredRequest(
        custom_id="a", body=json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "x"}]})
    )
    error = await refusal(submit(stub, parts([chat], endpoint="/v1/chat/completions")))
    assert isinstance(error, AlreadyExists)


async def test_a_job_can_be_had_over_http_too(stage: Stage, stub: Stub) -> None:
    job = await submit(stub, parts([request("a")]))
    done = (await watched(stub, job.job_id))[-1]
    async with httpx.AsyncClient(base_url=stage.http_url) as http:
        batch = (await http.get(f"/v1/batches/{job.job_id}")).json()
        content = (await http.get(f"/v1/files/{done.output_file_id}/content")).text
    assert (batch["status"], batch["output_file_id"]) == ("completed", done.output_file_id)
    assert json.loads(content)["custom_id"] == "a"


async def test_bad_submissions_are_refused_and_name_the_request(stub: Stub) -> None:
    async def refused(*messages: pb.SubmitJobRequest) -> ForebayError:
        error = await refusal(submit(stub, messages))
        assert isinstance(error, InvalidArgument)
        return error

    good = [request("a"), request("b")]
    assert "line 3: custom_id 'a'" in str(await refused(*parts([*good, request("a")], size=1)))
    assert "line 2: body: max_tokens" in str(await refused(*parts([request("a"), request("b", max_tokens=0)])))
    assert "known models" in str(await refused(*parts([request("a", model="nobody")])))
    assert "at most 5000" in str(await refused(*parts(request(f"r{n}") for n in range(5_001))))
    assert "endpoint must be one of" in str(await refused(*parts(good, endpoint="/v1/embeddings")))
    assert "at least one request" in str(await refused(*parts([])))
    assert "request_id" in str(await refused(*parts(good, request_id="")))
    assert "spec must be set" in str(await refused(pb.SubmitJobRequest(request_id="x", requests=good)))
    assert "first message only" in str(await refused(*parts(good), *parts(good)))
    short = parts(good)
    short[0].spec.completion_window.seconds = 1
    assert "completion_window must be" in str(await refused(*short))
    assert not (await stub.ListJobs(pb.ListJobsRequest())).jobs  # type: ignore[misc]


async def test_jobs_are_listed_by_pages_for_their_tenant(stage: Stage, stub: Stub) -> None:
    mine = {"x-forebay-tenant": "me"}
    ids = []
    for number in range(5):
        job = await submit(stub, parts([request("a")], request_id=str(number)), **mine)
        ids.append(job.job_id)
        while (await call(stub.GetJob, pb.GetJobRequest(job_id=job.job_id), mine)).job.status == 2:
            await asyncio.sleep(0.02)
    seen, token = [], ""
    for _ in range(3):
        page = await call(stub.ListJobs, pb.ListJobsRequest(page_size=2, page_token=token), mine)
        seen += [job.job_id for job in page.jobs]
        token = page.next_page_token
    assert (seen, token) == (ids[::-1], "")
    assert not (await call(stub.ListJobs, pb.ListJobsRequest())).jobs
    for asked in (
        call(stub.GetJob, pb.GetJobRequest(job_id=ids[0])),
        call(stub.CancelJob, pb.CancelJobRequest(job_id=ids[0], request_id="1")),
        results(stub, ids[0]),
        watched(stub, ids[0]),
    ):
        assert isinstance(await refusal(asked), NotFound)


async def call(method: Any, message: Any, metadata: dict[str, str] | None = None) -> Any:
    return await method(message, timeout=30, metadata=tuple((metadata or {}).items()))


async def test_a_cancelled_job_frees_its_instances_at_once(stage: Stage, stub: Stub) -> None:
    stage.triton.script = hangs
    job = await submit(stub, parts(request(f"r{n}") for n in range(40)))
    while not stage.triton.requests:
        await asyncio.sleep(0.01)
    cancelled = (await call(stub.CancelJob, pb.CancelJobRequest(job_id=job.job_id, request_id="c"))).job
    assert cancelled.status in (job_pb2.JOB_STATUS_CANCELLING, job_pb2.JOB_STATUS_CANCELLED)
    done = (await watched(stub, job.job_id))[-1]
    assert (done.status, done.completed_count, done.failed_count) == (job_pb2.JOB_STATUS_CANCELLED, 0, 40)
    assert {(one.state, one.error_code) for one in await results(stub, job.job_id)} == {
        (job_pb2.RESULT_STATE_CANCELLED, "batch_cancelled")
    }
    while stage.engine.flight_count:
        await asyncio.sleep(0.01)
    assert stage.triton.cancelled_count == len(stage.triton.requests)


async def test_a_tenant_with_too_many_open_jobs_is_told_to_wait(stage: Stage, stub: Stub) -> None:
    stage.triton.script = hangs
    for number in range(2):
        await submit(stub, parts([request("a")], request_id=str(number)))
    error = await refusal(submit(stub, parts([request("a")], request_id="more")))
    assert isinstance(error, ResourceExhausted)
    assert error.retry_after_us
    await submit(stub, parts([request("a")], request_id="more"), **{"x-forebay-tenant": "other"})


async def test_the_python_client_submits_watches_and_fetches(stage: Stage) -> None:
    bodies = {f"r{n}": {"model": MODEL, "prompt": "Hello", "max_tokens": 2} for n in range(1_200)}
    async with AsyncDeferredClient(stage.grpc_address, tenant="blue") as client:
        job = await client.submit(bodies, endpoint=TEXT, window_s=3_600, metadata={"a": "b"}, request_id="one")
        assert (await client.submit(bodies, endpoint=TEXT, request_id="one")).job_id == job.job_id
        assert job.deadline.seconds - job.create_time.seconds == 3_600
        async for seen in client.watch(job.job_id):
            assert seen.total_count == 1_200
        assert (await client.job(job.job_id)).status == job_pb2.JOB_STATUS_COMPLETED
        assert [one.custom_id async for one in client.results(job.job_id)] == list(bodies)
        assert (await client.cancel(job.job_id)).status == job_pb2.JOB_STATUS_COMPLETED
        with pytest.raises(ClientError, match="known models"):
            await client.submit({"a": {"model": "nobody", "prompt": "x"}}, endpoint=TEXT)
    async with AsyncDeferredClient(stage.grpc_address) as stranger:
        with pytest.raises(ClientError, match="no batch") as unknown:
            _ = [one async for one in stranger.results(job.job_id)]
    assert unknown.value.reason == "BATCH_NOT_FOUND"


async def test_without_its_database_nothing_is_taken() -> None:
    def away() -> Store:
        raise ConfigError("cannot open the database")

    async with staged(Config(deferred=LIMITS), open_store=away) as stage, connect(stage.grpc_address) as channel:
        error = await refusal(submit(DeferredServiceStub(channel), parts([request("a")])))
    assert isinstance(error, Unavailable)
    assert error.code == "DATABASE_UNAVAILABLE"
