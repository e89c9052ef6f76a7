"""Watches what the engine has to know: servers, leases, load, forecasts, and models that run already."""

import asyncio
import logging
import uuid
from collections.abc import Mapping, Sequence

import grpc
from lmaas.metrics.v1.metrics_service_pb2 import WatchSnapshotsRequest, WatchSnapshotsResponse
from lmaas.metrics.v1.metrics_service_pb2_grpc import MetricsServiceStub
from lmaas.metrics.v1.snapshot_pb2 import Snapshot
from lmaas.predictor.v1.predictor_service_pb2 import ForecastWorkloadRequest
from lmaas.predictor.v1.predictor_service_pb2_grpc import PredictorServiceStub
from lmaas.scheduler.v1.scheduler_service_pb2 import DrainInstanceRequest
from lmaas.scheduler.v1.scheduler_service_pb2_grpc import SchedulerServiceStub
from tritonclient.grpc import service_pb2, service_pb2_grpc

from forebay.autoscaler.config import Config, ServerConfig
from forebay.autoscaler.describe import figures_of
from forebay.autoscaler.loop import Loop
from forebay.autoscaler.policy.autoscaler.base import ForecastWindow, Needs
from forebay.core.values import Instance, InstanceState
from forebay.wire.channel import connect
from forebay.wire.convert import duration, instance_load_from_proto, model_load_from_proto
from forebay.wire.convert_autoscaler import forecast_quantiles

log = logging.getLogger(__name__)

STARTING = (InstanceState.PROVISIONING, InstanceState.LOADING)
PROBE_STEP_S = 0.1
DRAIN_S = 1.0
FIND_S = 5.0
CALL_TIMEOUT_S = 2.0
SNAPSHOT_SILENCE_S = 10.0
RETRY_S = 1.0
SILENT = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)


