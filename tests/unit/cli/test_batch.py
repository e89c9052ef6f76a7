"""`forebay batch` against a scripted gateway."""

import json
from collections.abc import Callable
from io import BytesIO
from typing import Any

import httpx
import pytest

from forebay.cli.batch_client import BatchClient
from forebay.core.errors import ForebayError, InvalidArgument, NotFound, ResourceExhausted, Unavailable

Handler = Callable[[httpx.Request], httpx.Response]


def client(handler: Handler, tenant: str = "") -> BatchClient:
    return BatchClient("http://gateway", tenant, "secret", httpx.MockTransport(handler))


def test_a_file_is_uploaded_for_its_tenant_and_a_batch_is_made_of_it() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        request.read()
        seen.append(request)
        return httpx.Response(200, json={"id": "file-1" if request.url.path == "/v1/files" else "batch_1"})

    with client(answer, "blue") as one:
        file_id = one.upload("p.jsonl", BytesIO(b"content"))
        batch = one.create(file_id, "/v1/completions", "2h", {"k": "v"})
    assert batch["id"] == "batch_1"
    assert b'name="purpose"' in seen[0].content
    assert b"content" in seen[0].content
    assert json.loads(seen[1].content) == {
        "input_file_id": "file-1",
        "endpoint": "/v1/completions",
        "completion_window": "2h",
        "metadata": {"k": "v"},
    }
    assert {request.headers["x-forebay-tenant"] for request in seen} == {"blue"}
    assert {request.headers["authorization"] for request in seen} == {"Bearer secret"}


@pytest.mark.parametrize(("status", "is_left"), [(400, False), (429, False), (503, True)])
def test_a_job_that_is_refused_leaves_no_file_behind(status: int, is_left: bool) -> None:
    files = set[str]()

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/batches":
            return httpx.Response(status, json={"error": {"message": "line 1: no"}})
        files.symmetric_difference_update({"file-1"})
        return httpx.Response(200, json={"id": "file-1"})

    with client(answer) as one, pytest.raises(ForebayError, match="line 1: no"):
        one.submit("p.jsonl", BytesIO(b"content"), "/v1/completions", "2h", {})
    assert bool(files) is is_left


def test_a_list_follows_the_pages() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        start, limit = int(request.url.params.get("after", "0")), int(request.url.params["limit"])
        data = [{"id": str(number)} for number in range(start + 1, start + 1 + min(limit, 100))]
        return httpx.Response(200, json={"data": data, "has_more": True})

    with client(answer) as one:
        assert [batch["id"] for batch in one.list(250)] == [str(number) for number in range(1, 251)]


def test_lines_come_as_they_are() -> None:
    with client(lambda _: httpx.Response(200, content=b'{"a": 1}\n{"b": 2}\n')) as one:
        assert list(one.lines("file-1")) == ['{"a": 1}', '{"b": 2}']


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, InvalidArgument), (404, NotFound), (413, InvalidArgument), (429, ResourceExhausted), (503, Unavailable)],
)
def test_a_refusal_speaks_the_gateway_s_words(status: int, kind: type[ForebayError]) -> None:
    body: Any = {"error": {"message": "line 3: is not valid JSON"}}
    with client(lambda _: httpx.Response(status, json=body)) as one:
        with pytest.raises(kind, match="line 3: is not valid JSON"):
            one.get("batch_1")
        with pytest.raises(kind, match="line 3"):
            list(one.lines("file-1"))


def test_something_that_is_no_gateway_is_told_by_its_status() -> None:
    with (
        client(lambda _: httpx.Response(502, content=b"<html>")) as one,
        pytest.raises(Unavailable, match="status 502"),
    ):
        one.get("batch_1")


def test_a_gateway_that_is_away_says_how_to_start_one() -> None:
    def away(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    with client(away) as one:
        for ask in (lambda: one.get("batch_1"), lambda: list(one.lines("file-1"))):
            with pytest.raises(Unavailable, match="forebay up"):
                ask()
