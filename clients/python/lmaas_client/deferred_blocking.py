"""Deferred work over gRPC, blocking: jobs of many requests that nobody waits for."""

from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

from lmaas.deferred.v1 import job_pb2
from lmaas.deferred.v1.deferred_service_pb2_grpc import DeferredServiceStub

from lmaas_client import jobs
from lmaas_client.calls import answer, stream
from lmaas_client.channels import Tls, open_blocking


class DeferredClient:
    """Talks to a gateway about jobs; use it as a context manager. Safe to share between threads.

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
        interceptors: Sequence[Any] = (),
    ) -> None:
        self._channel = open_blocking(gateway, tls, interceptors)
        self._stub = DeferredServiceStub(self._channel)
        self._timeout_s = timeout_s
        self._metadata = jobs.headers(key, tenant)

    def __enter__(self) -> "DeferredClient":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()

    def submit(
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
        return answer(lambda: self._stub.SubmitJob(parts, timeout=jobs.SUBMIT_TIMEOUT_S, metadata=self._metadata)).job

    def job(self, job_id: str) -> job_pb2.Job:
        """A job as it stands."""
        message = jobs.named(job_id)
        return answer(lambda: self._stub.GetJob(message, timeout=self._timeout_s, metadata=self._metadata)).job

    def cancel(self, job_id: str) -> job_pb2.Job:
        """Ends a job without the requests that have no answer yet."""
        message = jobs.cancelled(job_id)
        return answer(lambda: self._stub.CancelJob(message, timeout=self._timeout_s, metadata=self._metadata)).job

    def watch(self, job_id: str) -> Iterator[job_pb2.Job]:
        """The job at once and after every change, until it has ended."""
        for message in stream(self._stub.WatchJob(jobs.watched(job_id), metadata=self._metadata)):
            yield message.job

    def results(self, job_id: str, after_number: int = 0) -> Iterator[job_pb2.Result]:
        """How the job's requests ended, in the order of submission, those of now."""
        for message in stream(self._stub.StreamResults(jobs.ended(job_id, after_number), metadata=self._metadata)):
            yield from message.results
