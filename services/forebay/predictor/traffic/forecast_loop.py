"""Answers forecasts by the engine: reads the history, keeps deadlines, and has refits made where nobody waits."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Summary

from forebay.core.errors import Unavailable
from forebay.core.units import US_PER_S
from forebay.core.values import WorkloadPoint
from forebay.predictor.policy.forecaster import ForecastFailed
from forebay.predictor.traffic.asking import Answer, Asking, Who
from forebay.predictor.traffic.forecasting import ForecastingEngine, Refit
from forebay.predictor.traffic.history import SeriesName, told_of
from forebay.predictor.traffic.learned import Learned, curves_of, lead_max_of
from forebay.predictor.traffic.refit.tasks import Task
from forebay.wire.clock import Clock

log = logging.getLogger(__name__)

RETRY_AFTER_US = 2 * US_PER_S
WARM_S = 30.0
"""So long the first forecast of a new fit may take, imports and all."""
WARM_LEAD_COUNT = 24
READ_COUNT_MAX = 8
"""Histories that are read at once."""
READ_SHARE = 0.8
"""Of a deadline, what reading the history may take at most."""


class History(Protocol):
    """Where the history is."""

    async def read(self, series: SeriesName, start_us: int, end_us: int) -> Sequence[WorkloadPoint]:
        """The windows of a span. Raises Unavailable when nobody can tell."""
        ...


class Fitter(Protocol):
    """Who fits."""

    async def fit(self, task: Task) -> Learned:
        """What the forecaster learns. Raises ForecastFailed."""
        ...

    async def close(self) -> None:
        """Gives up what is being fitted."""
        ...


@dataclass(frozen=True, slots=True)
class Limits:
    """How much history is read (in no more than `points_max` windows, and none that ended less than `settle_us` ago),
    how long an answer takes at most, and how many are worked on at once."""

    history_us: int
    points_max: int
    settle_us: int
    deadline_s: float
    count_max: int


class Forecasts:
    """Every question is answered within the deadline: by what was fitted, by the fallback, or by the last value."""

    def __init__(
        self,
        engine: ForecastingEngine,
        who: Callable[[], Who],
        history: History,
        fitter: Fitter,
        clock: Clock,
        registry: CollectorRegistry,
        limits: Limits,
    ) -> None:
        self._engine = engine
        self._who = who
        self._history = history
        self._fitter = fitter
        self._clock = clock
        self._limits = limits
        self._slots = asyncio.Semaphore(limits.count_max)
        self._read_slots = asyncio.Semaphore(READ_COUNT_MAX)
        self._refits: set[asyncio.Task[None]] = set()
        self._readings: dict[SeriesName, asyncio.Task[None]] = {}
        self._stats = Stats(registry, engine, lambda: len(self._refits))

    async def ask(self, name: SeriesName, horizon_count: int) -> tuple[Asking, Answer]:
        """The forecast of the windows that have not begun, from those that are complete.

        Raises Unavailable when the history cannot be read and none was read lately.
        """
        end_s = asyncio.get_running_loop().time() + self._limits.deadline_s
        asking = await self._asking(name, horizon_count, end_s - (1 - READ_SHARE) * self._limits.deadline_s)
        answer = await self._answer(asking, end_s)
        if answer.failure:
            fields = {"model": name.model, "by": asking.who.label, "answered": answer.label, "error": answer.failure}
            log.warning("a forecaster failed", extra={"fields": fields})
        self._stats.forecasts.labels(answer.label).inc()
        for refit in self._engine.on_answered(asking, answer, self._clock()):
            task = asyncio.create_task(self._refit(refit))
            self._refits.add(task)
            task.add_done_callback(self._refits.discard)
        if answer.failure:
            self._stats.show(self._engine)
        return asking, answer

    async def close(self) -> None:
        """Lets go of all that is being fitted."""
        tasks = [*self._refits, *self._readings.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._fitter.close()

    async def _asking(self, name: SeriesName, horizon_count: int, until_s: float) -> Asking:
        now_us = self._clock()
        cause: Exception | None = None
        try:
            async with asyncio.timeout_at(until_s):
                # Who cannot wait goes without; the reading goes on, and the next one finds what it brings.
                await asyncio.shield(self._reading(name, now_us))
        except (Unavailable, TimeoutError) as error:
            cause = error
        first_start_us = (now_us // name.window_us + 1) * name.window_us
        asking = self._engine.on_asked(name, self._who(), first_start_us, horizon_count, now_us)
        if asking is None:
            raise _unavailable(cause) from cause
        return asking

    def _reading(self, name: SeriesName, now_us: int) -> asyncio.Task[None]:
        """The one reading of a series that is on its way."""
        if name not in self._readings:
            task = self._readings[name] = asyncio.create_task(self._read(name, now_us))
            task.add_done_callback(partial(self._has_read, name))
        return self._readings[name]

    def _has_read(self, name: SeriesName, task: asyncio.Task[None]) -> None:
        del self._readings[name]
        if not task.cancelled():
            # Whoever waited has it; if nobody did, it is told nowhere else.
            task.exception()

    async def _read(self, name: SeriesName, now_us: int) -> None:
        end_us = (now_us - self._limits.settle_us) // name.window_us * name.window_us
        since_us = end_us - min(self._limits.history_us, self._limits.points_max * name.window_us)
        from_us = self._engine.read_from(name, now_us)
        async with self._read_slots:
            points = await self._history.read(name, since_us if from_us is None else max(since_us, from_us), end_us)
        told = await asyncio.to_thread(told_of, points, name.window_us, None if from_us is None else since_us)
        if told.masked_count:
            fields = {"model": name.model, "windows": told.masked_count}
            log.warning("windows of the history make no sense and are taken for gaps", extra={"fields": fields})
        self._engine.on_history(name, told, now_us)

    async def _answer(self, asking: Asking, end_s: float) -> Answer:
        try:
            async with asyncio.timeout_at(end_s), self._slots:
                return await asyncio.to_thread(asking.answer)
        except TimeoutError:
            return asking.at_last("the answer took too long", is_late=True)
        except ForecastFailed as error:
            return asking.at_last(str(error))

    async def _refit(self, refit: Refit) -> None:
        began_us = self._clock()
        task = Task(refit.policy, refit.series, lead_max_of(refit.name.window_us))
        fields: dict[str, object] = {"model": refit.name.model, "by": refit.label, "windows": len(refit.series)}
        try:
            learned = await self._fitter.fit(task)
            # What it needs to answer is imported and compiled now, before anybody waits for it.
            async with asyncio.timeout(WARM_S):
                await asyncio.to_thread(curves_of, learned, refit.series, np.arange(1, WARM_LEAD_COUNT + 1))
        except Exception as error:
            # Whatever happens, the engine hears of it: it would wait for this refit for ever.
            self._engine.on_refit_failed(refit, self._clock())
            kind = "" if isinstance(error, ForecastFailed) else f"{type(error).__name__}: "
            log.warning("a refit failed", extra={"fields": {**fields, "error": f"{kind}{error}"}})
        else:
            self._engine.on_refitted(refit, learned, self._clock())
            log.info("refitted", extra={"fields": {**fields, "chosen": learned.label}})
            self._stats.show(self._engine)
        self._stats.refit_seconds.observe(max(0, self._clock() - began_us) / US_PER_S)


class Stats:
    """What forecasts count, for Prometheus."""

    def __init__(self, registry: CollectorRegistry, engine: ForecastingEngine, running: Callable[[], int]) -> None:
        self.forecasts = Counter("forebay_predictor_forecasts", "Forecasts made.", ("by",), registry=registry)
        self.refit_seconds = Summary(
            "forebay_predictor_refit_seconds", "From the wish for a refit to its end.", registry=registry
        )
        self._chosen = Gauge(
            "forebay_predictor_series_fitted", "Series by who forecasts them.", ("by",), registry=registry
        )
        counts = engine.counts
        values: dict[str, tuple[str, Callable[[], float]]] = {
            "refits": ("Series fitted anew.", lambda: counts.refits),
            "refit_failures": ("Refits that came to nothing.", lambda: counts.refit_failures),
            "forecast_failures": ("Forecasts that another forecaster had to make.", lambda: counts.answer_failures),
            "level_shifts": ("Series that left their level.", lambda: counts.shifts),
            "windows_masked": ("Windows of history that made no sense.", lambda: counts.masked),
            "series": ("Series that are remembered.", lambda: engine.series_count),
            "refits_running": ("Refits on their way, those that wait included.", running),
        }
        for name, (text, value) in values.items():
            Gauge(f"forebay_predictor_{name}", text, registry=registry).set_function(value)

    def show(self, engine: ForecastingEngine) -> None:
        """Shows who forecasts how many series."""
        self._chosen.clear()
        for label, count in engine.chosen().items():
            self._chosen.labels(label).set(count)


def _unavailable(cause: Exception | None) -> Unavailable:
    if isinstance(cause, Unavailable):
        return cause
    text = "metrics takes too long to tell the history; come back, ask for longer windows, or set history_s lower"
    return Unavailable(text, retry_after_us=RETRY_AFTER_US)
