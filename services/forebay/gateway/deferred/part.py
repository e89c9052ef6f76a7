"""Deferred work put together, as the gateway's composition root and its tests need it."""

import functools
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import grpc
from lmaas.deferred.v1.deferred_service_pb2_grpc import add_DeferredServiceServicer_to_server
from prometheus_client import CollectorRegistry, Gauge
from starlette.routing import Route

from forebay.gateway.config import Config
from forebay.gateway.deferred.access import Access
from forebay.gateway.deferred.desk import Desk
from forebay.gateway.deferred.engine import Engine
from forebay.gateway.deferred.forecasts import Forecasts
from forebay.gateway.deferred.http import Batches
from forebay.gateway.deferred.loop import DeferredLoop, purge
from forebay.gateway.deferred.runner import Runner
from forebay.gateway.deferred.servicer import SERVICE, DeferredServicer
from forebay.gateway.deferred.store import Store
from forebay.gateway.intake import Intake
from forebay.gateway.loop import Loop
from forebay.gateway.relay import Relay
from forebay.wire.clock import Clock


class Deferred:
    """Everything about deferred work in one gateway; `open_store` is called in a thread until it gives a store."""

    def __init__(
        self,
        open_store: Callable[[], Store],
        predictor: grpc.aio.Channel | None,
        loop: Loop,
        relay: Relay,
        intake: Intake,
        config: Config,
        owner: str,
        clock: Clock,
    ) -> None:
        self._config = config
        self._clock = clock
        self._access = Access(open_store)
        self.engine = Engine(config.deferred)
        self._loop = DeferredLoop(
            self.engine,
            self._access,
            Runner(relay, intake, config, clock),
            Forecasts(predictor, config.deferred),
            lambda: loop.engine.is_linked,
            config.deferred,
            owner,
            clock,
            lambda: loop.backlog(self.engine.waiting(config.region)),
        )
        self.desk = Desk(self._access, loop.engine.fleet, intake, config, clock, self._loop.poke)

    def routes(self) -> Sequence[Route]:
        """What HTTP offers; nothing where deferred work is switched off."""
        return Batches(self.desk, self._config).routes() if self._config.deferred.enabled else ()

    def measure(self, registry: CollectorRegistry) -> None:
        """Shows on the Prometheus page what is left to do and what is being done."""
        gauge = functools.partial(Gauge, registry=registry)
        held = gauge("forebay_gateway_deferred_in_flight_requests", "Deferred requests that this gateway holds.")
        held.set_function(lambda: self.engine.flight_count)
        jobs = gauge("forebay_gateway_deferred_open_jobs", "Deferred jobs that have not ended, of all gateways.")
        jobs.set_function(lambda: len(self.engine.jobs))
        left = gauge("forebay_gateway_deferred_remaining_requests", "Their requests without an answer.")
        left.set_function(lambda: sum(job.remaining_count for job in self.engine.jobs))

    def names(self) -> Sequence[str]:
        """The services that gRPC offers."""
        return (SERVICE,) if self._config.deferred.enabled else ()

    def add_to(self, server: grpc.aio.Server) -> None:
        """Adds them to the server."""
        if self._config.deferred.enabled:
            servicer = DeferredServicer(self.desk, self._config.deferred.file_bytes_max)
            add_DeferredServiceServicer_to_server(servicer, server)

    def loops(self) -> Sequence[Coroutine[Any, Any, None]]:
        """What runs beside the servers."""
        if not self._config.deferred.enabled:
            return ()
        return self._loop.run(), purge(self._access, self._config.deferred, self._clock)

    async def close(self) -> None:
        """Frees what this gateway holds."""
        if self._config.deferred.enabled:
            await self._loop.close()
