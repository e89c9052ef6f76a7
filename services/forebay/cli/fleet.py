"""Watches the fleet for a reader: how many instances of each model stand in which state, once a second."""

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import grpc
from lmaas.autoscaler.v1 import autoscaler_service_pb2
from lmaas.autoscaler.v1.autoscaler_service_pb2_grpc import AutoscalerServiceStub

from forebay.wire.channel import connect

CALL_TIMEOUT_S = 2.0
BARS = "▁▂▃▄▅▆▇█"
SPARK_WIDTH = 48


@dataclass(frozen=True, slots=True)
class ModelCount:
    """Instances of one model."""

    ready: int
    starting: int
    draining: int


@dataclass(frozen=True, slots=True)
class FleetSample:
    """The fleet at one time, in seconds from the start of the watch."""

    at_s: float
    models: dict[str, ModelCount]


@dataclass(slots=True)
class FleetWatch:
    """Polls the autoscaler until cancelled; while it does not answer there are no samples."""

    address: str
    interval_s: float = 1.0
    samples: list[FleetSample] = field(default_factory=list)

    @property
    def latest(self) -> dict[str, ModelCount]:
        """The last counts seen."""
        return self.samples[-1].models if self.samples else {}

    async def run(self) -> None:
        """Polls for ever."""
        loop = asyncio.get_running_loop()
        start_s = loop.time()
        async with connect(self.address) as channel:
            while True:
                with contextlib.suppress(grpc.RpcError):
                    self.samples.append(FleetSample(loop.time() - start_s, await fleet_counts(channel)))
                await asyncio.sleep(self.interval_s)


async def fleet_counts(channel: grpc.aio.Channel) -> dict[str, ModelCount]:
    """The fleet now, by model; raises grpc.RpcError when the autoscaler does not answer."""
    request = autoscaler_service_pb2.GetFleetRequest()
    answer = await AutoscalerServiceStub(channel).GetFleet(request, timeout=CALL_TIMEOUT_S)
    return {
        one.model: ModelCount(one.ready_count, one.starting_count, one.draining_count)
        for one in sorted(answer.models, key=lambda one: one.model)
    }


def sparkline(values: Sequence[float], width: int = SPARK_WIDTH) -> str:
    """A bar a bucket of neighbouring values (their maximum), scaled from 0 to the largest."""
    buckets = list(_buckets(values, width))
    top = max(buckets, default=0)
    if top <= 0:
        return BARS[0] * len(buckets)
    return "".join(BARS[round(value / top * (len(BARS) - 1))] for value in buckets)


def _buckets(values: Sequence[float], width: int) -> Iterator[float]:
    count = min(width, len(values))
    for index in range(count):
        yield max(values[index * len(values) // count : (index + 1) * len(values) // count])
