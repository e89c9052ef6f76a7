"""What the autoscaler asks of the other services, over real gRPC."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from lmaas.predictor.v1 import predictor_service_pb2 as pb
from lmaas.predictor.v1 import workload_pb2
from lmaas.predictor.v1.predictor_service_pb2_grpc import (
    PredictorServiceServicer,
    add_PredictorServiceServicer_to_server,
)
from lmaas.scheduler.v1 import scheduler_service_pb2
from lmaas.scheduler.v1.scheduler_service_pb2_grpc import (
    SchedulerServiceServicer,
    add_SchedulerServiceServicer_to_server,
)
from prometheus_client import CollectorRegistry

from forebay.autoscaler.leases import GONE_S, SchedulerWatch
from forebay.autoscaler.policy.autoscaler.base import ForecastWindow, Needs
from forebay.autoscaler.watchers import Forecaster
from forebay.core.errors import Unavailable
from forebay.core.units import US_PER_S
from forebay.core.values import Instance, InstanceState
from forebay.wire.channel import connect
from forebay.wire.clock import now_us
from forebay.wire.convert import timestamp
from forebay.wire.server import Server

S = 1_000_000
LEASE_COUNT = 3
NEEDS = Needs(forecast_window_us=60 * S, forecast_count=2)


class Predictor(PredictorServiceServicer):
    """Forecasts model `m` only."""

    async def ForecastWorkload(self, request: pb.ForecastWorkloadRequest, context: Any) -> pb.ForecastWorkloadResponse:
        if request.model != "m":
            raise Unavailable("metrics does not answer")
        window_us = request.window.ToMicroseconds()

        def quantiles(scale: float) -> workload_pb2.Quantiles:
            return workload_pb2.Quantiles(p10=scale, p50=2 * scale, p90=3 * scale, p97=4 * scale)

        forecasts = [
            workload_pb2.WorkloadForecast(
                start_time=timestamp(number * window_us),
                requests=quantiles(1),
                prompt_tokens=quantiles(10),
                response_tokens=quantiles(100),
            )
            for number in range(request.horizon_count)
        ]
        return pb.ForecastWorkloadResponse(forecasts=forecasts)


class Scheduler(SchedulerServiceServicer):
    """Has leases on whatever is drained, and no other method."""

    async def DrainInstance(self, request: Any, context: Any) -> scheduler_service_pb2.DrainInstanceResponse:
        return scheduler_service_pb2.DrainInstanceResponse(lease_count=LEASE_COUNT)


@pytest.fixture
async def channel() -> AsyncIterator[grpc.aio.Channel]:
    server = Server("127.0.0.1:0", ["lmaas.predictor.v1.PredictorService"], CollectorRegistry())
    add_PredictorServiceServicer_to_server(Predictor(), server.grpc)
    add_SchedulerServiceServicer_to_server(Scheduler(), server.grpc)
    await server.start()
    async with connect(f"127.0.0.1:{server.port}") as channel:
        yield channel
    await server.stop(0.1)


async def test_forecasts_come_for_every_model_that_has_one(channel: grpc.aio.Channel) -> None:
    found = await Forecaster(channel, ["m", "n"], NEEDS)()
    figures = ((1.0, 2.0, 3.0, 4.0), (10.0, 20.0, 30.0, 40.0), (100.0, 200.0, 300.0, 400.0))
    assert found == {"m": (ForecastWindow(0, *figures), ForecastWindow(60 * S, *figures)), "n": ()}


async def test_a_policy_that_needs_no_forecast_asks_for_none(channel: grpc.aio.Channel) -> None:
    assert await Forecaster(channel, ["m"], Needs())() == {}


async def test_a_predictor_that_is_away_leaves_no_forecast() -> None:
    async with connect("127.0.0.1:1") as away:
        assert await Forecaster(away, ["m"], NEEDS)() == {"m": ()}


async def test_any_answer_of_a_scheduler_shows_that_it_is_there(channel: grpc.aio.Channel) -> None:
    assert await SchedulerWatch([channel], now_us).ask()
    async with connect("127.0.0.1:1") as away:
        assert not await SchedulerWatch([away], now_us).ask()
        assert await SchedulerWatch([away, channel], now_us).ask()


async def test_leases_are_those_of_all_replicas_and_unknown_while_one_is_silent(channel: grpc.aio.Channel) -> None:
    instance = Instance("a/m", "m", "127.0.0.1:1", "a", state=InstanceState.DRAINING)
    assert await SchedulerWatch([channel, channel], now_us).lease_count(instance) == 2 * LEASE_COUNT
    async with connect("127.0.0.1:1") as away:
        assert await SchedulerWatch([channel, away], now_us).lease_count(instance) is None
        assert await SchedulerWatch([away], now_us).lease_count(instance) is None


async def test_a_replica_that_was_silent_for_longer_than_leases_live_has_none(channel: grpc.aio.Channel) -> None:
    instance = Instance("a/m", "m", "127.0.0.1:1", "a", state=InstanceState.DRAINING)
    times = [0]
    async with connect("127.0.0.1:1") as away:
        watch = SchedulerWatch([channel, away], lambda: times[0])
        times[0] = round(GONE_S * US_PER_S) + 1
        await watch.ask()
        assert await watch.lease_count(instance) == LEASE_COUNT
