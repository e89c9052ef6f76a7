"""Gathers what the page shows from this service and from the parts beside it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

import grpc

from forebay.core.errors import Unavailable
from forebay.core.metrics import RequestRecord
from forebay.core.units import US_PER_S
from forebay.metrics.engine import MetricsEngine
from forebay.metrics.page.asking import Asked, Source
from forebay.metrics.page.delta import State
from forebay.metrics.page.history import History
from forebay.metrics.page.recent import HISTORY_US, RECORD_COUNT_MAX, Recent
from forebay.metrics.page.seen import AutoscalerSays, PredictorSays, SchedulerSays, Seen
from forebay.metrics.page.series import Bands, series_sections
from forebay.metrics.page.view import fleet_sections, scaling_sections, shadow_sections
from forebay.metrics.store import Store


class Sources:
    """The parts that are asked, each by itself: one that hangs or is away delays no other's next answer."""

    def __init__(
        self,
        replicas: Mapping[str, grpc.aio.Channel],
        ask_replica: Callable[[grpc.aio.Channel], Callable[[int], Awaitable[SchedulerSays]]],
        autoscaler: Asked[AutoscalerSays],
        predictor: Asked[PredictorSays],
        others: Sequence[Asked[bool]] = (),
    ) -> None:
        self.autoscaler, self.predictor = autoscaler, predictor
        self._replicas, self._ask_replica, self._others = replicas, ask_replica, others
        self._schedulers: dict[str, Asked[SchedulerSays]] = {}

    @property
    def schedulers(self) -> Sequence[Asked[SchedulerSays]]:
        """The scheduler's replicas of now."""
        for address in self._schedulers.keys() - self._replicas.keys():
            del self._schedulers[address]
        for address, channel in self._replicas.items():
            if address not in self._schedulers:
                self._schedulers[address] = Asked("scheduler", address, self._ask_replica(channel), US_PER_S)
        return list(self._schedulers.values())

    @property
    def all(self) -> Sequence[Source]:
        """Every part that is asked."""
        return [*self._others, *self.schedulers, self.predictor, self.autoscaler]

    async def refresh(self, now_us: int) -> None:
        """Asks those whose time it is, at once."""
        await asyncio.gather(*(one.refresh(now_us) for one in self.all))


class Collector:
    """Makes the page's state; asked only while somebody looks."""

    def __init__(
        self, engine: MetricsEngine, store: Store, recent: Recent, sources: Callable[["Collector"], Sources]
    ) -> None:
        self._engine, self._store, self._recent = engine, store, recent
        self._history, self._bands = History(store), Bands()
        self._database = Asked("database", "", self._read, 4 * US_PER_S)
        self._sources = sources(self)

    def models_without_forecast(self) -> set[str]:
        """Models for whom the autoscaler has no forecast, so that the predictor is asked."""
        says = self._sources.autoscaler.answer
        return self._models() - {band.model for band in (says.fleet.forecasts if says else ())}

    async def state(self, now_us: int) -> State:
        """Everything that the page shows, asked anew."""
        await asyncio.gather(self._sources.refresh(now_us), self._database.refresh(now_us))
        seen = self._seen(now_us)
        self._tell_bands(seen)
        return {
            **fleet_sections(seen, self._recent),
            **scaling_sections(seen.autoscaler),
            **shadow_sections(seen),
            **series_sections(self._recent, self._bands, seen.traffic, now_us),
        }

    def _seen(self, now_us: int) -> Seen:
        sources = self._sources
        database = self._database.part()
        return Seen(
            now_us=now_us,
            snapshot=self._engine.snapshot(now_us),
            instances=self._engine.instances,
            parts=[*(one.part() for one in sources.all), database],
            schedulers=[one.answer for one in sources.schedulers if one.answer is not None],
            autoscaler=sources.autoscaler.answer,
            predictor=sources.predictor.answer,
            traffic=self._history.points(),
        )

    def _tell_bands(self, seen: Seen) -> None:
        if seen.autoscaler:
            self._bands.tell(seen.autoscaler.fleet.forecasts, seen.now_us)
        if seen.predictor:
            self._bands.tell(seen.predictor.bands, seen.now_us)

    def _models(self) -> set[str]:
        told = {one.model for one in self._engine.snapshot(0).models}
        return told | {one.model for one in self._engine.instances}

    async def _read(self, now_us: int) -> bool:
        try:
            self._recent.begin_with(await asyncio.to_thread(self._newest, now_us))
            await self._history.read(self._models(), now_us)
        except Unavailable as error:
            raise OSError(error.message) from error
        return True

    def _newest(self, now_us: int) -> list[RequestRecord]:
        return [record for _, record in self._store.requests("", now_us - HISTORY_US, None, RECORD_COUNT_MAX)]
