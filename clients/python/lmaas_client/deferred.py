"""Deferred work over gRPC: jobs of many requests that nobody waits for."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from types import TracebackType

import grpc
from lmaas.deferred.v1 import job_pb2
from lmaas.deferred.v1.deferred_service_pb2_grpc import DeferredServiceStub

from lmaas_client import jobs
from lmaas_client.calls import answered, streamed
from lmaas_client.channels import Tls, open_aio


class AsyncDeferredClient:
    """Talks to a gateway about jobs; use it as an asynchronous context manager.

    `key` is the tenant's key where the gateway wants one; else `tenant` names it. Every verb raises ForebayError.
    """

    def __init__(
        self,
        gateway: str = "127.0.0.1:7081",
        key: str = "",
        tenant: str = "",
        timeout_s: float = 10.0,
        *,
        tls: Tls | None = None,
        interceptors: Sequence[grpc.aio.ClientInterceptor] = (),
    ) -> None:
        self._channel = open_aio(gateway, tls, interceptors)
        self._stub = DeferredServiceStub(self._channel)
        self._timeout_s = timeout_s
        self._metadata = jobs.headers(key, tenant)

    async def __aenter__(self) -> "AsyncDeferredClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection."""
        await self._channel.close()

    async def submit(
        self,
        bodies: jobs.Bodies,
        *,
        endpoint: str = jobs.CHAT,
        window_s: int = 86_400,
        metadata: Mapping[str, str] | None = None,
        request_id: str = "",
    ) -> job_pb2.Job:
        """Makes a job of bodies as the endpoint takes them, by names of the caller's; returns once all is kept.

        The same `request_id` gives the same job: choose one to be able to try again after a failure.
        """
        parts = jobs.parts(bodies, jobs.spec(endpoint, window_s, metadata), request_id)
        return (await answered(self._stub.SubmitJob(parts, timeout=jobs.SUBMIT_TIMEOUT_S, metadata=self._metadata))).job

    async def job(self, job_id: str) -> job_pb2.Job:
        """A job as it stands."""
        message = jobs.named(job_id)
        return (await answered(self._stub.GetJob(message, timeout=self._timeout_s, metadata=self._metadata))).job

    async def cancel(self, job_id: str) -> job_pb2.Job:
        """Ends a job without the requests that have no answer yet."""
        message = jobs.cancelled(job_id)
        return (await answered(self._stub.CancelJob(message, timeout=self._timeout_s, metadata=self._metadata))).job

    async def watch(self, job_id: str) -> AsyncIterator[job_pb2.Job]:
        """The job at once and after every change, until it has ended."""
        async with aclosing(streamed(self._stub.WatchJob(jobs.watched(job_id), metadata=self._metadata))) as messages:
            async for message in messages:
                yield message.job

    async def results(self, job_id: str, after_number: int = 0) -> AsyncIterator[job_pb2.Result]:
        """How the job's requests ended, in the order of submission, those of now."""
        call = self._stub.StreamResults(jobs.ended(job_id, after_number), metadata=self._metadata)
        async with aclosing(streamed(call)) as messages:
            async for message in messages:
                for one in message.results:
                    yield one
