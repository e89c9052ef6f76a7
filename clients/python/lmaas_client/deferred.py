"""Deferred work over gRPC: jobs of many requests that nobody waits for."""

import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping
from itertools import islice
from types import TracebackType
from typing import Any, TypeVar

import grpc
from lmaas.deferred.v1 import deferred_service_pb2, job_pb2
from lmaas.deferred.v1.deferred_service_pb2_grpc import DeferredServiceStub

from lmaas_client import requests
from lmaas_client.errors import from_call

T = TypeVar("T")
CHAT = "/v1/chat/completions"
_REQUEST_COUNT = 500
_SUBMIT_TIMEOUT_S = 600.0


class AsyncDeferredClient:
    """Talks to a gateway about jobs; use it as an asynchronous context manager.

    `key` is the tenant's key where the gateway wants one; else `tenant` names it. Every verb raises ForebayError.
    """

    def __init__(
        self, gateway: str = "127.0.0.1:7081", key: str = "", tenant: str = "", timeout_s: float = 10.0
    ) -> None:
        self._channel = grpc.aio.insecure_channel(gateway, options=requests.CHANNEL_OPTIONS)
        self._stub = DeferredServiceStub(self._channel)
        self._timeout_s = timeout_s
        named = {"authorization": f"Bearer {key}" if key else "", "x-forebay-tenant": tenant}
        self._metadata = tuple((name, value) for name, value in named.items() if value)

    async def __aenter__(self) -> "AsyncDeferredClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._channel.close()

    async def submit(
        self,
        bodies: Mapping[str, Mapping[str, Any]],
        *,
        endpoint: str = CHAT,
        window_s: int = 86_400,
        metadata: Mapping[str, str] | None = None,
        request_id: str = "",
    ) -> job_pb2.Job:
        """Makes a job of bodies as the endpoint takes them, by names of the caller's; returns once all is kept.

        The same `request_id` gives the same job: choose one to be able to try again after a failure.
        """
        spec = job_pb2.JobSpec(endpoint=endpoint, metadata=dict(metadata or {}))
        spec.completion_window.seconds = window_s
        parts = _parts(bodies, spec, request_id or uuid.uuid4().hex)
        return (await _answer(self._stub.SubmitJob(parts, timeout=_SUBMIT_TIMEOUT_S, metadata=self._metadata))).job

    async def job(self, job_id: str) -> job_pb2.Job:
        """A job as it stands."""
        message = deferred_service_pb2.GetJobRequest(job_id=job_id)
        return (await _answer(self._stub.GetJob(message, timeout=self._timeout_s, metadata=self._metadata))).job

    async def cancel(self, job_id: str) -> job_pb2.Job:
        """Ends a job without the requests that have no answer yet."""
        message = deferred_service_pb2.CancelJobRequest(job_id=job_id, request_id=uuid.uuid4().hex)
        return (await _answer(self._stub.CancelJob(message, timeout=self._timeout_s, metadata=self._metadata))).job

    async def watch(self, job_id: str) -> AsyncIterator[job_pb2.Job]:
        """The job at once and after every change, until it has ended."""
        call: Any = self._stub.WatchJob(deferred_service_pb2.WatchJobRequest(job_id=job_id), metadata=self._metadata)
        async for message in _stream(call):
            yield message.job

    async def results(self, job_id: str, after_number: int = 0) -> AsyncIterator[job_pb2.Result]:
        """How the job's requests ended, in the order of submission, those of now."""
        message = deferred_service_pb2.StreamResultsRequest(job_id=job_id, after_number=after_number)
        async for response in _stream(self._stub.StreamResults(message, metadata=self._metadata)):
            for one in response.results:
                yield one


def _parts(
    bodies: Mapping[str, Mapping[str, Any]], spec: job_pb2.JobSpec, request_id: str
) -> Iterator[deferred_service_pb2.SubmitJobRequest]:
    rest = iter(bodies.items())
    head: dict[str, Any] = {"request_id": request_id, "spec": spec}
    while some := list(islice(rest, _REQUEST_COUNT)):
        found = [job_pb2.DeferredRequest(custom_id=name, body=json.dumps(body)) for name, body in some]
        yield deferred_service_pb2.SubmitJobRequest(requests=found, **head)
        head = {}


async def _answer(call: Awaitable[T]) -> T:
    try:
        return await call
    except grpc.RpcError as error:
        raise from_call(error) from error


async def _stream(call: Any) -> AsyncIterator[Any]:
    try:
        async for message in call:
            yield message
    except grpc.RpcError as error:
        raise from_call(error) from error
