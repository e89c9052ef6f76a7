"""DeferredService: jobs over gRPC, through the same desk as over HTTP."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

from lmaas.deferred.v1 import deferred_service_pb2 as pb
from lmaas.deferred.v1 import job_pb2
from lmaas.deferred.v1.deferred_service_pb2_grpc import DeferredServiceServicer

from forebay.core.errors import InvalidArgument
from forebay.core.units import US_PER_S
from forebay.gateway.deferred.desk import Desk
from forebay.gateway.deferred.messages import job_to_proto, result_to_proto
from forebay.gateway.deferred.reading import Reader
from forebay.gateway.deferred.values import OPEN, Job, Line, NewRequest, RequestState
from forebay.gateway.intake import application_of, tenant_of
from forebay.wire import validate
from forebay.wire.paging import from_token, to_token

SERVICE = "lmaas.deferred.v1.DeferredService"
JOBS_PER_PAGE = 100
INTERVAL_S = 1.0
_RESULT_COUNT = 100
_ENDED = [state for state in RequestState if state is not RequestState.PENDING]
_DEFAULT_WINDOW_S = 86_400


class DeferredServicer(DeferredServiceServicer):
    """Serves the tenant that the call's metadata name."""

    def __init__(self, desk: Desk, bytes_max: int) -> None:
        self._desk = desk
        self._bytes_max = bytes_max

    async def SubmitJob(self, requests: AsyncIterator[pb.SubmitJobRequest], context: Any) -> pb.SubmitJobResponse:
        """Checks each message as it comes, in a thread; keeps the job when the stream ends."""
        job: Job | None = None
        key, byte_count, found = "", 0, list[NewRequest]()
        async for message in requests:
            await asyncio.to_thread(validate.check, message)
            byte_count += message.ByteSize()
            if byte_count > self._bytes_max:
                text = f"the requests have more than {self._bytes_max} bytes; split the job"
                raise InvalidArgument(text, reason="BODY_TOO_LARGE")
            if job is None:
                job, key = self._new_job(message, context), _key(message)
                reader = self._desk.reader(job.endpoint)
            elif message.HasField("spec"):
                raise _wrong("spec", "must be set in the first message only")
            found += await asyncio.to_thread(_read, reader, message.requests)
        if job is None or not found:
            raise _wrong("requests", "must hold at least one request in all")
        return pb.SubmitJobResponse(job=job_to_proto(await self._desk.submit(job, lambda _: found, key)))

    def _new_job(self, message: pb.SubmitJobRequest, context: Any) -> Job:
        spec, headers = message.spec, _headers(context)
        if not message.HasField("spec"):
            raise _wrong("spec", "must be set in the first message")
        window_s = spec.completion_window.seconds or _DEFAULT_WINDOW_S
        tenant, application = tenant_of(headers), application_of(headers)
        return self._desk.new_job(tenant, application, spec.endpoint, f"{window_s}s", dict(spec.metadata))

    async def GetJob(self, request: pb.GetJobRequest, context: Any) -> pb.GetJobResponse:
        """One job."""
        return pb.GetJobResponse(job=await self._job(request.job_id, context))

    async def ListJobs(self, request: pb.ListJobsRequest, context: Any) -> pb.ListJobsResponse:
        """Lists jobs; the token holds the sequence of the last one shown."""
        count = request.page_size or JOBS_PER_PAGE
        (below,) = from_token(request, 1) or (0,)
        found = await self._desk.jobs_below(tenant_of(_headers(context)), below, count + 1)
        return pb.ListJobsResponse(
            jobs=[job_to_proto(job) for job in found[:count]],
            next_page_token=to_token(request, found[count - 1].sequence) if len(found) > count else "",
        )

    async def CancelJob(self, request: pb.CancelJobRequest, context: Any) -> pb.CancelJobResponse:
        """Cancels; doing it again changes nothing."""
        job = await self._desk.cancel(tenant_of(_headers(context)), request.job_id)
        return pb.CancelJobResponse(job=job_to_proto(job))

    async def StreamResults(
        self, request: pb.StreamResultsRequest, context: Any
    ) -> AsyncIterator[pb.StreamResultsResponse]:
        """All results, or those asked for, some at a time."""
        await self._job(request.job_id, context)
        some: list[Line] = []
        async for line in self._lines(request):
            some.append(line)
            if len(some) == _RESULT_COUNT:
                yield _results(some)
                some = []
        if some:
            yield _results(some)

    async def _lines(self, request: pb.StreamResultsRequest) -> AsyncIterator[Line]:
        if not request.custom_ids:
            async for line in self._desk.lines(request.job_id, _ENDED, request.after_number):
                yield line
        for custom_id in request.custom_ids:
            found = await self._desk.line(request.job_id, custom_id)
            if found is not None:
                yield found

    async def WatchJob(self, request: pb.WatchJobRequest, context: Any) -> AsyncIterator[pb.WatchJobResponse]:
        """The job at once, and whenever it has changed."""
        interval_s = request.interval.ToMicroseconds() / US_PER_S or INTERVAL_S
        last: Job | None = None
        while last is None or last.status in OPEN:
            job = await self._desk.job(tenant_of(_headers(context)), request.job_id)
            if job != last:
                yield pb.WatchJobResponse(job=job_to_proto(job))
            last = job
            if job.status in OPEN:
                await asyncio.sleep(interval_s)

    async def _job(self, job_id: str, context: Any) -> job_pb2.Job:
        return job_to_proto(await self._desk.job(tenant_of(_headers(context)), job_id))


def _read(reader: Reader, requests: Iterable[job_pb2.DeferredRequest]) -> list[NewRequest]:
    return [reader.add(reader.count + 1, one.custom_id, one.body.encode()) for one in requests]


def _key(message: pb.SubmitJobRequest) -> str:
    if not message.request_id:
        raise _wrong("request_id", "must not be empty in the first message")
    return message.request_id


def _results(lines: Iterable[Line]) -> pb.StreamResultsResponse:
    return pb.StreamResultsResponse(results=[result_to_proto(line) for line in lines])


def _headers(context: Any) -> dict[str, str]:
    return {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}


def _wrong(name: str, text: str) -> InvalidArgument:
    return InvalidArgument(f"{name} {text}", violations={name: text})
