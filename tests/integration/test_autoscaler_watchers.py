"""What the autoscaler asks of the other services, over real gRPC."""

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
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

from forebay.autoscaler.forecasts import Forecasts
from forebay.autoscaler.leases import GONE_S, SchedulerWatch
from forebay.autoscaler.policy.autoscaler.base import ForecastWindow, Needs
from forebay.autoscaler.watchers import Forecaster, PressureWatch
from forebay.core.errors import Unavailable
from forebay.core.pressure import Demand, Pressure
from forebay.core.units import US_PER_S
from forebay.core.values import Instance, InstanceState, SloClass
from forebay.wire.channel import connect
from forebay.wire.clock import now_us
from forebay.wire.convert import timestamp
from forebay.wire.convert_pressure import pressure_to_proto
from forebay.wire.server import Server

S = 1_000_000
LEASE_COUNT = 3
NEEDS = Needs(forecast_window_us=60 * S, forecast_count=2)


class Predictor(PredictorServiceServicer):
    """Forecasts model `m` only; of one region and class it tells who was asked for, and how often."""

    is_away = False

    def __init__(self) -> None:
        self.asked = Counter[tuple[str, int]]()

    async def ForecastWorkload(self, request: pb.ForecastWorkloadRequest, context: Any) -> pb.ForecastWorkloadResponse:
        if request.model != "m" or self.is_away:
            raise Unavailable("metrics does not answer")
        if request.slo_class:
            self.asked[request.region, request.slo_class] += 1
            count = self.asked[request.region, request.slo_class]
            told = workload_pb2.Quantiles(p10=len(request.region), p50=request.slo_class, p90=count)
            forecast = workload_pb2.WorkloadForecast(start_time=timestamp(0), requests=told)
            return pb.ForecastWorkloadResponse(forecasts=[forecast] * request.horizon_count)
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
    """Has leases on whatever is drained, and as many requests that came."""

    async def DrainInstance(self, request: Any, context: Any) -> scheduler_service_pb2.DrainInstanceResponse:
        return scheduler_service_pb2.DrainInstanceResponse(lease_count=LEASE_COUNT)

    async def GetPressure(self, request: Any, context: Any) -> scheduler_service_pb2.GetPressureResponse:
        demand = Demand("m", "local", SloClass.DEFERRED, LEASE_COUNT)
        pressure = pressure_to_proto(Pressure(S, demands=(demand,)))
        return scheduler_service_pb2.GetPressureResponse(pressure=pressure)


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
    found = await Forecaster(channel, ["m", "n", "m"], NEEDS)()
    figures = ((1.0, 2.0, 3.0, 4.0), (10.0, 20.0, 30.0, 40.0), (100.0, 200.0, 300.0, 400.0))
    assert found == Forecasts({"m": (ForecastWindow(0, *figures), ForecastWindow(60 * S, *figures)), "n": ()})


async def test_demands_are_forecast_a_few_times_a_window_and_new_ones_at_once(channel: grpc.aio.Channel) -> None:
    times, demands = [0], [("m", "west", SloClass.DEFERRED), ("poem", "west", SloClass.DEFERRED)]
    needs = replace(NEEDS, forecast_count=1, by_demand=True)
    forecaster = Forecaster(channel, ["m"], needs, lambda: demands, lambda: times[0])

    async def asked() -> list[tuple[float, ...]]:
        return [windows[0].requests for windows in (await forecaster()).demands.values()]

    # The fake tells region, class and how often it was asked for the series.
    assert await asked() == [(4.0, 3.0, 1.0, 0.0)]
    times[0] = 6 * S - 1
    demands.append(("m", "", SloClass.INTERACTIVE_FAST))
    assert await asked() == [(4.0, 3.0, 1.0, 0.0), (0.0, 1.0, 1.0, 0.0)]
    times[0] = 6 * S
    assert await asked() == [(4.0, 3.0, 2.0, 0.0), (0.0, 1.0, 2.0, 0.0)]


