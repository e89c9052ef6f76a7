"""Follows the fleet, probes every server, publishes the page, and deletes what is old."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import httpx
from lmaas.autoscaler.v1.autoscaler_service_pb2 import WatchFleetRequest
from lmaas.autoscaler.v1.autoscaler_service_pb2_grpc import AutoscalerServiceStub
from lmaas.orca.orca_pb2 import OrcaLoadReport, OrcaLoadReportRequest
from lmaas.orca.orca_pb2_grpc import OpenRcaServiceStub
from tritonclient.grpc import service_pb2, service_pb2_grpc

from forebay.core.errors import Unavailable
from forebay.core.units import US_PER_S
from forebay.core.values import Instance
from forebay.metrics.config import Config
from forebay.metrics.engine import MetricsEngine
from forebay.metrics.prometheus import SnapshotGauges
from forebay.metrics.readings import Row, reading_of, rows_of
from forebay.metrics.store import Store
from forebay.wire import convert, orca
from forebay.wire.channel import connect
from forebay.wire.clock import Clock

log = logging.getLogger(__name__)

FLEET_SILENCE_S = 20.0
"""The autoscaler sends a sign of life each 5 s; a stream that is silent for longer is broken."""
PAGE_BYTES_MAX = 8 * 1024 * 1024
PUBLISH_INTERVAL_S = 1.0
_SCRAPE_ERRORS = (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError)


@dataclass(slots=True)
class _Server:
    """One server that is probed, with the instances on it."""

    grpc_address: str
    metrics_url: str
    channel: grpc.aio.Channel
    instances: list[Instance] = field(default_factory=list)


class Prober:
    """Probes each server of the fleet on its own, so that a slow one delays no other."""

    def __init__(self, engine: MetricsEngine, config: Config, clock: Clock) -> None:
        self._engine = engine
        self._config = config
        self._clock = clock
        self._http = httpx.AsyncClient(trust_env=False, limits=httpx.Limits(max_connections=None))
        self._slots = asyncio.Semaphore(config.scrape_concurrency_max)
        self._servers: dict[tuple[str, str], _Server] = {}
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}

    async def follow(self, instances: Sequence[Instance]) -> None:
        """Probes the servers of these instances from now on, and no others; new ones at once."""
        self._engine.on_fleet(instances, self._clock())
        for server in self._servers.values():
            server.instances = []
        for instance in instances:
            self._server(instance).instances.append(instance)
        for key in [key for key, server in self._servers.items() if not server.instances]:
            await self._drop(key)

    def _server(self, instance: Instance) -> _Server:
        key = (instance.grpc_address, instance.metrics_url)
        if key not in self._servers:
            self._servers[key] = _Server(*key, channel=connect(instance.grpc_address))
            self._tasks[key] = asyncio.create_task(self._watch(self._servers[key]))
        return self._servers[key]

    async def _drop(self, key: tuple[str, str]) -> None:
        self._tasks.pop(key).cancel()
        await self._servers.pop(key).channel.close()

    async def close(self) -> None:
        """Stops all probes."""
        await self.follow(())
        await self._http.aclose()

    async def _watch(self, server: _Server) -> None:
        listening = self._listen(server) if self._config.load_reports else None
        await asyncio.gather(self._probe_for_ever(server), *([] if listening is None else [listening]))

    async def _listen(self, server: _Server) -> None:
        """Takes the load that a server tells by itself, until it says that it never does."""
        request = OrcaLoadReportRequest()
        request.report_interval.FromMicroseconds(round(self._config.load_report_interval_s * US_PER_S))
        while True:
            try:
                async for report in OpenRcaServiceStub(server.channel).StreamCoreMetrics(request):
                    take_report(self._engine, server.instances, report, self._clock())
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                    return
            await asyncio.sleep(self._config.fleet_retry_s)

    async def _probe_for_ever(self, server: _Server) -> None:
        time = asyncio.get_running_loop().time
        while True:
            start_s = time()
            async with self._slots:
                await self._probe(server)
            await asyncio.sleep(max(self._config.scrape_interval_s - (time() - start_s), 0.0))

    async def _probe(self, server: _Server) -> None:
        rows = await self._scrape(server.metrics_url) if server.metrics_url else None
        # A server whose page fails may serve all the same: only one that does not answer at all is silent.
        alive = rows is not None or await self._answers(server.channel)
        take_page(self._engine, server.instances, rows, alive, self._clock())

    async def _scrape(self, url: str) -> list[Row] | None:
        try:
            async with asyncio.timeout(self._config.scrape_timeout_s), self._http.stream("GET", url) as response:
                response.raise_for_status()
                page = bytearray()
                async for chunk in response.aiter_bytes():
                    page += chunk
                    if len(page) > PAGE_BYTES_MAX:
                        raise ValueError(f"the page has more than {PAGE_BYTES_MAX} bytes")
                return rows_of(page.decode(errors="replace"))
        except _SCRAPE_ERRORS as error:
            log.debug("scrape failed", extra={"fields": {"url": url, "error": repr(error)}})
            return None

    async def _answers(self, channel: grpc.aio.Channel) -> bool:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        try:
            await stub.ServerLive(service_pb2.ServerLiveRequest(), timeout=self._config.probe_timeout_s)
        except grpc.RpcError:
            return False
        return True


def take_page(
    engine: MetricsEngine, instances: Sequence[Instance], rows: list[Row] | None, alive: bool, now_us: int
) -> None:
    """Tells the engine what a server said of the instances on it: its page, only that it lives, or nothing at all."""
    for instance in instances:
        if not alive:
            engine.on_silence(instance.instance_id, now_us)
            continue
        reading = None if rows is None else reading_of(rows, instance.model, alone=len(instances) == 1)
        engine.on_reading(instance.instance_id, reading, now_us)


def take_report(engine: MetricsEngine, instances: Sequence[Instance], report: OrcaLoadReport, now_us: int) -> None:
    """Tells the engine what a server reports of itself; of a server with several instances it is nobody's."""
    if len(instances) == 1:
        running, waiting = orca.count(report, orca.RUNNING), orca.count(report, orca.WAITING)
        engine.on_report(instances[0].instance_id, running, waiting, orca.kv_utilization(report), now_us)


