"""Watches what the engine has to know: load, forecasts, and models that run already."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence

import grpc
from lmaas.metrics.v1.metrics_service_pb2 import WatchSnapshotsRequest, WatchSnapshotsResponse
from lmaas.metrics.v1.metrics_service_pb2_grpc import MetricsServiceStub
from lmaas.predictor.v1.predictor_service_pb2 import ForecastWorkloadRequest
from lmaas.predictor.v1.predictor_service_pb2_grpc import PredictorServiceStub
from lmaas.scheduler.v1.scheduler_service_pb2 import GetPressureRequest
from lmaas.scheduler.v1.scheduler_service_pb2_grpc import SchedulerServiceStub
from tritonclient.grpc import service_pb2, service_pb2_grpc

from forebay.autoscaler.config import SNAPSHOT_S, ServerConfig
from forebay.autoscaler.demands import Key
from forebay.autoscaler.forecasts import WINDOW_US, Forecasts, Windows, turn_of
from forebay.autoscaler.leases import SchedulerWatch
from forebay.autoscaler.loop import Loop
from forebay.autoscaler.policy.autoscaler.base import ForecastWindow, Needs
from forebay.autoscaler.pressures import Pressures
from forebay.core.pressure import Pressure
from forebay.core.units import US_PER_S
from forebay.core.values import Instance, InstanceRole, SloClass
from forebay.wire.channel import connect
from forebay.wire.clock import Clock, now_us
from forebay.wire.convert import duration, instance_load_from_proto, model_load_from_proto
from forebay.wire.convert_autoscaler import forecast_quantiles
from forebay.wire.convert_pressure import pressure_from_proto

log = logging.getLogger(__name__)

FIND_S = 5.0
CALL_TIMEOUT_S = 2.0
SNAPSHOT_SILENCE_S = 10.0
RETRY_S = 1.0


async def watch_snapshots(loop: Loop, metrics: grpc.aio.Channel, scheduler: SchedulerWatch) -> None:
    """Tells the engine the observed load, for ever; while there is none, the engine's last plan holds.

    Without a scheduler the queues look empty and are not: then nothing is told either.
    """
    stub = MetricsServiceStub(metrics)
    while True:
        call = stub.WatchSnapshots(WatchSnapshotsRequest(interval=duration(round(SNAPSHOT_S * US_PER_S))))
        try:
            while True:
                # Unlike wait_for, a timeout block cannot lose a cancellation that comes together with a message.
                async with asyncio.timeout(SNAPSHOT_SILENCE_S):
                    answer = await call.read()
                if not isinstance(answer, WatchSnapshotsResponse):
                    break
                if scheduler.answers:
                    take_snapshot(loop, answer)
        except (grpc.aio.AioRpcError, TimeoutError) as error:
            log.debug("no snapshots: %s", error)
        finally:
            call.cancel()
        await asyncio.sleep(RETRY_S)


def take_snapshot(loop: Loop, message: WatchSnapshotsResponse) -> None:
    """Tells the engine one message of metrics."""
    models = [model_load_from_proto(model) for model in message.snapshot.models]
    instances = [instance_load_from_proto(instance) for instance in message.snapshot.instances]
    loop.apply(loop.engine.on_snapshot(models, instances, loop.now_us()))


class PressureWatch:
    """Asks every replica of the scheduler what load is on its way; one that does not tell keeps its last word.

    `channels` are the replicas by name, and may come and go.
    """

    def __init__(self, channels: Mapping[str, grpc.aio.Channel], age_us_max: int) -> None:
        self._channels = channels
        self._pressures = Pressures(age_us_max)

    async def run(self, loop: Loop) -> None:
        """Asks and tells the engine, for ever."""
        while True:
            await self.ask(loop)
            await asyncio.sleep(SNAPSHOT_S)

    async def ask(self, loop: Loop) -> None:
        """Asks once; while nobody answers the engine is told nothing."""
        pressure = await self.hear(loop.now_us)
        if pressure is not None:
            loop.apply(loop.engine.on_pressure(pressure, loop.now_us()))

    async def hear(self, clock: Clock) -> Pressure | None:
        """Asks once; None while nobody has answered."""
        await asyncio.gather(*(self._ask(clock, *one) for one in self._channels.items()))
        return self._pressures.united(clock())

    async def _ask(self, clock: Clock, name: str, channel: grpc.aio.Channel) -> None:
        try:
            answer = await SchedulerServiceStub(channel).GetPressure(GetPressureRequest(), timeout=CALL_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            log.debug("a scheduler does not tell its pressure: %s", error.code().name)
        else:
            self._pressures.hear(name, pressure_from_proto(answer.pressure), clock())


class Forecaster:
    """Asks the predictor for the forecasts that the policy needs; what has no answer has none.

    Models are asked for each time, `demands` a few times a window.
    """

    def __init__(
        self,
        predictor: grpc.aio.Channel,
        models: Iterable[str],
        needs: Needs,
        demands: Callable[[], Sequence[Key]] = tuple,
        clock: Clock = now_us,
    ) -> None:
        self._predictor = PredictorServiceStub(predictor)
        self._models = tuple(dict.fromkeys(models)) if needs.forecast_count else ()
        self._window_us = needs.forecast_window_us or WINDOW_US
        self._count = needs.forecast_count
        self._demands = demands if needs.by_demand else tuple
        self._clock = clock
        self._kept: dict[Key, tuple[int, Windows]] = {}

    async def __call__(self) -> Forecasts:
        """The forecasts."""
        found, demands = await asyncio.gather(asyncio.gather(*map(self._ask, self._models)), self._of_demands())
        return Forecasts(dict(zip(self._models, found, strict=True)), demands)

    async def _of_demands(self) -> dict[Key, Windows]:
        turn = turn_of(self._clock(), self._window_us)
        keys = [key for key in self._demands() if key[0] in self._models]
        due = [key for key in keys if self._kept.get(key, (-1, ()))[0] != turn]
        found = await asyncio.gather(*(self._ask(*key) for key in due))
        # What has no answer is asked for again the next time.
        self._kept.update({key: (turn if windows else -1, windows) for key, windows in zip(due, found, strict=True)})
        return {key: self._kept[key][1] for key in keys}

    async def _ask(self, model: str, region: str = "", slo_class: SloClass | None = None) -> Windows:
        request = ForecastWorkloadRequest(
            model=model, region=region, window=duration(self._window_us), horizon_count=self._count
        )
        if slo_class is not None:
            request.slo_class = slo_class  # type: ignore[assignment]
        try:
            answer = await self._predictor.ForecastWorkload(request, timeout=CALL_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            fields = {"model": model, "region": region, "code": error.code().name}
            log.warning("no forecast", extra={"fields": fields})
            return ()
        return tuple(
            ForecastWindow(
                start_us=forecast.start_time.ToMicroseconds(),
                requests=forecast_quantiles(forecast.requests),
                prompt_tokens=forecast_quantiles(forecast.prompt_tokens),
                response_tokens=forecast_quantiles(forecast.response_tokens),
            )
            for forecast in answer.forecasts
        )


async def find_instances(loop: Loop, servers: Sequence[ServerConfig]) -> None:
    """Looks for ready models on running servers, for ever; each becomes an instance."""
    channels = [connect(server.grpc_address) for server in servers]
    try:
        while True:
            found = await asyncio.gather(*map(_found, servers, channels))
            for instances in found:
                loop.apply(loop.engine.on_found(instances, loop.now_us()))
            await asyncio.sleep(FIND_S if all(found) else RETRY_S)
    finally:
        for channel in channels:
            await channel.close()


async def _found(server: ServerConfig, channel: grpc.aio.Channel) -> list[Instance]:
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    try:
        index = await stub.RepositoryIndex(service_pb2.RepositoryIndexRequest(ready=True), timeout=CALL_TIMEOUT_S)
    except grpc.aio.AioRpcError as error:
        log.debug("server %s does not list its models: %s", server.server_id, error.code().name)
        return []
    names = sorted({model.name for model in index.models})
    return [
        Instance(
            instance_id=f"{server.server_id}/{name}",
            model=name,
            grpc_address=server.grpc_address,
            server_id=server.server_id,
            metrics_url=server.metrics_url,
            openai_address=server.openai_address,
            region=server.region,
            concurrency_max=server.concurrency_max,
            kv_tokens_max=server.kv_tokens_max,
            context_tokens_max=server.context_tokens_max,
            role=InstanceRole[server.role.upper()],
        )
        for name in names
    ]
