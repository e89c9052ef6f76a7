"""Several autoscalers on one database, as processes of their own: one acts, whatever is killed, stopped or away."""

import asyncio
import os
import random
import signal
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import grpc
import pytest

from forebay.wire.errors import from_rpc_error
from tests.integration.postgres import Postgres, postgres
from tests.integration.test_autoscaler_process import READY, Stage, stage, until

__all__ = ["postgres", "stage"]

LEASE_S = 2.0
BUDGET = 3


class Twins:
    """Two autoscalers in one directory, on one database; `peak` is the most instances that ever lived at once."""

    def __init__(self, first: Stage) -> None:
        self.both = (first, Stage(first.directory, first.scheduler, first.metrics, first.peers))
        self.peak = 0
        self._watching: asyncio.Task[None] | None = None
        first.write(instances_initial=2, instances_min=0, settings=f"lease_s = {LEASE_S}\ninstances_max = {BUDGET}\n")

    async def start(self) -> None:
        self._watching = asyncio.create_task(self._watch())
        for one in self.both:
            await one.start()

    async def _watch(self) -> None:
        while True:
            self.peak = max(self.peak, len(await asyncio.to_thread(self.both[0].marked)))
            await asyncio.sleep(0.02)

    async def leader(self, among: tuple[Stage, ...] = ()) -> Stage:
        """The one that says of itself that it leads."""
        found: list[Stage] = []

        async def known() -> bool:
            for one in among or self.both:
                with suppress(grpc.aio.AioRpcError):
                    if (await one.fleet()).leader == one.address:
                        found.append(one)
                        return True
            return False

        assert await until(known), self.both[0].log()
        return found[-1]

    def other(self, one: Stage) -> Stage:
        return self.both[1] if one is self.both[0] else self.both[0]

    async def bound(self, count: int) -> None:
        """Bounds are set by whoever leads, as soon as somebody does."""

        async def done() -> bool:
            for one in self.both:
                with suppress(grpc.aio.AioRpcError):
                    await one.bound(count, count)
                    return True
            return False

        assert await until(done), self.both[0].log()

    async def has(self, count: int) -> None:
        """Exactly so many instances are ready, and so many processes live, of which each is known."""

        async def settled() -> bool:
            for one in self.both:
                with suppress(grpc.aio.AioRpcError):
                    if sorted((await one.states()).values()) != [READY] * count:
                        return False
            pids = set(self.both[0].pids().values())
            return len(pids) == count and self.both[0].marked() == pids

        assert await until(settled), self.both[0].log()

    async def close(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        for one in self.both:
            if one.running is not None:
                one.running.send_signal(signal.SIGCONT)
        if self.both[1].running is not None:
            await self.both[1].end(signal.SIGTERM)


@pytest.fixture
async def twins(stage: Stage) -> AsyncIterator[Twins]:
    made = Twins(stage)
    yield made
    await made.close()


async def refusal(call: Callable[[], Awaitable[None]]) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call()
    return caught.value


async def test_one_of_two_acts_and_the_other_answers_and_names_it(twins: Twins) -> None:
    await twins.start()
    leader = await twins.leader()
    follower = twins.other(leader)
    await twins.has(2)
    assert (await follower.fleet()).leader == leader.address
    error = await refusal(lambda: follower.bound(1, 1))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert leader.address in (error.details() or "")
    assert from_rpc_error(error).code == "NOT_LEADER"
    # A leader that goes in peace is followed at once.
    await leader.end(signal.SIGTERM)
    assert await twins.leader((follower,)) is follower
    await follower.bound(1, 1)
    assert await until(lambda: follower.has(1)), follower.log()
    assert twins.peak == 2


async def test_when_the_leader_is_killed_the_other_goes_on_and_starts_nothing_twice(twins: Twins) -> None:
    await twins.start()
    moments = random.Random(11)
    for _ in range(3):
        leader = await twins.leader()
        await twins.bound(moments.randint(0, BUDGET))
        await asyncio.sleep(moments.uniform(0.0, 1.0))
        await leader.end(signal.SIGKILL)
        assert await twins.leader((twins.other(leader),)) is twins.other(leader)
        await leader.start()
    await twins.bound(2)
    await twins.has(2)
    assert twins.peak <= BUDGET


async def test_a_leader_that_slept_does_not_act_when_it_wakes(twins: Twins) -> None:
    await twins.start()
    moments = random.Random(5)
    for _ in range(3):
        leader = await twins.leader()
        await twins.bound(moments.randint(0, BUDGET))
        await asyncio.sleep(moments.uniform(0.0, 1.0))
        assert leader.running is not None
        leader.running.send_signal(signal.SIGSTOP)
        follower = twins.other(leader)
        assert await twins.leader((follower,)) is follower
        await follower.bound(2, 2)
        await asyncio.sleep(moments.uniform(0.0, 1.0))
        leader.running.send_signal(signal.SIGCONT)
        assert await twins.leader() in twins.both
    await twins.has(2)
    assert twins.peak <= BUDGET


async def test_a_database_that_is_locked_for_long_stops_nobody_for_ever(twins: Twins) -> None:
    await twins.start()
    await twins.has(2)
    before = twins.both[0].pids()
    lock = sqlite3.connect(twins.both[0].directory / "forebay.db", isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    os.kill(before["local-1"], signal.SIGKILL)
    await asyncio.sleep(3 * LEASE_S)
    # Nobody can be sure to lead, so nobody acts.
    assert set(twins.both[0].pids()) == {"local-2"}
    lock.execute("ROLLBACK")
    lock.close()
    await twins.has(2)
    assert twins.both[0].pids()["local-2"] == before["local-2"]
    assert twins.peak <= BUDGET


async def test_postgresql_may_go_and_come_back(twins: Twins, postgres: Postgres) -> None:
    url = postgres.new_database()
    for one in twins.both:
        one.peers["FOREBAY_DATABASE_URL"] = url
    await twins.start()
    await twins.has(2)
    before = twins.both[0].pids()
    await asyncio.to_thread(postgres.stop)
    os.kill(before["local-1"], signal.SIGKILL)
    await asyncio.sleep(2 * LEASE_S)
    # What is published goes on without a database: the leader sees that an instance is gone.
    assert set(twins.both[0].pids()) == {"local-2"}
    await asyncio.to_thread(postgres.start)
    await twins.has(2)
    await twins.bound(3)
    await twins.has(3)
    assert twins.peak <= BUDGET
