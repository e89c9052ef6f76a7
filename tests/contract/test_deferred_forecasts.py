"""What the gateway asks the predictor for, and what it takes its answers for."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
from lmaas.common.v1 import slo_pb2
from lmaas.predictor.v1 import predictor_service_pb2 as pb
from lmaas.predictor.v1 import workload_pb2
from lmaas.predictor.v1.predictor_service_pb2_grpc import (
    PredictorServiceServicer,
    add_PredictorServiceServicer_to_server,
)

from forebay.gateway.deferred.config import DeferredConfig
from forebay.gateway.deferred.forecasts import Forecasts
from forebay.gateway.deferred.pacing import Demand
from forebay.wire.channel import connect

START_S = 1_800_000_000
CONFIG = DeferredConfig(forecast_window_s=300.0, forecast_history_min=10, prompt_weight=0.1)


class FakePredictor(PredictorServiceServicer):
    """Forecasts 100 response and 50 prompt tokens more for each window, twice as many for the second class."""

    def __init__(self) -> None:
        self.asked: list[pb.ForecastWorkloadRequest] = []
        self.history_count = 10
        self.is_away = False

    async def ForecastWorkload(self, request: pb.ForecastWorkloadRequest, context: Any) -> pb.ForecastWorkloadResponse:
        self.asked.append(request)
        if self.is_away:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "away")
        response = pb.ForecastWorkloadResponse(history_count=self.history_count)
        for number in range(request.horizon_count):
            one = response.forecasts.add()
            one.start_time.seconds = START_S + 300 * number
            one.response_tokens.CopyFrom(workload_pb2.Quantiles(p10=0, p50=1, p90=100 * number * request.slo_class))
            one.prompt_tokens.CopyFrom(workload_pb2.Quantiles(p10=0, p50=1, p90=50 * number * request.slo_class))
        return response


Ask = Callable[[str, int], Any]


@pytest.fixture
async def predictor() -> AsyncIterator[tuple[FakePredictor, Ask]]:
    fake, server = FakePredictor(), grpc.aio.server()
    add_PredictorServiceServicer_to_server(fake, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with connect(f"127.0.0.1:{port}") as channel:
        yield fake, Forecasts(channel, CONFIG).ask
    await server.stop(0)


async def test_both_interactive_classes_are_added_up_in_units_of_work(predictor: tuple[FakePredictor, Ask]) -> None:
    fake, ask = predictor
    demand = await ask("m", 3)
    # Each window: (100 + 0.1 x 50) tokens for the first class, twice that for the second.
    assert demand == Demand(START_S * 1_000_000, 300_000_000, (0.0, 315.0, 630.0))
    assert [request.slo_class for request in fake.asked] == [
        slo_pb2.SLO_CLASS_INTERACTIVE_FAST,
        slo_pb2.SLO_CLASS_INTERACTIVE_NORMAL,
    ]
    assert {(one.model, one.window.seconds, one.horizon_count) for one in fake.asked} == {("m", 300, 3)}


async def test_too_little_history_is_no_forecast(predictor: tuple[FakePredictor, Ask]) -> None:
    fake, ask = predictor
    fake.history_count = 9
    assert await ask("m", 3) is None


async def test_a_predictor_that_is_away_is_no_forecast(predictor: tuple[FakePredictor, Ask]) -> None:
    fake, ask = predictor
    fake.is_away = True
    assert await ask("m", 3) is None
    assert await Forecasts(None, CONFIG).ask("m", 3) is None
