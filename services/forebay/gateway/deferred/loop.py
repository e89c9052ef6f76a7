"""Drives the engine of deferred work: the store's calls one after another, the requests beside each other."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, assert_never

from forebay.core.errors import Aborted, ForebayError, Unavailable
from forebay.core.units import US_PER_S
from forebay.core.values import WakeAt
from forebay.gateway.deferred.access import Access
from forebay.gateway.deferred.config import DeferredConfig
from forebay.gateway.deferred.engine import Engine
from forebay.gateway.deferred.forecasts import Forecasts
from forebay.gateway.deferred.lines import error_line, unanswered_line
from forebay.gateway.deferred.runner import Runner
from forebay.gateway.deferred.values import (
    ENDING,
    Action,
    Claim,
    End,
    Forecast,
    GiveUp,
    Job,
    Key,
    Poll,
    Record,
    Renew,
    Run,
    Stop,
    ToStore,
    Work,
)
from forebay.wire.clock import Clock

log = logging.getLogger(__name__)

_TICK_S = 0.25
_RETRY_S = 1.0
_END_COUNT = 500
_CLOSE_ROUNDS, _CLOSE_PAUSE_S = 40, 0.05


class DeferredLoop:
    """The one place that calls the engine; `owner` is this gateway's name, the same after a restart.

    `seen` is called whenever the store was looked at.
    """

    def __init__(
        self,
        engine: Engine,
        access: Access,
        runner: Runner,
        forecasts: Forecasts,
        is_linked: Callable[[], bool],
        config: DeferredConfig,
        owner: str,
        clock: Clock,
        seen: Callable[[], None] = lambda: None,
    ) -> None:
        self._engine = engine
        self._access = access
        self._runner = runner
        self._forecasts = forecasts
        self._is_linked = is_linked
        self._config = config
        self._owner = owner
        self._clock = clock
        self._seen = seen
        self._outbox: asyncio.Queue[ToStore] = asyncio.Queue()
        self._tasks: dict[Key, asyncio.Task[None]] = {}
        self._beside: set[asyncio.Task[None]] = set()
        self._wake_at_us = 0
        self._was_linked = False
        self._is_away = False
        self._is_closing = False

    def poke(self) -> None:
        """Something changed in the store: looks at once."""
        self._apply(self._engine.on_submitted(self._clock()))

    async def run(self) -> None:
        """Works for ever. What a predecessor of the same name held is free at once."""
        while True:
            if await self._free():
                break
            await asyncio.sleep(_RETRY_S)
        while not self._is_closing:
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._run_clock())
                    group.create_task(self._run_store())
            except* Exception:
                # The data plane outlives a mistake of ours; what is claimed here runs out and is done elsewhere.
                log.exception("deferred work stumbled; it goes on")
                await asyncio.sleep(_RETRY_S)

    async def close(self) -> None:
        """Breaks off what runs and frees it for other gateways; what is answered is written first."""
        self._is_closing = True
        for task in [*self._tasks.values(), *self._beside]:
            task.cancel()
        await asyncio.gather(*self._tasks.values(), *self._beside, return_exceptions=True)
        for _ in range(_CLOSE_ROUNDS):
            # The clock has stopped, and a write that failed is tried again at its time.
            self._apply(self._engine.on_wake(self._clock()))
            while not self._outbox.empty():
                await self._carry_out(self._outbox.get_nowait())
            if not self._engine.unwritten_count:
                break
            await asyncio.sleep(_CLOSE_PAUSE_S)
        await self._free()
        self._access.close()

    async def _free(self) -> bool:
        try:
            await self._access.work(lambda store: store.release(self._owner))
        except Unavailable:
            return False
        return True

    async def _run_clock(self) -> None:
        while not self._is_closing:
            now_us = self._clock()
            if self._is_linked() != self._was_linked:
                self._was_linked = not self._was_linked
                self._apply(self._engine.on_link(self._was_linked, now_us))
            if now_us >= self._wake_at_us:
                self._apply(self._engine.on_wake(now_us))
            wait_s = (self._wake_at_us - self._clock()) / US_PER_S
            await asyncio.sleep(min(max(0.0, wait_s), _TICK_S))

    async def _run_store(self) -> None:
        while not self._is_closing:
            action = await self._outbox.get()
            if isinstance(action, End):
                # Ending a job may take many calls: the others go on between them.
                self._aside(self._carry_out(action))
            else:
                await self._carry_out(action)

    async def _carry_out(self, action: ToStore) -> None:
        try:
            actions = await self._ask_store(action)
        except Unavailable as error:
            self._note(error.message)
            actions = self._engine.on_store_failed(action, self._clock())
        except Exception as error:
            # The data plane outlives a store that breaks. What SQL carried may be a prompt: the error's kind must do.
            self._note(type(error).__name__)
            actions = self._engine.on_store_failed(action, self._clock())
        else:
            self._note("")
        self._apply(actions)

    async def _ask_store(self, action: ToStore) -> list[Action]:
        now_us, work = self._clock(), self._access.work
        match action:
            case Poll():
                jobs, owner_count = await work(lambda store: store.open_jobs(now_us))
                actions = self._engine.on_jobs(jobs, owner_count, self._clock())
                self._seen()
                return actions
            case Claim(job_id, count, until_us):
                works = await work(lambda store: store.claim(job_id, self._owner, count, now_us, until_us))
                return self._engine.on_claimed(action, works, self._clock())
            case Renew(keys, until_us):
                held = await work(lambda store: store.renew(self._owner, keys, until_us))
                return self._engine.on_renewed(keys, held, self._clock())
            case Record(lines):
                await work(lambda store: store.record(lines))
                return self._engine.on_recorded(lines, self._clock())
            case End(job_id):
                await self._end(job_id)
                return self._engine.on_ended(job_id, self._clock())
        assert_never(action)

    async def _end(self, job_id: str) -> None:
        """Ends a job, step by step; each may have been done before, by us or by another gateway."""
        now_us, work = self._clock(), self._access.work
        status = await work(lambda store: store.finalize(job_id, now_us))
        if status is None or status not in ENDING:
            return
        while rest := await work(lambda store: store.pending(job_id, _END_COUNT)):
            lines = [unanswered_line(job_id, number, custom_id, status) for number, custom_id in rest]
            await work(lambda store, lines=lines: store.record(lines))  # type: ignore[misc]
        expires_us = now_us + self._config.retention_us
        job = await work(lambda store: store.close_job(job_id, now_us, expires_us))
        if job is not None:
            fields = {"job": job_id, "status": job.status.name, "completed": job.completed_count}
            log.info("a deferred job ended", extra={"fields": {**fields, "failed": job.failed_count}})

    def _apply(self, actions: Iterable[Action]) -> None:
        for action in actions:
            if self._is_closing and not isinstance(action, Record):
                continue
            match action:
                case Run(job, work):
                    self._run(job, work)
                case GiveUp(work, error):
                    self._apply(self._engine.on_answered(error_line(work, error), 0.0, self._clock()))
                case Stop(keys):
                    self._stop(keys)
                case Forecast(model, window_count):
                    self._aside(self._ask(model, window_count))
                case WakeAt(at_us):
                    self._wake_at_us = at_us
                case _:
                    self._outbox.put_nowait(action)

    def _run(self, job: Job, work: Work) -> None:
        task = asyncio.create_task(self._answer(job, work))
        self._tasks[work.key] = task
        task.add_done_callback(lambda done: self._forget(work.key, done))

    def _aside(self, work: Coroutine[Any, Any, None]) -> None:
        self._beside.add(task := asyncio.create_task(work))
        task.add_done_callback(self._beside.discard)

    def _stop(self, keys: Sequence[Key]) -> None:
        for key in keys:
            if (task := self._tasks.pop(key, None)) is not None:
                task.cancel()

    def _forget(self, key: Key, task: asyncio.Task[None]) -> None:
        if self._tasks.get(key) is task:
            del self._tasks[key]

    async def _answer(self, job: Job, work: Work) -> None:
        try:
            line, tokens = await self._runner.answer(job, work)
        except ForebayError as error:
            self._apply(self._engine.on_failed(work.key, error, self._clock()))
        except Exception:
            log.exception("a deferred request broke", extra={"fields": {"job": job.job_id, "number": work.number}})
            self._apply(self._engine.on_failed(work.key, Aborted("internal error"), self._clock()))
        else:
            self._apply(self._engine.on_answered(line, tokens, self._clock()))

    async def _ask(self, model: str, window_count: int) -> None:
        demand = await self._forecasts.ask(model, window_count)
        self._apply(self._engine.on_forecast(model, demand, self._clock()))

    def _note(self, problem: str) -> None:
        """Says once that the store is away, and once that it is back."""
        if bool(problem) != self._is_away:
            self._is_away = bool(problem)
            text = "deferred work waits for its store" if problem else "the store of deferred work answers again"
            log.warning(text, extra={"fields": {"error": problem}})


async def purge(access: Access, config: DeferredConfig, clock: Clock) -> None:
    """Deletes what is too old, now and then, for ever."""
    while True:
        try:
            now_us = clock()
            gone_count = await access.call(lambda store, now=now_us: store.purge(now, now - config.retention_us))  # type: ignore[misc]
            log.log(logging.INFO if gone_count else logging.DEBUG, "deleted %d old files and jobs", gone_count)
        except Unavailable as error:
            log.debug("old deferred work is not deleted", extra={"fields": {"error": error.message}})
        except Exception as error:
            # As above: the data plane outlives it, and the error's kind must do.
            log.warning("old deferred work is not deleted", extra={"fields": {"error": type(error).__name__}})
        await asyncio.sleep(config.purge_interval_s)