async def test_a_demand_without_an_answer_is_asked_for_again_the_next_time(channel: grpc.aio.Channel) -> None:
    key, Predictor.is_away = ("m", "west", SloClass.DEFERRED), True
    forecaster = Forecaster(channel, ["m"], replace(NEEDS, by_demand=True), lambda: [key], lambda: S)
    assert (await forecaster()).demands == {key: ()}
    Predictor.is_away = False
    assert len((await forecaster()).demands[key]) == 2


async def test_a_policy_that_needs_no_forecast_asks_for_none(channel: grpc.aio.Channel) -> None:
    assert await Forecaster(channel, ["m"], Needs(by_demand=True))() == Forecasts()


async def test_a_predictor_that_is_away_leaves_no_forecast() -> None:
    async with connect("127.0.0.1:1") as away:
        assert await Forecaster(away, ["m"], NEEDS)() == Forecasts({"m": ()})


class Told:
    """An engine and a loop that only hear."""

    def __init__(self) -> None:
        self.heard: list[Pressure] = []
        self.time_us = S
        self.engine = self

    def now_us(self) -> int:
        return self.time_us

    def on_pressure(self, pressure: Pressure, now_us: int) -> list[Any]:
        self.heard.append(pressure)
        return []

    def apply(self, actions: list[Any]) -> None:
        pass


async def test_every_replica_is_asked_what_is_on_its_way(channel: grpc.aio.Channel) -> None:
    told: Any = Told()
    watch = PressureWatch({"0": channel, "1": channel}, 10 * S)
    await watch.ask(told)
    (pressure,) = told.heard
    assert [(one.model, one.request_count) for one in pressure.demands] == [("m", 2 * LEASE_COUNT)]


async def test_a_scheduler_that_is_away_is_taken_by_its_last_word_for_a_while() -> None:
    told: Any = Told()
    server = Server("127.0.0.1:0", [], CollectorRegistry())
    add_SchedulerServiceServicer_to_server(Scheduler(), server.grpc)
    await server.start()
    async with connect(f"127.0.0.1:{server.port}") as channel:
        watch = PressureWatch({"0": channel}, 10 * S)
        await watch.ask(told)
        await server.stop(0.0)
        told.time_us = 11 * S
        await watch.ask(told)
        told.time_us += 1
        await watch.ask(told)
    assert len(told.heard) == 2
    assert told.heard[0] == told.heard[1]


async def test_any_answer_of_a_scheduler_shows_that_it_is_there(channel: grpc.aio.Channel) -> None:
    assert await SchedulerWatch({"0": channel}, now_us).ask()
    async with connect("127.0.0.1:1") as away:
        assert not await SchedulerWatch({"0": away}, now_us).ask()
        assert await SchedulerWatch({"0": away, "1": channel}, now_us).ask()


async def test_leases_are_those_of_all_replicas_and_unknown_while_one_is_silent(channel: grpc.aio.Channel) -> None:
    instance = Instance("a/m", "m", "127.0.0.1:1", "a", state=InstanceState.DRAINING)
    assert await SchedulerWatch({"0": channel, "1": channel}, now_us).lease_count(instance) == 2 * LEASE_COUNT
    async with connect("127.0.0.1:1") as away:
        assert await SchedulerWatch({"0": channel, "1": away}, now_us).lease_count(instance) is None
        assert await SchedulerWatch({"0": away}, now_us).lease_count(instance) is None


async def test_a_replica_that_was_silent_for_longer_than_leases_live_has_none(channel: grpc.aio.Channel) -> None:
    instance = Instance("a/m", "m", "127.0.0.1:1", "a", state=InstanceState.DRAINING)
    times = [0]
    async with connect("127.0.0.1:1") as away:
        watch = SchedulerWatch({"0": channel, "1": away}, lambda: times[0])
        times[0] = round(GONE_S * US_PER_S) + 1
        await watch.ask()
        assert await watch.lease_count(instance) == LEASE_COUNT
