"""OpenAI's lines of result files: one JSON object in ASCII for each request that has ended."""

import json
from typing import Any

from forebay.core.errors import ForebayError
from forebay.gateway import shape
from forebay.gateway.deferred.values import JobStatus, Line, RequestState, Work

_EXPIRED = "This request could not be executed before the completion window expired."
_CANCELLED = "This request was not executed before the job was cancelled."


def answer_line(work: Work, request_id: str, body: bytes) -> Line:
    """The line of an answer; `body` is what the endpoint would have answered, JSON in ASCII."""
    return _line(work, RequestState.ANSWERED, _response(200, request_id, body), "null")


def error_line(work: Work, error: ForebayError) -> Line:
    """The line of a request that is given up, with the status and the body that the endpoint would have answered."""
    status, _, body = shape.failure(error)
    return _line(work, RequestState.FAILED, _response(status, f"{work.job_id}-{work.number}", body), "null")


def unanswered_line(job_id: str, number: int, custom_id: str, status: JobStatus) -> Line:
    """The line of a request that had no answer when its job was cancelled or expired."""
    is_cancelled = status is JobStatus.CANCELLING
    state = RequestState.CANCELLED if is_cancelled else RequestState.EXPIRED
    code, text = ("batch_cancelled", _CANCELLED) if is_cancelled else ("batch_expired", _EXPIRED)
    work = Work(job_id, number, custom_id, "")
    return _line(work, state, "null", json.dumps({"code": code, "message": text}))


def _response(status: int, request_id: str, body: bytes) -> str:
    return f'{{"status_code": {status}, "request_id": {json.dumps(request_id)}, "body": {body.decode("ascii")}}}'


def _line(work: Work, state: RequestState, response: str, error: str) -> Line:
    line_id = json.dumps(f"batch_req_{work.job_id.removeprefix('batch_')}_{work.number}")
    custom_id = json.dumps(work.custom_id)
    text = f'{{"id": {line_id}, "custom_id": {custom_id}, "response": {response}, "error": {error}}}'
    return Line(work.job_id, work.number, state, text)


def parts(line: Line) -> dict[str, Any]:
    """The line as an object."""
    value: dict[str, Any] = json.loads(line.text)
    return value
