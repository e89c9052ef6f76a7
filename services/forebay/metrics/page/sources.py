"""What each part is asked: the scheduler's replicas, the autoscaler, the predictor, the gateway."""

import asyncio
from collections.abc import Callable, Iterable, Sequence

import grpc
import httpx
from google.protobuf.duration_pb2 import Duration
from lmaas.autoscaler.v1 import autoscaler_service_pb2 as autoscaler_pb
from lmaas.autoscaler.v1.autoscaler_service_pb2_grpc import AutoscalerServiceStub
from lmaas.autoscaler.v1.fleet_pb2 import ForecastBand
from lmaas.predictor.v1 import predictor_service_pb2 as predictor_pb
from lmaas.predictor.v1.length_pb2 import ModelKind
from lmaas.predictor.v1.predictor_service_pb2_grpc import PredictorServiceStub
from lmaas.scheduler.v1 import scheduler_service_pb2 as scheduler_pb
from lmaas.scheduler.v1.scheduler_service_pb2_grpc import SchedulerServiceStub

from forebay.metrics.page.seen import AutoscalerSays, PredictorSays, SchedulerSays

STEP_ITERATIONS, STEP_COUNT = 25, 64
"""1,600 iterations: the heat map's seconds also where a token takes no more than 8 ms."""
INSTANCE_COUNT_MAX = 10_000
SCALING_COUNT = 30
ROW_COUNT = 200
FORECAST_WINDOW_S, FORECAST_COUNT, FORECAST_MODELS_MAX = 60, 15, 12


class AskScheduler:
    """Asks one replica: all at once, so that it is one moment."""

    def __init__(self, channel: grpc.aio.Channel, timeout_s: float) -> None:
        self._stub = SchedulerServiceStub(channel)
        self._timeout_s = timeout_s

    async def __call__(self, now_us: int) -> SchedulerSays:
        """What it says now."""
        stub, timeout_s = self._stub, self._timeout_s
        ahead = scheduler_pb.GetAnticipationRequest(step_iterations=STEP_ITERATIONS, step_count=STEP_COUNT)
        listed = scheduler_pb.ListInstancesRequest(page_size=INSTANCE_COUNT_MAX)
        instances, queues, shadows, pressure, anticipation = await asyncio.gather(
            stub.ListInstances(listed, timeout=timeout_s),
            stub.ListQueues(scheduler_pb.ListQueuesRequest(), timeout=timeout_s),
            stub.ListShadows(scheduler_pb.ListShadowsRequest(), timeout=timeout_s),
            stub.GetPressure(scheduler_pb.GetPressureRequest(), timeout=timeout_s),
            stub.GetAnticipation(ahead, timeout=timeout_s),
        )
        return SchedulerSays(
            instances.instances, queues.queues, shadows.shadows, pressure.pressure, anticipation.anticipation
        )


class AskAutoscaler:
    """Asks the autoscaler, whichever of several answers."""

    def __init__(self, channel: grpc.aio.Channel, timeout_s: float) -> None:
        self._stub = AutoscalerServiceStub(channel)
        self._timeout_s = timeout_s

    async def __call__(self, now_us: int) -> AutoscalerSays:
        """The fleet and the last decisions."""
        fleet, listed = await asyncio.gather(
            self._stub.GetFleet(autoscaler_pb.GetFleetRequest(), timeout=self._timeout_s),
            self._stub.ListDecisions(
                autoscaler_pb.ListDecisionsRequest(page_size=SCALING_COUNT), timeout=self._timeout_s
            ),
        )
        return AutoscalerSays(fleet, listed.decisions)


class AskPredictor:
    """Asks the predictor how well it does, and for forecasts of the models that `wanted` names."""

    def __init__(self, channel: grpc.aio.Channel, timeout_s: float, wanted: Callable[[], Iterable[str]]) -> None:
        self._stub = PredictorServiceStub(channel)
        self._timeout_s = timeout_s
        self._wanted = wanted
        self._bands: Sequence[ForecastBand] = ()
        self._window = -1

    async def __call__(self, now_us: int) -> PredictorSays:
        """What it says now."""
        models = predictor_pb.ListModelsRequest(kind=ModelKind.MODEL_KIND_LENGTH)
        accuracy, listed = await asyncio.gather(
            self._stub.ListAccuracy(predictor_pb.ListAccuracyRequest(page_size=ROW_COUNT), timeout=self._timeout_s),
            self._stub.ListModels(models, timeout=self._timeout_s),
        )
        await self._forecast(now_us)
        return PredictorSays(accuracy.rows, listed.models, self._bands)

    async def _forecast(self, now_us: int) -> None:
        """Asks twice a window: more often says nothing new."""
        names, half = sorted(self._wanted())[:FORECAST_MODELS_MAX], now_us // (FORECAST_WINDOW_S * 500_000)
        if half == self._window:
            return
        found = await asyncio.gather(*map(self._bands_of, names), return_exceptions=True)
        self._bands = [band for bands in found if not isinstance(bands, BaseException) for band in bands]
        self._window = half

    async def _bands_of(self, model: str) -> list[ForecastBand]:
        window = Duration(seconds=FORECAST_WINDOW_S)
        asked = predictor_pb.ForecastWorkloadRequest(model=model, window=window, horizon_count=FORECAST_COUNT)
        told = await self._stub.ForecastWorkload(asked, timeout=self._timeout_s)
        return [
            ForecastBand(
                model=model,
                start_time=one.start_time,
                window=window,
                requests=one.requests,
                prompt_tokens=one.prompt_tokens,
                response_tokens=one.response_tokens,
            )
            for one in told.forecasts
        ]


class AskGateway:
    """Asks the gateway's HTTP whether it is there."""

    def __init__(self, address: str, timeout_s: float) -> None:
        self._url = f"http://{address}/healthz"
        self._client = httpx.AsyncClient(trust_env=False, timeout=timeout_s)

    async def __call__(self, now_us: int) -> bool:
        """True; raises where it does not answer."""
        return (await self._client.get(self._url)).is_success

    async def close(self) -> None:
        """Ends its connections."""
        await self._client.aclose()