class Prober:
    """Asks each instance's server whether the model is ready; a slow server delays no other."""

    def __init__(self, loop: Loop, config: Config) -> None:
        self._loop = loop
        self._config = config
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._due_us: dict[str, int] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._described: set[str] = set()

    async def run(self) -> None:
        """Probes for ever: those that start more often than the others."""
        try:
            while True:
                instances = self._loop.engine.instances()
                for instance in instances:
                    self._probe_when_due(instance)
                await self._forget(instances)
                await asyncio.sleep(PROBE_STEP_S)
        finally:
            await self._forget(())

    def _probe_when_due(self, instance: Instance) -> None:
        key, now_us = instance.instance_id, self._loop.now_us()
        if key in self._tasks or now_us < self._due_us.get(key, 0):
            return
        wait_s = self._config.probe_starting_s if instance.state in STARTING else self._config.probe_s
        self._due_us[key] = now_us + int(wait_s * 1e6)
        self._tasks[key] = asyncio.create_task(self._probe(instance))

    async def _probe(self, instance: Instance) -> None:
        try:
            live, ready = await self._ask(instance)
            if ready and instance.instance_id not in self._described:
                await self._describe(instance)
            self._loop.apply(self._loop.engine.on_probe(instance.instance_id, live, ready, self._loop.now_us()))
        finally:
            self._tasks.pop(instance.instance_id, None)

    async def _ask(self, instance: Instance) -> tuple[bool, bool]:
        """Whether the server answers at all, and whether the model takes requests."""
        request = service_pb2.ModelReadyRequest(name=instance.model)
        try:
            answer = await self._stub(instance).ModelReady(request, timeout=self._config.probe_timeout_s)
        except grpc.aio.AioRpcError as error:
            # Any other status is an answer: the server is there and does not have the model.
            return error.code() not in SILENT, False
        return True, bool(answer.ready)

    async def _describe(self, instance: Instance) -> None:
        """Asks once what the engine can hold; a server that does not tell is as good as before."""
        self._described.add(instance.instance_id)
        request = service_pb2.ModelConfigRequest(name=instance.model)
        try:
            answer = await self._stub(instance).ModelConfig(request, timeout=CALL_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            log.debug("%s does not tell its configuration: %s", instance.instance_id, error.code().name)
            return
        figures = figures_of({name: value.string_value for name, value in answer.config.parameters.items()})
        self._loop.apply(self._loop.engine.on_described(instance.instance_id, figures, self._loop.now_us()))

    def _stub(self, instance: Instance) -> service_pb2_grpc.GRPCInferenceServiceStub:
        address = instance.grpc_address
        if address not in self._channels:
            self._channels[address] = connect(address)
        return service_pb2_grpc.GRPCInferenceServiceStub(self._channels[address])

    async def _forget(self, instances: Sequence[Instance]) -> None:
        addresses = {instance.grpc_address for instance in instances}
        ids = {instance.instance_id for instance in instances}
        for key in [key for key in self._tasks if key not in ids]:
            self._tasks.pop(key).cancel()
        for key in [key for key in self._due_us if key not in ids]:
            del self._due_us[key]
        self._described &= ids
        for address in [address for address in self._channels if address not in addresses]:
            await self._channels.pop(address).close()


async def watch_leases(loop: Loop, scheduler: grpc.aio.Channel) -> None:
    """Asks the scheduler to drain what is draining and tells the engine how many leases are left, for ever."""
    while True:
        draining = [one for one in loop.engine.instances() if one.state is InstanceState.DRAINING]
        counts = await asyncio.gather(*(_lease_count(scheduler, instance) for instance in draining))
        for instance, count in zip(draining, counts, strict=True):
            loop.apply(loop.engine.on_lease_count(instance.instance_id, count, loop.now_us()))
        await asyncio.sleep(DRAIN_S)


async def _lease_count(scheduler: grpc.aio.Channel, instance: Instance) -> int | None:
    # Each question has an id of its own: with the same id the scheduler repeats its first answer.
    request = DrainInstanceRequest(instance_id=instance.instance_id, request_id=uuid.uuid4().hex)
    try:
        answer = await SchedulerServiceStub(scheduler).DrainInstance(request, timeout=CALL_TIMEOUT_S)
    except grpc.aio.AioRpcError as error:
        fields = {"instance_id": instance.instance_id, "code": error.code().name}
        log.warning("the scheduler does not tell the leases; the instance is kept", extra={"fields": fields})
        return None
    return answer.lease_count


async def watch_snapshots(loop: Loop, metrics: grpc.aio.Channel) -> None:
    """Tells the engine the observed load, for ever; while there is none, the engine's last plan holds."""
    stub = MetricsServiceStub(metrics)
    while True:
        call = stub.WatchSnapshots(WatchSnapshotsRequest(interval=duration(1_000_000)))
        try:
            while True:
                answer = await asyncio.wait_for(call.read(), SNAPSHOT_SILENCE_S)
                if not isinstance(answer, WatchSnapshotsResponse):
                    break
                _observe(loop, answer.snapshot)
        except (grpc.aio.AioRpcError, TimeoutError) as error:
            log.debug("no snapshots: %s", error)
        finally:
            call.cancel()
        await asyncio.sleep(RETRY_S)


def _observe(loop: Loop, snapshot: Snapshot) -> None:
    models = [model_load_from_proto(model) for model in snapshot.models]
    instances = [instance_load_from_proto(instance) for instance in snapshot.instances]
    loop.apply(loop.engine.on_snapshot(models, instances, loop.now_us()))


class Forecaster:
    """Asks the predictor for the forecasts that the policy needs; a model without an answer has none."""

    def __init__(self, predictor: grpc.aio.Channel, models: Sequence[str], needs: Needs) -> None:
        self._predictor = PredictorServiceStub(predictor)
        self._models = models if needs.forecast_count else ()
        self._needs = needs

    async def __call__(self) -> Mapping[str, tuple[ForecastWindow, ...]]:
        """The forecasts by model."""
        found = await asyncio.gather(*map(self._forecast, self._models))
        return dict(zip(self._models, found, strict=True))

    async def _forecast(self, model: str) -> tuple[ForecastWindow, ...]:
        window = duration(self._needs.forecast_window_us)
        request = ForecastWorkloadRequest(model=model, window=window, horizon_count=self._needs.forecast_count)
        try:
            answer = await self._predictor.ForecastWorkload(request, timeout=CALL_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            fields = {"model": model, "code": error.code().name}
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
            region=server.region,
            concurrency_max=server.concurrency_max,
            kv_tokens_max=server.kv_tokens_max,
            context_tokens_max=server.context_tokens_max,
        )
        for name in names
    ]
