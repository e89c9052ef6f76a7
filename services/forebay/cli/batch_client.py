"""Talks to a gateway about deferred work, over OpenAI's HTTP API."""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, BinaryIO

import httpx

from forebay.core.errors import ForebayError, InvalidArgument, NotFound, ResourceExhausted, Unavailable

_TIMEOUT_S = 600.0
_CONNECT_TIMEOUT_S = 5.0
_PAGE_COUNT = 100
_ERRORS: dict[int, type[ForebayError]] = {404: NotFound, 429: ResourceExhausted, 503: Unavailable}

Batch = dict[str, Any]


class BatchClient:
    """One tenant at one gateway. Every verb raises a ForebayError with the gateway's own words; close it by `with`."""

    def __init__(self, url: str, tenant: str = "", key: str = "", transport: httpx.BaseTransport | None = None) -> None:
        self._url = url
        headers = {"x-forebay-tenant": tenant, "authorization": f"Bearer {key}" if key else ""}
        self._http = httpx.Client(
            base_url=url,
            headers={name: value for name, value in headers.items() if value},
            timeout=httpx.Timeout(_TIMEOUT_S, connect=_CONNECT_TIMEOUT_S),
            trust_env=False,
            transport=transport,
        )

    def __enter__(self) -> "BatchClient":
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def upload(self, name: str, content: BinaryIO) -> str:
        """Keeps a file of requests; gives its id."""
        files = {"file": (name, content, "application/jsonl")}
        return str(self._ask("POST", "/v1/files", data={"purpose": "batch"}, files=files)["id"])

    def create(self, file_id: str, endpoint: str, window: str, metadata: Mapping[str, str]) -> Batch:
        """Makes a job of the requests in a file."""
        body = {"input_file_id": file_id, "endpoint": endpoint, "completion_window": window, "metadata": dict(metadata)}
        return self._ask("POST", "/v1/batches", json=body)

    def submit(self, name: str, content: BinaryIO, endpoint: str, window: str, metadata: Mapping[str, str]) -> Batch:
        """Makes a job of these requests; where it is refused, the file that held them goes too."""
        file_id = self.upload(name, content)
        try:
            return self.create(file_id, endpoint, window, metadata)
        except Unavailable:
            # Nobody knows whether the job was made: what it was made of stays.
            raise
        except ForebayError:
            with suppress(ForebayError):
                self._ask("DELETE", f"/v1/files/{file_id}")
            raise

    def get(self, batch_id: str) -> Batch:
        """A job as it stands."""
        return self._ask("GET", f"/v1/batches/{batch_id}")

    def cancel(self, batch_id: str) -> Batch:
        """Ends a job early."""
        return self._ask("POST", f"/v1/batches/{batch_id}/cancel")

    def list(self, limit: int) -> list[Batch]:
        """The newest jobs, newest first."""
        found: list[Batch] = []
        while len(found) < limit:
            query = {"limit": min(_PAGE_COUNT, limit - len(found)), **({"after": found[-1]["id"]} if found else {})}
            page = self._ask("GET", "/v1/batches", params=query)
            found += page["data"]
            if not page["has_more"]:
                break
        return found

    def lines(self, file_id: str) -> Iterator[str]:
        """The lines of a file as they come."""
        try:
            with self._http.stream("GET", f"/v1/files/{file_id}/content") as response:
                if response.status_code != httpx.codes.OK:
                    response.read()
                    raise _refusal(response)
                yield from response.iter_lines()
        except httpx.TransportError as error:
            raise self._away(error) from error

    def _ask(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        try:
            response = self._http.request(method, path, **options)
        except httpx.TransportError as error:
            raise self._away(error) from error
        if response.status_code != httpx.codes.OK:
            raise _refusal(response)
        value: dict[str, Any] = response.json()
        return value

    def _away(self, error: Exception) -> Unavailable:
        cause = str(error) or type(error).__name__
        return Unavailable(f"no gateway answers at {self._url} ({cause}); start a stack with: forebay up")


def _refusal(response: httpx.Response) -> ForebayError:
    kind = _ERRORS.get(response.status_code, InvalidArgument if response.status_code < 500 else Unavailable)
    try:
        text = str(response.json()["error"]["message"])
    except (json.JSONDecodeError, KeyError, TypeError):
        text = f"the gateway answered with status {response.status_code}"
    return kind(text)
