"""The loop of deferred work with a scripted runner: forecasts, mistakes, and how it closes."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from forebay.core.errors import Unavailable
from forebay.gateway.deferred.access import Access
from forebay.gateway.deferred.config import DeferredConfig
from forebay.gateway.deferred.engine import Engine
from forebay.gateway.deferred.lines import answer_line
from forebay.gateway.deferred.loop import DeferredLoop, purge
from forebay.gateway.deferred.pacing import Demand
from forebay.gateway.deferred.store import Store
from forebay.gateway.deferred.store_memory import MemoryStore
from forebay.gateway.deferred.values import Job, Key, Line, NewRequest, Work
from forebay.wire.clock import now_us
from tests.contract.gateway_stage import until

HOUR = 3_600_000_000
CONFIG = DeferredConfig(window_min=4, poll_s=0.05, retry_s=0.02, claim_s=30.0)


class FakeRunner:
    """Answers as the script says; by default at once."""

    def __init__(self) -> None:
        self.ran: list[Key] = []
        self.script: Callable[[Work], Any] = lambda work: asyncio.sleep(0)

    async def answer(self, job: Job, work: Work) -> tuple[Line, float]:
        self.ran.append(work.key)
        await self.script(work)
        return answer_line(work, "r", b"{}"), 10.0


class FakeForecasts:
    """Forecasts what it is told to."""

    def __init__(self) -> None:
        self.demand: Demand | None = None
        self.asked: list[tuple[str, int]] = []

    async def ask(self, model: str, window_count: int) -> Demand | None:
        self.asked.append((model, window_count))
        return self.demand


class BrokenStore(MemoryStore):
    """A store that fails as often as it is told to, with the errors it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.failures: list[Exception] = []

    def _fail(self) -> None:
        if self.failures:
            raise self.failures.pop()

    def open_jobs(self, now_us: int) -> tuple[list[Job], int]:
        self._fail()
        return super().open_jobs(now_us)

    def record(self, lines: Sequence[Line]) -> set[Key]:
        self._fail()
        return super().record(lines)


class Plant:
    """One loop with what it works on."""

    def __init__(self, store: Store, config: DeferredConfig = CONFIG) -> None:
        self.store, self.runner, self.forecasts = store, FakeRunner(), FakeForecasts()
        self.engine = Engine(config)
        runner: Any = self.runner
        forecasts: Any = self.forecasts
        self.loop = DeferredLoop(
            self.engine, Access(lambda: store), runner, forecasts, lambda: True, config, "me", now_us
        )

    def submit(self, count: int) -> None:
        start_us = now_us()
        job = Job("batch_1", "t", "/v1/completions", "", "", 36_000, start_us, start_us + 10 * HOUR)
        self.store.keep_job(job, (NewRequest(n, f"r{n}", "m", "{}", 1, 1) for n in range(1, count + 1)), "", start_us)

    @property
    def job(self) -> Job:
        found = self.store.job("t", "batch_1")
        assert found is not None
        return found

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.loop.run())
        try:
            yield
        finally:
            await self.loop.close()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_a_forecast_peak_holds_work_back_until_the_valley() -> None:
    plant = Plant(MemoryStore(), DeferredConfig(window_min=4, poll_s=0.05, forecast_interval_s=0.2))
    plant.engine.on_forecast("m", Demand(now_us() - HOUR, 2 * HOUR, (1e9, *(0.0,) * 9)), now_us())
    plant.forecasts.demand = Demand(now_us() - HOUR, 2 * HOUR, (1e9, *(0.0,) * 9))
    plant.submit(20)
    async with plant.running():
        await until(lambda: len(plant.forecasts.asked) >= 3, "the forecast is asked for again and again")
        assert plant.runner.ran == []
        assert plant.forecasts.asked[0] == ("m", 120)
        plant.forecasts.demand = Demand(now_us(), HOUR, (0.0, 1e9))
        await until(lambda: plant.job.completed_count == 20, "the valley lets it go")


async def test_a_runner_that_breaks_is_tried_again() -> None:
    plant = Plant(MemoryStore())
    plant.submit(3)

    async def breaks_once(work: Work) -> None:
        if plant.runner.ran.count(work.key) == 1:
            raise RuntimeError("a bug")

    plant.runner.script = breaks_once
    async with plant.running():
        await until(lambda: plant.job.completed_count == 3, "all are answered")
    assert len(plant.runner.ran) == 6


@pytest.mark.parametrize("error", [Unavailable("away"), RuntimeError("a bug")])
async def test_a_store_that_fails_is_asked_again(error: Exception) -> None:
    store = BrokenStore()
    plant = Plant(store)
    plant.submit(10)
    store.failures = [error] * 5
    async with plant.running():
        await until(lambda: plant.job.ended_us > 0, "the job ends")
    assert plant.job.completed_count == 10
    assert sorted(plant.runner.ran) == [("batch_1", number) for number in range(1, 11)], "nothing ran twice"


async def test_closing_frees_what_runs_for_others() -> None:
    plant = Plant(MemoryStore())
    plant.submit(10)

    async def forever(_: Work) -> None:
        await asyncio.sleep(3_600)

    plant.runner.script = forever
    async with plant.running():
        await until(lambda: len(plant.runner.ran) == 4, "a window is full")
        assert plant.store.claim("batch_1", "other", 10, now_us(), now_us() + HOUR)[0].number == 5
        plant.store.release("other")
    free = plant.store.claim("batch_1", "other", 10, now_us(), now_us() + HOUR)
    assert [work.number for work in free] == list(range(1, 11))


async def test_closing_writes_what_is_answered() -> None:
    store = BrokenStore()
    plant = Plant(store)
    plant.submit(4)
    async with plant.running():
        answered = lambda: plant.engine.unwritten_count + plant.job.completed_count  # noqa: E731
        await until(lambda: answered() == 4, "all are answered")
        store.failures = [Unavailable("away")]
    assert plant.job.completed_count == 4


async def test_closing_writes_again_what_could_not_be_written() -> None:
    class Refusing(MemoryStore):
        failures = 1

        def record(self, lines: Sequence[Line]) -> set[Key]:
            if self.failures:
                self.failures -= 1
                raise Unavailable("away")
            return super().record(lines)

    plant = Plant(Refusing(), DeferredConfig(retry_s=0.5))
    plant.submit(4)
    async with plant.running():
        await until(lambda: plant.engine.unwritten_count == 4, "all are answered and none is written")
    assert plant.job.completed_count == 4


async def test_a_store_that_breaks_does_not_end_what_deletes_old_work() -> None:
    store, asked = MemoryStore(), list[int]()

    class Broken(MemoryStore):
        def purge(self, now_us: int, ended_before_us: int) -> int:
            asked.append(now_us)
            if len(asked) < 3:
                raise [Unavailable("away"), ValueError("broken")][len(asked) - 1]
            return store.purge(now_us, ended_before_us)

    access = Access(Broken)
    task = asyncio.create_task(purge(access, DeferredConfig(purge_interval_s=0.01), now_us))
    await until(lambda: len(asked) > 3, "it goes on")
    task.cancel()
    access.close()


async def test_a_mistake_of_the_engine_does_not_end_the_gateway(caplog: pytest.LogCaptureFixture) -> None:
    plant = Plant(MemoryStore())
    plant.submit(3)
    wake, plant.engine.on_wake = plant.engine.on_wake, None  # type: ignore[method-assign,assignment]
    async with plant.running():
        await until(lambda: "it goes on" in caplog.text, "the log says so")
        plant.engine.on_wake = wake  # type: ignore[method-assign]
        await until(lambda: plant.job.completed_count == 3, "it goes on")
