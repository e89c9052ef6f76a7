"""What runs beside the calls: follows the fleet and its load, samples the queues, wakes the engine in time."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import grpc
from lmaas.autoscaler.v1.autoscaler_service_pb2 import WatchFleetRequest, WatchFleetResponse
from lmaas.autoscaler.v1.autoscaler_service_pb2_grpc import AutoscalerServiceStub
from lmaas.metrics.v1 import event_pb2
from lmaas.metrics.v1.metrics_service_pb2 import WatchSnapshotsRequest, WatchSnapshotsResponse
from lmaas.metrics.v1.metrics_service_pb2_grpc import MetricsServiceStub

from forebay.core.units import US_PER_S
from forebay.scheduler.config import Config
from forebay.scheduler.meters import Meters
from forebay.scheduler.shell import Shell
from forebay.wire import convert
from forebay.wire import convert_autoscaler as codec
from forebay.wire.reporter import Reporter

log = logging.getLogger(__name__)

SILENCE_S = 20.0
"""The watched services send a sign of life each few seconds; a stream that is silent for longer is broken."""
STREAM_TIMEOUT_S = 3_600.0
RECONNECT_DELAY_MIN_S = 0.1


async def follow_fleet(channel: grpc.aio.Channel, shell: Shell, config: Config) -> None:
    """Tells the shell the fleet whenever it changes; while the autoscaler is down the last one stays."""
    stub = AutoscalerServiceStub(channel)

    await _follow(
        "autoscaler",
        lambda: stub.WatchFleet(WatchFleetRequest(), timeout=STREAM_TIMEOUT_S),
        lambda message: take_fleet(shell, message),
        config,
    )


async def follow_loads(channel: grpc.aio.Channel, shell: Shell, config: Config) -> None:
    """Tells the shell what metrics sees; while metrics is down the scheduler goes on by its own accounting."""
    stub = MetricsServiceStub(channel)
    request = WatchSnapshotsRequest(interval=convert.duration(round(config.watch_interval_s * US_PER_S)))

    await _follow(
        "metrics",
        lambda: stub.WatchSnapshots(request, timeout=STREAM_TIMEOUT_S),
        lambda message: take_loads(shell, message),
        config,
    )


def take_fleet(shell: Shell, message: WatchFleetResponse) -> None:
    """Tells the shell one message of the autoscaler."""
    take_models(shell, message)
    shell.fleet([convert.instance_from_proto(one) for one in message.instances])


def take_models(shell: Shell, message: WatchFleetResponse) -> None:
    """Tells the shell the models that are scaled, where that has changed."""
    leads_us = codec.scaled_models_from_proto(message.models)
    if leads_us != shell.engine.leads_us:
        shell.models(leads_us)


def take_loads(shell: Shell, message: WatchSnapshotsResponse) -> None:
    """Tells the shell one message of metrics."""
    shell.loads([convert.instance_load_from_proto(one) for one in message.snapshot.instances])


class QueueSampler:
    """Reports each model's queue to metrics; `name` is the scheduler's."""

    def __init__(self, shell: Shell, reporter: Reporter, meters: Meters, name: str) -> None:
        self._shell = shell
        self._reporter = reporter
        self._meters = meters
        self._name = name
        self._number = 0

    async def run(self, interval_s: float) -> None:
        """Reports at every interval, for ever."""
        while True:
            self.sample()
            await asyncio.sleep(interval_s)

    def sample(self) -> None:
        """Reports the queues as they are now."""
        for queue in self._shell.engine.queues(self._shell.clock()):
            self._number += 1
            self._meters.sampled(queue)
            sample = event_pb2.QueueSample(
                model=queue.model,
                sample_time=convert.timestamp(self._shell.clock()),
                held_count=queue.held_count,
                in_flight_count=queue.lease_count,
                scheduler_id=self._name,
            )
            self._reporter.report(event_pb2.Event(event_id=f"{self._name}-q{self._number}", queue=sample))


async def _follow(name: str, call: Callable[[], Any], take: Callable[[Any], None], config: Config) -> None:
    """Takes a stream's messages for ever; after an error, an end or silence opens it again, each time a bit later."""
    delay_s = RECONNECT_DELAY_MIN_S
    while True:
        error = None
        stream = call()
        try:
            while (message := await _read(stream)) is not grpc.aio.EOF:
                take(message)
                if delay_s > RECONNECT_DELAY_MIN_S:
                    log.info("connected", extra={"fields": {"to": name}})
                delay_s = RECONNECT_DELAY_MIN_S
        except (grpc.RpcError, TimeoutError) as failure:
            error = failure
        stream.cancel()
        if delay_s == RECONNECT_DELAY_MIN_S:
            code = error.code().name if isinstance(error, grpc.aio.AioRpcError) else "SILENT" if error else "ENDED"
            log.warning("lost a watched service; trying again", extra={"fields": {"service": name, "code": code}})
        await asyncio.sleep(delay_s)
        delay_s = min(2 * delay_s, config.reconnect_delay_max_s)


async def _read(stream: Any) -> Any:
    # Not wait_for: where a message and a cancellation come together, Python 3.11's forgets the cancellation.
    async with asyncio.timeout(SILENCE_S):
        return await stream.read()
