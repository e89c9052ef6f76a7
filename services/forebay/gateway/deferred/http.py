"""OpenAI's Files and Batches over HTTP."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from forebay.core.errors import ForebayError, InvalidArgument
from forebay.core.units import US_PER_S
from forebay.gateway import shape
from forebay.gateway.body import bounded, read_body, too_slow
from forebay.gateway.config import Config
from forebay.gateway.deferred.desk import Desk, window_text
from forebay.gateway.deferred.values import File, FileKind, Job, JobStatus
from forebay.gateway.intake import REQUEST_ID, application_of, client_id, tenant_of

Handler = Callable[[Request], Awaitable[Response]]
_IDEMPOTENCY_KEY = "idempotency-key"
_LIMIT_MAX = {"files": 10_000, "batches": 100}
_FORM_BYTES = 64 * 1024
_PURPOSES = {FileKind.INPUT: "batch", FileKind.OUTPUT: "batch_output", FileKind.ERRORS: "batch_output"}


class Batches:
    """The routes; errors have OpenAI's form."""

    def __init__(self, desk: Desk, config: Config) -> None:
        self._desk = desk
        self._config = config

    def routes(self) -> Sequence[Route]:
        """All of them, for the gateway's application."""
        table: list[tuple[str, str, Handler]] = [
            ("POST", "/v1/files", self._create_file),
            ("GET", "/v1/files", self._list_files),
            ("GET", "/v1/files/{id}", self._get_file),
            ("DELETE", "/v1/files/{id}", self._delete_file),
            ("GET", "/v1/files/{id}/content", self._get_content),
            ("POST", "/v1/batches", self._create_batch),
            ("GET", "/v1/batches", self._list_batches),
            ("GET", "/v1/batches/{id}", self._get_batch),
            ("POST", "/v1/batches/{id}/cancel", self._cancel_batch),
        ]
        return [Route(path, _guarded(handler), methods=[method]) for method, path, handler in table]

    async def _create_file(self, request: Request) -> Response:
        limits, tenant = self._config.deferred, tenant_of(request.headers)
        try:
            async with (
                asyncio.timeout(limits.file_timeout_s),
                bounded(request, limits.file_bytes_max + _FORM_BYTES).form(max_files=1, max_fields=20) as form,
            ):
                file = form.get("file")
                if not isinstance(file, UploadFile):
                    raise _wrong("file", "must be a file of requests, sent as multipart/form-data")
                if form.get("purpose") != "batch":
                    raise _wrong("purpose", "must be 'batch'; other files are not kept")
                expires_s = _expires_s(form.get("expires_after[seconds]"))
                name = file.filename or ""
                kept = await self._desk.keep_file(tenant, name, file.file, expires_s)
        except TimeoutError as error:
            raise too_slow() from error
        return JSONResponse(_file_json(kept))

    async def _list_files(self, request: Request) -> Response:
        query, tenant = request.query_params, tenant_of(request.headers)
        limit = _limit(query.get("limit"), "files", 10_000)
        ascending = _order(query.get("order")) == "asc"
        kinds = [kind for kind, purpose in _PURPOSES.items() if query.get("purpose", purpose) == purpose]
        found = await self._desk.files(tenant, kinds, query.get("after", ""), limit + 1, ascending)
        return _page([_file_json(one) for one in found], limit)

    async def _get_file(self, request: Request) -> Response:
        return JSONResponse(_file_json(await self._file(request)))

    async def _delete_file(self, request: Request) -> Response:
        file_id = request.path_params["id"]
        await self._desk.delete_file(tenant_of(request.headers), file_id)
        return JSONResponse({"id": file_id, "object": "file", "deleted": True})

    async def _get_content(self, request: Request) -> Response:
        file = await self._file(request)
        # ASCII with a backslash before quotes, which is what a quoted string of HTTP may hold.
        name = json.dumps(file.filename.encode("ascii", "replace").decode())
        headers = {"content-disposition": f"attachment; filename={name}"}
        return StreamingResponse(self._desk.content(file), 200, headers, "application/octet-stream")

    async def _file(self, request: Request) -> File:
        return await self._desk.file(tenant_of(request.headers), request.path_params["id"])

    async def _create_batch(self, request: Request) -> Response:
        values = _object(await read_body(request, _FORM_BYTES, self._config.body_timeout_s))
        headers = request.headers
        job = self._desk.new_job(
            tenant_of(headers),
            application_of(headers),
            _text(values, "endpoint"),
            _text(values, "completion_window"),
            _metadata(values.get("metadata")),
            _text(values, "input_file_id"),
        )
        return JSONResponse(_job_json(await self._desk.submit_file(job, headers.get(_IDEMPOTENCY_KEY, ""))))

    async def _list_batches(self, request: Request) -> Response:
        query = request.query_params
        limit = _limit(query.get("limit"), "batches", 20)
        found = await self._desk.jobs(tenant_of(request.headers), query.get("after", ""), limit + 1)
        return _page([_job_json(one) for one in found], limit)

    async def _get_batch(self, request: Request) -> Response:
        return JSONResponse(_job_json(await self._desk.job(tenant_of(request.headers), request.path_params["id"])))

    async def _cancel_batch(self, request: Request) -> Response:
        return JSONResponse(_job_json(await self._desk.cancel(tenant_of(request.headers), request.path_params["id"])))