async def follow_fleet(autoscaler: AutoscalerServiceStub, prober: Prober, retry_s: float) -> None:
    """Hands the prober each fleet that the autoscaler tells; while it is down, the last one stays."""
    told = True
    while True:
        try:
            async for instances in _fleets(autoscaler):
                told = True
                await prober.follow(instances)
        except (grpc.RpcError, TimeoutError) as error:
            # Said once, not at every attempt.
            level = logging.WARNING if told else logging.DEBUG
            log.log(level, "the autoscaler does not tell its fleet", extra={"fields": {"error": repr(error)[:200]}})
            told = False
        await asyncio.sleep(retry_s)


async def _fleets(autoscaler: AutoscalerServiceStub) -> AsyncIterator[list[Instance]]:
    call: Any = autoscaler.WatchFleet(WatchFleetRequest())
    messages = aiter(call)
    try:
        while True:
            # Unlike wait_for, a timeout block cannot lose a cancellation that comes together with a message.
            async with asyncio.timeout(FLEET_SILENCE_S):
                message = await anext(messages, None)
            if message is None:
                return
            yield [convert.instance_from_proto(one) for one in message.instances]
    finally:
        call.cancel()


async def publish(engine: MetricsEngine, gauges: SnapshotGauges, clock: Clock) -> None:
    """Keeps the gauges of the page up to date."""
    while True:
        gauges.publish(engine.snapshot(clock()), engine.instances)
        await asyncio.sleep(PUBLISH_INTERVAL_S)


async def prune(store: Store, config: Config, clock: Clock) -> None:
    """Deletes what is older than the retention, now and then; a store that is down is asked again the next time."""
    while True:
        try:
            gone_count = await asyncio.to_thread(store.prune, clock() - config.retention_us)
            log.log(logging.INFO if gone_count else logging.DEBUG, "deleted %d old events", gone_count)
        except Unavailable as error:
            log.warning("old events are not deleted", extra={"fields": {"error": error.message}})
        await asyncio.sleep(config.prune_interval_s)
