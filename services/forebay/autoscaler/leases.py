"""Asks the scheduler what is still in flight, and whether it is there to be asked."""

import asyncio
import logging
import uuid

import grpc
from lmaas.scheduler.v1.scheduler_service_pb2 import DrainInstanceRequest, ListQueuesRequest
from lmaas.scheduler.v1.scheduler_service_pb2_grpc import SchedulerServiceStub

from forebay.autoscaler.config import LEASES_S
from forebay.autoscaler.loop import Loop
from forebay.autoscaler.probe import SILENT
from forebay.core.values import Instance, InstanceState

log = logging.getLogger(__name__)

TIMEOUT_S = 2.0


class SchedulerWatch:
    """Knows whether the scheduler answers.

    While it does not, nobody counts leases: what metrics shows of queues is not the load, and nothing may be drained.
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = SchedulerServiceStub(channel)
        self.answers = False

    async def run(self) -> None:
        """Asks for ever."""
        while True:
            answers = await self.ask()
            if answers != self.answers:
                log.info("the scheduler answers" if answers else "the scheduler does not answer; the fleet is held")
            self.answers = answers
            await asyncio.sleep(LEASES_S)

    async def ask(self) -> bool:
        """Whether it answers now, whatever it says."""
        try:
            await self._stub.ListQueues(ListQueuesRequest(), timeout=TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            return error.code() not in SILENT
        return True


async def watch_leases(loop: Loop, scheduler: grpc.aio.Channel) -> None:
    """Asks for the leases of what is draining, for ever."""
    while True:
        await ask_leases(loop, scheduler)
        await asyncio.sleep(LEASES_S)


async def ask_leases(loop: Loop, scheduler: grpc.aio.Channel) -> None:
    """Asks the scheduler to drain what is draining and tells the engine how many leases are left."""
    draining = [one for one in loop.engine.instances() if one.state is InstanceState.DRAINING]
    counts = await asyncio.gather(*(_lease_count(scheduler, instance) for instance in draining))
    for instance, count in zip(draining, counts, strict=True):
        loop.apply(loop.engine.on_lease_count(instance.instance_id, count, loop.now_us()))


async def _lease_count(scheduler: grpc.aio.Channel, instance: Instance) -> int | None:
    # Each question has an id of its own: with the same id the scheduler repeats its first answer.
    request = DrainInstanceRequest(instance_id=instance.instance_id, request_id=uuid.uuid4().hex)
    try:
        answer = await SchedulerServiceStub(scheduler).DrainInstance(request, timeout=TIMEOUT_S)
    except grpc.aio.AioRpcError as error:
        fields = {"instance_id": instance.instance_id, "code": error.code().name}
        log.warning("the scheduler does not tell the leases; the instance is kept", extra={"fields": fields})
        return None
    return answer.lease_count