def _guarded(handler: Handler) -> Handler:
    """The handler, whose errors become OpenAI's."""

    async def guarded(request: Request) -> Response:
        named = client_id(request.headers)
        try:
            response = await handler(request)
        except ForebayError as error:
            status, headers, body = shape.failure(error)
            response = Response(body, status, headers, "application/json")
        except ClientDisconnect:
            response = Response(status_code=400)
        response.headers[REQUEST_ID] = named
        return response

    return guarded


def _file_json(file: File) -> dict[str, Any]:
    return {
        "id": file.file_id,
        "object": "file",
        "bytes": file.byte_count,
        "created_at": file.created_us // US_PER_S,
        "expires_at": file.expires_us // US_PER_S,
        "filename": file.filename,
        "purpose": _PURPOSES[file.kind],
        "status": "processed",
        "status_details": None,
    }


def _job_json(job: Job) -> dict[str, Any]:
    def ended(status: JobStatus) -> int | None:
        return job.ended_us // US_PER_S if job.status is status else None

    return {
        "id": job.job_id,
        "object": "batch",
        "endpoint": job.endpoint,
        "model": job.model,
        "errors": None,
        "input_file_id": job.input_file_id,
        "completion_window": window_text(job.window_s),
        "status": job.status.name.lower(),
        "output_file_id": job.output_file_id or None,
        "error_file_id": job.error_file_id or None,
        "created_at": job.created_us // US_PER_S,
        "in_progress_at": _time(job.started_us),
        "expires_at": _time(job.deadline_us),
        "finalizing_at": _time(job.finalizing_us),
        "completed_at": ended(JobStatus.COMPLETED),
        "failed_at": ended(JobStatus.FAILED),
        "expired_at": ended(JobStatus.EXPIRED),
        "cancelling_at": _time(job.cancelling_us),
        "cancelled_at": ended(JobStatus.CANCELLED),
        "request_counts": {"total": job.total_count, "completed": job.completed_count, "failed": job.failed_count},
        "metadata": dict(job.metadata) or None,
    }


def _time(us: int) -> int | None:
    return us // US_PER_S if us else None


def _page(found: list[dict[str, Any]], limit: int) -> Response:
    data = found[:limit]
    first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    has_more = len(found) > limit
    return JSONResponse({"object": "list", "data": data, "first_id": first, "last_id": last, "has_more": has_more})


def _object(body: bytes) -> dict[str, Any]:
    try:
        values = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument("the body is not valid JSON") from error
    if not isinstance(values, dict):
        raise InvalidArgument("the body must be a JSON object")
    return values


def _text(values: dict[str, Any], name: str) -> str:
    value = values.get(name)
    if not isinstance(value, str) or not value:
        raise _wrong(name, "must be given, as a string")
    return value


def _metadata(value: object) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
        raise _wrong("metadata", "must be an object of strings")
    return value


def _limit(text: str | None, kind: str, default: int) -> int:
    most = _LIMIT_MAX[kind]
    if text is None:
        return default
    if not text.isdecimal() or not 1 <= int(text) <= most:
        raise _wrong("limit", f"must be from 1 to {most}")
    return int(text)


def _order(text: str | None) -> str:
    if text not in (None, "asc", "desc"):
        raise _wrong("order", "must be asc or desc")
    return text or "desc"


def _expires_s(text: object) -> int | None:
    if text is None:
        return None
    if not isinstance(text, str) or not text.isdecimal() or len(text) > 9 or int(text) < 1:
        raise _wrong("expires_after", "must have a number of seconds")
    return int(text)


def _wrong(name: str, text: str) -> InvalidArgument:
    return InvalidArgument(f"{name} {text}", violations={name: text})
