"""Real processes that die, hang, leave and come back, and what clients of the gateway see of it."""

import asyncio
import json
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from forebay.gateway.values import RequestStatus
from tests.integration.gateway_plant import MODEL, Plant, planted

LONG = 4000
"""Tokens of an answer that does not end by itself during a test."""


class Stream:
    """One streamed answer, read event by event."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.events: list[Any] = []
        self.is_whole = False

    @property
    def instance(self) -> str:
        return self.response.headers["x-forebay-instance"]

    @property
    def text(self) -> str:
        deltas = [event["choices"][0]["delta"] for event in self.events if event.get("choices")]
        return "".join(delta.get("content") or "" for delta in deltas)

    @property
    def errors(self) -> list[str]:
        return [event["error"]["message"] for event in self.events if "error" in event]

    async def read(self) -> None:
        async for line in self.response.aiter_lines():
            if line == "data: [DONE]":
                self.is_whole = True
            elif line.startswith("data: "):
                self.events.append(json.loads(line.removeprefix("data: ")))


def body(tokens: int, *, stream: bool = True) -> dict[str, Any]:
    messages = [{"role": "user", "content": "How deep is the pool?"}]
    return {"model": MODEL, "messages": messages, "max_tokens": tokens, "ignore_eos": True, "stream": stream}


async def ask(http: httpx.AsyncClient, plant: Plant, tokens: int) -> Stream:
    """A whole streamed answer."""
    async with http.stream("POST", f"{plant.http_url}/v1/chat/completions", json=body(tokens)) as response:
        stream = Stream(response)
        assert response.status_code == 200, (await response.aread()).decode()
        await stream.read()
        return stream


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=200)) as client:
        yield client


class Load:
    """Clients that ask again and again until they are told to stop."""

    def __init__(self, http: httpx.AsyncClient, plant: Plant, client_count: int, tokens: int = 40) -> None:
        self._http, self._plant, self._tokens = http, plant, tokens
        self._is_over = False
        self.answers: list[Stream] = []
        self._tasks = [asyncio.create_task(self._run()) for _ in range(client_count)]

    async def _run(self) -> None:
        while not self._is_over:
            self.answers.append(await ask(self._http, self._plant, self._tokens))

    async def more(self, count: int) -> None:
        """Waits for so many more answers, and fails with the first client that failed."""
        goal = len(self.answers) + count

        def is_enough() -> bool:
            for task in self._tasks:
                if task.done():
                    task.result()
            return len(self.answers) >= goal

        await self._plant.until(is_enough, f"{goal} answers")

    async def end(self) -> None:
        self._is_over = True
        await asyncio.gather(*self._tasks)


async def test_load_outlives_the_scheduler_and_is_handed_back_to_its_successor(
    tmp_path: Path, http: httpx.AsyncClient
) -> None:
    async with planted(tmp_path) as plant:
        load = Load(http, plant, client_count=8)
        await load.more(20)
        plant.processes["scheduler"].kill()
        plant.processes["scheduler"].wait()
        await plant.ready("down")
        await load.more(20)
        # A long answer that begins without a scheduler must be known to the next one.
        async with http.stream("POST", f"{plant.http_url}/v1/chat/completions", json=body(LONG)) as response:
            assert response.status_code == 200
            assert "x-forebay-decision-id" not in response.headers
            plant.start("scheduler")
            await plant.ready("linked")

            async def is_told() -> bool:
                return any(lease.lease_id.startswith("own-") for lease in await plant.leases())

            await plant.until(is_told, "the lease that the gateway gave itself, at the new scheduler")
            await load.more(20)
        await load.end()

        async def is_over() -> bool:
            return not await plant.leases()

        await plant.until(is_over, "the end of all leases")
        assert all(answer.is_whole and not answer.errors for answer in load.answers)
        await plant.until(lambda: len(plant.records) == len(load.answers) + 1, "a record of each request")
        placed_by = {bool(record.decision_id) for record in plant.records}
        assert placed_by == {True, False}
        assert [r.status for r in plant.records].count(RequestStatus.OK) == len(load.answers)
        last = [answer.response.headers for answer in load.answers[-4:]]
        assert any("x-forebay-decision-id" in headers for headers in last)


async def test_a_scheduler_that_hangs_is_done_without(tmp_path: Path, http: httpx.AsyncClient) -> None:
    async with planted(tmp_path, gateway_config="[gateway]\nscheduler_timeout_s = 1.0\n") as plant:
        process = plant.processes["scheduler"]
        process.send_signal(signal.SIGSTOP)
        answers = await asyncio.gather(*(ask(http, plant, 5) for _ in range(4)))
        assert all(answer.is_whole for answer in answers)
        assert all("x-forebay-decision-id" not in answer.response.headers for answer in answers)
        process.send_signal(signal.SIGCONT)
        await plant.ready("linked")
        assert (await ask(http, plant, 5)).response.headers["x-forebay-decision-id"]


async def test_an_instance_that_dies_in_the_middle_breaks_off_its_answers_and_no_others(
    tmp_path: Path, http: httpx.AsyncClient
) -> None:
    async with planted(tmp_path) as plant:
        requests = [
            http.build_request("POST", f"{plant.http_url}/v1/chat/completions", json=body(300)) for _ in range(8)
        ]
        streams = [Stream(await http.send(request, stream=True)) for request in requests]
        served = {stream.instance for stream in streams}
        assert served == {f"s0/{MODEL}", f"s1/{MODEL}"}
        plant.emulators[0].process.kill()
        await asyncio.gather(*(stream.read() for stream in streams))
        for stream in streams:
            assert stream.text, "what was sent stands"
            if stream.instance == f"s0/{MODEL}":
                assert "instance s0/llama failed" in stream.errors[0]
                assert not stream.is_whole
            else:
                assert stream.is_whole
        after = await asyncio.gather(*(ask(http, plant, 5) for _ in range(6)))
        assert {answer.instance for answer in after} == {f"s1/{MODEL}"}
        await plant.until(lambda: len(plant.records) == 14, "a record of each request")
        failed = [record for record in plant.records if record.status == RequestStatus.FAILED]
        assert len(failed) == len([stream for stream in streams if stream.errors])
        assert all(record.response_tokens > 0 for record in failed)


async def test_an_instance_that_dies_before_the_first_token_is_replaced_unseen(
    tmp_path: Path, http: httpx.AsyncClient
) -> None:
    async with planted(tmp_path) as plant:
        for number in (0, 1):
            plant.emulators[number].inject({"hang": True})
        waiting = [asyncio.create_task(ask(http, plant, 5)) for _ in range(6)]

        async def all_are_placed() -> bool:
            return len(await plant.leases()) == 6

        await plant.until(all_are_placed, "six leases")
        plant.emulators[0].process.kill()
        plant.emulators[1].inject({"hang": False})
        answers = await asyncio.gather(*waiting)
        assert all(answer.is_whole and not answer.errors for answer in answers)
        assert {answer.instance for answer in answers} == {f"s1/{MODEL}"}
        await plant.until(lambda: len(plant.records) == 6, "a record of each request")
        assert sorted({record.attempt_count for record in plant.records}) == [1, 2]


async def test_an_instance_that_hangs_is_replaced_in_time(tmp_path: Path, http: httpx.AsyncClient) -> None:
    async with planted(tmp_path, gateway_config="[gateway]\nfirst_token_timeout_s = 1.0\n") as plant:
        plant.emulators[0].inject({"hang": True})
        answers = await asyncio.gather(*(ask(http, plant, 5) for _ in range(4)))
        assert {answer.instance for answer in answers} == {f"s1/{MODEL}"}


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_disconnects_frees_its_place_on_the_instance(
    tmp_path: Path, http: httpx.AsyncClient, stream: bool
) -> None:
    async with planted(tmp_path, emulator_count=1) as plant:
        [emulator] = plant.emulators
        url = f"{plant.http_url}/v1/chat/completions"
        leaving = [asyncio.create_task(http.post(url, json=body(LONG, stream=stream))) for _ in range(5)]

        def running() -> float:
            return emulator.metric("vllm:num_requests_running")

        await plant.until(lambda: running() == 5, "five running requests")
        for task in leaving:
            task.cancel()
        await asyncio.gather(*leaving, return_exceptions=True)
        await plant.until(lambda: running() == 0, "the end of all five on the instance")
        await plant.until(lambda: len(plant.records) == 5, "a record of each request")
        assert {record.status for record in plant.records} == {RequestStatus.CANCELLED}

        async def is_over() -> bool:
            return not await plant.leases()

        await plant.until(is_over, "the end of all leases")


async def test_a_gateway_that_is_told_to_stop_ends_what_it_began(tmp_path: Path, http: httpx.AsyncClient) -> None:
    async with planted(tmp_path, emulator_count=1) as plant:
        gateway = plant.processes["gateway"]
        request = http.build_request("POST", f"{plant.http_url}/v1/chat/completions", json=body(300))
        stream = Stream(await http.send(request, stream=True))
        gateway.terminate()
        await stream.read()
        assert stream.is_whole
        assert await asyncio.to_thread(gateway.wait, 30) == 0
        assert [record.status for record in plant.records] == [RequestStatus.OK]
        assert not await plant.leases()


async def test_a_gateway_that_is_killed_frees_its_leases_when_it_returns(
    tmp_path: Path, http: httpx.AsyncClient
) -> None:
    async with planted(tmp_path, emulator_count=1) as plant:
        request = http.build_request("POST", f"{plant.http_url}/v1/chat/completions", json=body(LONG))
        stream = Stream(await http.send(request, stream=True))
        plant.processes["gateway"].kill()
        with pytest.raises(httpx.TransportError):
            await stream.read()
        plant.processes["gateway"].wait()
        plant.start("gateway")
        await plant.ready("linked")

        async def is_over() -> bool:
            return not await plant.leases()

        await plant.until(is_over, "the end of the dead gateway's leases")
        assert (await ask(http, plant, 5)).is_whole


@pytest.mark.parametrize("taken", ["_http", "grpc_address"])
async def test_a_port_in_use_is_said_plainly(tmp_path: Path, taken: str) -> None:
    plant = Plant(tmp_path, "")
    host, port = getattr(plant, taken).split(":")
    with socket.create_server((host, int(port))):
        process = plant.start("gateway")
        assert await asyncio.to_thread(process.wait, 60) == 2
    last = plant.log("gateway").read_text().splitlines()[-1]
    assert last.startswith(f"error: cannot listen on {host}:{port}")


async def test_a_misspelt_key_is_said_plainly(tmp_path: Path) -> None:
    plant = Plant(tmp_path, "[gateway]\nattempt_max = 3\n")
    assert await asyncio.to_thread(plant.start("gateway").wait, 60) == 2
    assert "did you mean 'attempts_max'" in plant.log("gateway").read_text()
