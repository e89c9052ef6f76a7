"""Asks each instance's server whether it is there and whether its model takes requests."""

import asyncio
import logging
from collections.abc import Callable, Sequence

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from forebay.autoscaler.config import Config
from forebay.autoscaler.describe import figures_of
from forebay.autoscaler.life import STARTING
from forebay.autoscaler.loop import Loop
from forebay.autoscaler.warmup import WarmUp
from forebay.core.units import US_PER_S
from forebay.core.values import Instance
from forebay.wire.channel import connect

log = logging.getLogger(__name__)

STEP_S = 0.1
CONFIG_TIMEOUT_S = 2.0
SILENT = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)


class Prober:
    """Asks each instance's server whether the model is ready; a slow server delays no other.

    `dial` opens a channel to an address.
    """

    def __init__(self, loop: Loop, config: Config, dial: Callable[[str], grpc.aio.Channel] = connect) -> None:
        self._loop = loop
        self._config = config
        self._dial = dial
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._due_us: dict[str, int] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._described: set[str] = set()
        self._warm_up = WarmUp(config.models)

    async def run(self) -> None:
        """Probes for ever: those that start more often than the others."""
        try:
            while True:
                instances = self._loop.engine.instances()
                for instance in instances:
                    self._probe_when_due(instance)
                await self._forget(instances)
                await asyncio.sleep(STEP_S)
        finally:
            await self._forget(())

    def _probe_when_due(self, instance: Instance) -> None:
        key, now_us = instance.instance_id, self._loop.now_us()
        if key in self._tasks or now_us < self._due_us.get(key, 0):
            return
        wait_s = self._config.probe_starting_s if instance.state in STARTING else self._config.probe_s
        self._due_us[key] = now_us + int(wait_s * US_PER_S)
        self._tasks[key] = asyncio.create_task(self.probe(instance))

    async def probe(self, instance: Instance) -> None:
        """Asks one server and tells the engine."""
        try:
            live, ready = await self._ask(instance)
            if ready and instance.instance_id not in self._described:
                await self._describe(instance)
            if ready and instance.state in STARTING:
                ready = await self._warm_up(instance, self._stub(instance))
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
            answer = await self._stub(instance).ModelConfig(request, timeout=CONFIG_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            log.debug("%s does not tell its configuration: %s", instance.instance_id, error.code().name)
            return
        figures = figures_of({name: value.string_value for name, value in answer.config.parameters.items()})
        self._loop.apply(self._loop.engine.on_described(instance.instance_id, figures, self._loop.now_us()))

    def _stub(self, instance: Instance) -> service_pb2_grpc.GRPCInferenceServiceStub:
        address = instance.grpc_address
        if address not in self._channels:
            self._channels[address] = self._dial(address)
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
