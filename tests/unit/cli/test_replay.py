"""An open loop keeps the trace's times whatever the answers do; a closed loop keeps its clients busy."""

import asyncio
from collections.abc import Callable

import httpx
import pytest

from forebay.cli.client import GatewayClient
from forebay.cli.loaders import Prompt
from forebay.cli.plan import Dealer
from forebay.cli.replay import Replay
from forebay.cli.stats import CANCELLED, OK

ANSWER = b'data: {"choices": [{"text": "a", "finish_reason": "stop"}]}\n\n'


class Gateway:
    """Answers at once, or only when `release` is called; counts what is in flight."""

    def __init__(self, held: bool = False) -> None:
        self.released = asyncio.Event()
        self.in_flight = self.most_in_flight = self.count = 0
        if not held:
            self.released.set()

    async def __call__(self, _request: httpx.Request) -> httpx.Response:
        self.count += 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        await self.released.wait()
        await asyncio.sleep(0)
        self.in_flight -= 1
        return httpx.Response(200, content=ANSWER)

    async def reached(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await asyncio.sleep(0)


def replay_of(gateway: Gateway) -> tuple[GatewayClient, Replay]:
    client = GatewayClient("http://gateway", 5.0, httpx.MockTransport(gateway))
    return client, Replay(client, Dealer([Prompt("p")], ["m"], ["interactive-fast"], None, 1))


async def test_an_open_loop_sends_although_nothing_is_answered() -> None:
    gateway = Gateway(held=True)
    client, replay = replay_of(gateway)
    async with client:
        running = asyncio.create_task(replay.open_loop([0.0, 0.0, 0.0]))
        await gateway.reached(lambda: gateway.in_flight == 3)
        assert replay.progress.in_flight_count == 3
        gateway.released.set()
        await running
    assert [one.outcome for one in replay.results] == [OK] * 3


async def test_a_closed_loop_keeps_its_clients_busy_and_ends_at_its_limit() -> None:
    gateway = Gateway()
    client, replay = replay_of(gateway)
    async with client:
        await replay.closed_loop(3, duration_s=None, limit=10)
    assert gateway.most_in_flight == 3
    assert sorted(one.index for one in replay.results) == list(range(10))


async def test_a_closed_loop_ends_when_its_time_is_over() -> None:
    client, replay = replay_of(Gateway())
    async with client:
        await asyncio.wait_for(replay.closed_loop(2, duration_s=0.0, limit=None), 5)
    assert replay.results == []


@pytest.mark.parametrize("closed", [False, True])
async def test_a_run_that_is_stopped_counts_what_was_in_flight_as_cancelled(closed: bool) -> None:
    gateway = Gateway(held=True)
    client, replay = replay_of(gateway)
    async with client:
        run = replay.closed_loop(2, None, 100) if closed else replay.open_loop([0.0, 0.0, 3600.0])
        running = asyncio.create_task(run)
        await gateway.reached(lambda: gateway.in_flight == 2)
        replay.stop()
        await asyncio.wait_for(running, 5)
    assert [one.outcome for one in replay.results] == [CANCELLED] * 2
    assert replay.progress.in_flight_count == 0
