"""What both clients of deferred work share: the messages that the verbs send."""

import json
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from lmaas.deferred.v1 import deferred_service_pb2, job_pb2

CHAT = "/v1/chat/completions"
SUBMIT_TIMEOUT_S = 600.0
_REQUEST_COUNT = 500
_PART_BYTES = 1 << 20

Bodies = Mapping[str, Mapping[str, Any]]
Metadata = tuple[tuple[str, str], ...]


def headers(key: str, tenant: str) -> Metadata:
    """Who calls, as the gateway reads it."""
    named = {"authorization": f"Bearer {key}" if key else "", "x-forebay-tenant": tenant}
    return tuple((name, value) for name, value in named.items() if value)


def spec(endpoint: str, window_s: int, metadata: Mapping[str, str] | None) -> job_pb2.JobSpec:
    """What is asked for."""
    made = job_pb2.JobSpec(endpoint=endpoint, metadata=dict(metadata or {}))
    made.completion_window.seconds = window_s
    return made


def parts(bodies: Bodies, asked: job_pb2.JobSpec, request_id: str) -> Iterator[deferred_service_pb2.SubmitJobRequest]:
    """The messages that submit a job, small enough for any server; one at least."""
    part = deferred_service_pb2.SubmitJobRequest(request_id=request_id or fresh_id(), spec=asked)
    size = 0
    for name, value in bodies.items():
        body = json.dumps(value)
        if len(part.requests) == _REQUEST_COUNT or (size and size + len(body) > _PART_BYTES):
            yield part
            part, size = deferred_service_pb2.SubmitJobRequest(), 0
        part.requests.add(custom_id=name, body=body)
        size += len(body)
    yield part


def named(job_id: str) -> deferred_service_pb2.GetJobRequest:
    """The question for a job."""
    return deferred_service_pb2.GetJobRequest(job_id=job_id)


def cancelled(job_id: str) -> deferred_service_pb2.CancelJobRequest:
    """The order to end a job."""
    return deferred_service_pb2.CancelJobRequest(job_id=job_id, request_id=fresh_id())


def watched(job_id: str) -> deferred_service_pb2.WatchJobRequest:
    """The question for a job until it ends."""
    return deferred_service_pb2.WatchJobRequest(job_id=job_id)


def ended(job_id: str, after_number: int) -> deferred_service_pb2.StreamResultsRequest:
    """The question for the results of a job."""
    return deferred_service_pb2.StreamResultsRequest(job_id=job_id, after_number=after_number)


def fresh_id() -> str:
    """A name for a write."""
    return uuid.uuid4().hex
