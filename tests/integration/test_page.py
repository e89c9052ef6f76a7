"""The live page's endpoints: the metrics service as a process, made-up parts beside it."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from forebay.metrics.page.delta import applied
from tests.integration.made_up_fleet import Plant, plant

WAIT_S = 60.0
State = dict[str, dict[str, Any]]


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def made(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Plant]:
    """One for all tests that break nothing."""
    async with plant(tmp_path_factory.mktemp("plant"), 12, history_s=20, settings="viewer_count_max = 2\n") as one:
        yield one


@pytest_asyncio.fixture(loop_scope="module")
async def own(tmp_path: Path) -> AsyncIterator[Plant]:
    """One for a test that breaks it."""
    async with plant(tmp_path, 12, history_s=5) as one:
        yield one


def client() -> httpx.AsyncClient:
    return httpx.AsyncClient(trust_env=False, timeout=WAIT_S)


@asynccontextmanager
async def viewer(url: str) -> AsyncIterator[AsyncIterator[tuple[str, State]]]:
    """A browser: the events of the stream, each with the state after it."""
    async with client() as http, http.stream("GET", f"{url}events") as answer:
        assert answer.status_code == 200, await answer.aread()
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield events(answer)


async def events(answer: httpx.Response) -> AsyncIterator[tuple[str, State]]:
    kind, state = "", dict[str, dict[str, Any]]()
    async for line in answer.aiter_lines():
        if line.startswith("event: "):
            kind = line.removeprefix("event: ")
        elif line.startswith("data: "):
            change = json.loads(line.removeprefix("data: "))["change"]
            state = applied({} if kind == "whole" else state, change)
            yield kind, state


async def until(seen: AsyncIterator[tuple[str, State]], good: Callable[[State], bool]) -> State:
    async with asyncio.timeout(WAIT_S):
        async for _, state in seen:
            if good(state):
                return state
    raise AssertionError("the stream ended")


def part(state: State, kind: str) -> dict[str, Any]:
    return next(one for one in state["parts"].values() if one["kind"] == kind)


async def test_a_browser_is_told_everything_at_once_and_then_what_changes(made: Plant) -> None:
    async with viewer(made.url) as seen:
        kind, state = await anext(seen)
        assert kind == "whole"
        assert all(one["up"] for one in state["parts"].values())
        state = await until(seen, lambda now: len(now["ahead"]) == 12 and any(row[3] for row in now["loads"].values()))
        assert set(state["models"]) == {"llama-3-8b", "qwen-2.5-32b"}
        assert {one["class"] for one in state["queues"].values()} == {
            "interactive_fast",
            "interactive_normal",
            "deferred",
        }
        assert state["fleet"]["now"]["policy"] == "forebay"
        for section in ("traffic", "bands", "slo", "lengths", "decisions", "scaling", "pools", "shadows", "accuracy"):
            assert state[section], section
        known = set(state["decisions"])
        await made.step()
        kinds = set()
        async for kind, later in seen:
            kinds.add(kind)
            if set(later["decisions"]) - known:
                break
        assert kinds == {"delta"}
        async with viewer(made.url) as other:
            kind, whole = await anext(other)
            assert kind == "whole"
            assert set(whole) == set(later)


async def test_nothing_is_asked_while_nobody_looks(made: Plant) -> None:
    await asyncio.sleep(1.5)
    idle = made.scheduler.asked_count
    await asyncio.sleep(2.0)
    assert made.scheduler.asked_count == idle
    async with viewer(made.url) as seen:
        await anext(seen)
        await anext(seen)
    assert made.scheduler.asked_count > idle
    await asyncio.sleep(1.5)
    after = made.scheduler.asked_count
    await asyncio.sleep(2.0)
    assert made.scheduler.asked_count == after


async def test_a_part_that_is_away_leaves_a_note_and_the_rest_goes_on(own: Plant) -> None:
    async with viewer(own.url) as seen:
        await until(seen, lambda now: bool(now["fleet"]))
        await own.parts["autoscaler"].stop(0)
        state = await until(seen, lambda now: not part(now, "autoscaler")["up"])
        assert "the fleet stays as it is" in part(state, "autoscaler")["note"]
        assert not state["fleet"]
        assert len(state["instances"]) == 12
        await own.parts["scheduler"].stop(0)
        state = await until(seen, lambda now: not part(now, "scheduler")["up"])
        assert not state["ahead"]
        assert state["instances"]
        async with client() as http:
            answer = await http.get(f"{own.url}decisions/s-1")
        assert (answer.status_code, answer.json()["reason"]) == (503, "UNAVAILABLE")


async def test_a_decision_is_explained_and_an_unknown_one_is_not_found(made: Plant) -> None:
    async with client() as http:
        found = (await http.get(f"{made.url}decisions/s-1")).json()
        assert found["candidates"][0]["instance_id"] == found["instance_id"]
        assert found["candidate_count"] == len(found["candidates"])
        assert found["flip"]["to"] == 350.0
        assert found["predicted_length"]["p50_tokens"] == 140
        unknown = await http.get(f"{made.url}decisions/no/such%20one")
        assert (unknown.status_code, unknown.json()["reason"]) == (404, "NOT_FOUND")


async def test_every_answer_forbids_what_is_not_from_here(made: Plant) -> None:
    async with client() as http:
        for path in ("", "static/main.js", "static/vendor/uPlot.iife.min.js", "decisions/s-1", "no/such/page"):
            headers = (await http.get(f"{made.url}{path}")).headers
            assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'"), path
            assert headers["x-content-type-options"] == "nosniff"
            assert headers.get_list("cache-control") == ["no-cache"]
        assert (await http.post(made.url)).status_code == 405
        assert (await http.get(f"{made.url}static/../app.py")).status_code == 404
        assert (await http.get(f"{made.url}static/%2e%2e/app.py")).status_code == 404


async def test_another_site_that_names_this_machine_reads_nothing(made: Plant) -> None:
    async with client() as http:
        assert (await http.get(made.url, headers={"host": "evil.example"})).status_code == 400
        assert (await http.get(made.url, headers={"host": "localhost:1"})).status_code == 200


async def test_more_browsers_than_allowed_are_told_so(made: Plant) -> None:
    async with viewer(made.url) as one, viewer(made.url) as two:
        await anext(one)
        await anext(two)
        async with client() as http:
            answer = await http.get(f"{made.url}events")
        assert answer.status_code == 503
        assert "2 browsers look" in answer.json()["message"]


async def test_the_service_ends_while_browsers_look(own: Plant) -> None:
    async with viewer(own.url) as seen:
        await anext(seen)
        own.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(WAIT_S):
            async for _ in seen:
                pass
    assert await asyncio.to_thread(own.process.wait, WAIT_S) == 0


async def test_an_address_that_is_taken_ends_the_start_with_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        environment = {
            "PATH": os.defpath,
            "PYTHONPATH": "services:clients/python",
            "FOREBAY_LISTEN": "127.0.0.1:0",
            "FOREBAY_PROMETHEUS": "",
            "FOREBAY_LOG_LEVEL": "WARNING",
            "FOREBAY_PAGE": f"127.0.0.1:{taken.getsockname()[1]}",
            "FOREBAY_DATABASE_URL": f"sqlite:///{tmp_path}/x.db",
        }
        command = [sys.executable, "-m", "forebay.metrics"]
        ended = await asyncio.to_thread(
            subprocess.run, command, env=environment, capture_output=True, text=True, timeout=WAIT_S, check=False
        )
    assert ended.returncode == 2
    assert "choose another FOREBAY_PAGE" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
