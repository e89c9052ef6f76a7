"""Both clients of deferred work against a gateway in process."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from lmaas.deferred.v1 import deferred_service_pb2 as messages
from lmaas.deferred.v1 import job_pb2
from lmaas.deferred.v1.deferred_service_pb2_grpc import DeferredServiceServicer, add_DeferredServiceServicer_to_server
from prometheus_client import CollectorRegistry

from forebay.core.errors import InvalidArgument
from forebay.wire.server import Server
from lmaas_client import AsyncDeferredClient, DeferredClient, ForebayError

BODY = {"model": "llama", "messages": [{"role": "user", "content": "Hi"}]}


class FakeGateway(DeferredServiceServicer):
    """Answers every job at once; keeps the parts of the last one and the headers of its call."""

    def __init__(self) -> None:
        self.parts: list[messages.SubmitJobRequest] = []
        self.headers: dict[str, Any] = {}

    async def SubmitJob(self, request_iterator: Any, context: Any) -> Any:  # type: ignore[override]
        self.headers = dict(context.invocation_metadata())
        self.parts = [part async for part in request_iterator]
        count = sum(len(part.requests) for part in self.parts)
        if not count:
            raise InvalidArgument("a job has requests")
        job = job_pb2.Job(job_id="batch_1", total_count=count, metadata=self.parts[0].spec.metadata)
        return messages.SubmitJobResponse(job=job)

    async def GetJob(self, request: messages.GetJobRequest, context: Any) -> Any:  # type: ignore[override]
        job = job_pb2.Job(job_id=request.job_id, status=job_pb2.JOB_STATUS_IN_PROGRESS)
        return messages.GetJobResponse(job=job)

    async def CancelJob(self, request: messages.CancelJobRequest, context: Any) -> Any:  # type: ignore[override]
        job = job_pb2.Job(job_id=request.job_id, status=job_pb2.JOB_STATUS_CANCELLING)
        return messages.CancelJobResponse(job=job)

    async def WatchJob(self, request: messages.WatchJobRequest, context: Any) -> AsyncIterator[Any]:  # type: ignore[override]
        for status in (job_pb2.JOB_STATUS_IN_PROGRESS, job_pb2.JOB_STATUS_COMPLETED):
            yield messages.WatchJobResponse(job=job_pb2.Job(job_id=request.job_id, status=status))

    async def StreamResults(  # type: ignore[override]
        self, request: messages.StreamResultsRequest, context: Any
    ) -> AsyncIterator[Any]:
        for number in range(request.after_number + 1, 4):
            one = job_pb2.Result(number=number, custom_id=f"r{number}", status_code=200)
            yield messages.StreamResultsResponse(results=[one])


@pytest.fixture
def gateway() -> FakeGateway:
    return FakeGateway()


@pytest.fixture
async def address(gateway: FakeGateway) -> AsyncIterator[str]:
    server = Server("127.0.0.1:0", [], CollectorRegistry())
    add_DeferredServiceServicer_to_server(gateway, server.grpc)
    await server.start()
    yield f"127.0.0.1:{server.port}"
    await server.stop(0)


async def test_a_job_is_submitted_watched_and_fetched(address: str, gateway: FakeGateway) -> None:
    async with AsyncDeferredClient(address) as client:
        job = await client.submit({"a": BODY, "b": BODY}, window_s=60, metadata={"for": "tests"}, request_id="tonight")
        assert (job.job_id, job.total_count, job.metadata["for"]) == ("batch_1", 2, "tests")
        states = [job.status async for job in client.watch("batch_1")]
        assert states == [job_pb2.JOB_STATUS_IN_PROGRESS, job_pb2.JOB_STATUS_COMPLETED]
        assert [one.custom_id async for one in client.results("batch_1", after_number=1)] == ["r2", "r3"]
        assert (await client.job("batch_1")).status == job_pb2.JOB_STATUS_IN_PROGRESS
        assert (await client.cancel("batch_1")).status == job_pb2.JOB_STATUS_CANCELLING
    [part] = gateway.parts
    assert (part.request_id, part.spec.completion_window.seconds) == ("tonight", 60)
    assert [(one.custom_id, json.loads(one.body)) for one in part.requests] == [("a", BODY), ("b", BODY)]


async def test_the_blocking_client_has_the_same_verbs(address: str, gateway: FakeGateway) -> None:
    def use() -> None:
        with DeferredClient(address, key="secret", tenant="mine") as client:
            assert client.submit({"a": BODY}).total_count == 1
            assert [job.status for job in client.watch("batch_1")][-1] == job_pb2.JOB_STATUS_COMPLETED
            assert [one.custom_id for one in client.results("batch_1")] == ["r1", "r2", "r3"]
            assert client.job("batch_1").status == job_pb2.JOB_STATUS_IN_PROGRESS
            assert client.cancel("batch_1").status == job_pb2.JOB_STATUS_CANCELLING

    await asyncio.to_thread(use)
    assert gateway.headers["authorization"] == "Bearer secret"
    assert gateway.headers["x-forebay-tenant"] == "mine"


async def test_many_requests_and_large_ones_go_in_parts(address: str, gateway: FakeGateway) -> None:
    bodies = {f"r{number}": BODY for number in range(1_001)}
    large = {f"large{number}": {"prompt": "x" * 700_000} for number in range(3)}
    async with AsyncDeferredClient(address) as client:
        assert (await client.submit(bodies | large)).total_count == 1_004
    assert [len(part.requests) for part in gateway.parts] == [500, 500, 2, 1, 1]
    assert [part.HasField("spec") for part in gateway.parts] == [True, False, False, False, False]


async def test_an_empty_job_fails_with_the_servers_reason(address: str) -> None:
    def use() -> ForebayError:
        with DeferredClient(address) as client, pytest.raises(ForebayError) as caught:
            client.submit({})
        return caught.value

    async with AsyncDeferredClient(address) as client:
        with pytest.raises(ForebayError, match="a job has requests") as caught:
            await client.submit({})
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert (await asyncio.to_thread(use)).reason == "INVALID_ARGUMENT"
