"""Asks the scheduler's replicas what is still in flight, and whether any is there to be asked."""

import asyncio
import logging
import uuid
from collections.abc import Mapping, Sequence

import grpc
from lmaas.scheduler.v1.scheduler_service_pb2 import DrainInstanceRequest, ListQueuesRequest
from lmaas.scheduler.v1.scheduler_service_pb2_grpc import SchedulerServiceStub

from forebay.autoscaler.config import LEASES_S
from forebay.autoscaler.loop import Loop
from forebay.autoscaler.probe import SILENT
from forebay.core.units import US_PER_S
from forebay.core.values import Instance, InstanceState
from forebay.wire.clock import Clock

log = logging.getLogger(__name__)

TIMEOUT_S = 2.0
GONE_S = 120.0
"""A replica that was silent for so long, twice the life of a lease by default, has none that holds."""


class Replica:
    """One replica of the scheduler."""

    def __init__(self, channel: grpc.aio.Channel, now_us: int) -> None:
        self.stub = SchedulerServiceStub(channel)
        self.answers = False
        self.heard_us = now_us


class SchedulerWatch:
    """Knows which replicas of the scheduler answer; `channels` are those by name, and may come and go.

    While none does, nobody counts leases: what metrics shows of queues is not the load, and nothing may be drained.
    While one is silent that was there a moment ago, it may still have leases: nothing is known to be idle.
    """

    def __init__(self, channels: Mapping[str, grpc.aio.Channel], clock: Clock) -> None:
        self._clock = clock
        self._channels = channels
        self._known = {name: Replica(channel, clock()) for name, channel in channels.items()}

    @property
    def _replicas(self) -> Sequence[Replica]:
        """Those that there are now."""
        channels = self._channels.items()
        self._known = {name: self._known.get(name) or Replica(channel, self._clock()) for name, channel in channels}
        return list(self._known.values())

    @property
    def answers(self) -> bool:
        """Whether any replica answers."""
        return any(one.answers for one in self._replicas)

    async def run(self) -> None:
        """Asks for ever."""
        while True:
            before = self.answers
            await self.ask()
            if self.answers != before:
                log.info("the scheduler answers" if self.answers else "the scheduler is silent; the fleet is held")
            await asyncio.sleep(LEASES_S)

    async def ask(self) -> bool:
        """Whether any replica answers now, whatever it says."""
        await asyncio.gather(*(self._ask(one) for one in self._replicas))
        return self.answers

    async def lease_count(self, instance: Instance) -> int | None:
        """Drains the instance in all replicas and counts what it still has in flight; None where that is not known."""
        present = [one for one in self._replicas if self._clock() - one.heard_us <= GONE_S * US_PER_S]
        counts = await asyncio.gather(*(self._drain(one, instance) for one in present))
        known = [count for count in counts if count is not None]
        return sum(known) if known and len(known) == len(counts) else None

    async def _ask(self, replica: Replica) -> None:
        try:
            await replica.stub.ListQueues(ListQueuesRequest(), timeout=TIMEOUT_S)
            replica.answers = True
        except grpc.aio.AioRpcError as error:
            replica.answers = error.code() not in SILENT
        if replica.answers:
            replica.heard_us = self._clock()

    async def _drain(self, replica: Replica, instance: Instance) -> int | None:
        # Each question has an id of its own: with the same id the scheduler repeats its first answer.
        request = DrainInstanceRequest(instance_id=instance.instance_id, request_id=uuid.uuid4().hex)
        try:
            answer = await replica.stub.DrainInstance(request, timeout=TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            fields = {"instance_id": instance.instance_id, "code": error.code().name}
            log.warning("a scheduler does not tell the leases; the instance is kept", extra={"fields": fields})
            return None
        replica.heard_us = self._clock()
        return answer.lease_count


async def watch_leases(loop: Loop, schedulers: SchedulerWatch) -> None:
    """Asks for the leases of what is draining, for ever."""
    while True:
        await ask_leases(loop, schedulers)
        await asyncio.sleep(LEASES_S)


async def ask_leases(loop: Loop, schedulers: SchedulerWatch) -> None:
    """Asks the scheduler to drain what is draining and tells the engine how many leases are left."""
    draining = [one for one in loop.engine.instances() if one.state is InstanceState.DRAINING]
    counts = await asyncio.gather(*(schedulers.lease_count(instance) for instance in draining))
    for instance, count in zip(draining, counts, strict=True):
        loop.apply(loop.engine.on_lease_count(instance.instance_id, count, loop.now_us()))
