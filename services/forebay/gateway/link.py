"""The stream to one replica of the scheduler, opened again whenever it breaks."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from lmaas.scheduler.v1.scheduler_service_pb2 import ScheduleResponse
from lmaas.scheduler.v1.scheduler_service_pb2_grpc import SchedulerServiceStub

from forebay.core.units import US_PER_S
from forebay.gateway import messages
from forebay.gateway.values import ToScheduler

log = logging.getLogger(__name__)

_BACKOFF_FIRST_S, _BACKOFF_MAX_S = 0.1, 2.0
_PROBE_INTERVAL_S = 0.5
_BATCH_MAX = 256


class Listener(Protocol):
    """Who hears of a replica."""

    def link_up(self, replica: str) -> None:
        """Its stream opened."""
        ...

    def link_down(self, replica: str) -> None:
        """Its stream broke."""
        ...

    def answered(self, replica: str, response: ScheduleResponse) -> None:
        """It answered."""
        ...

    def waited_us(self, replica: str) -> int:
        """For how long it has owed an answer."""
        ...


class Link:
    """One replica. What is sent while the stream is broken goes nowhere: the engine tells all again when it opens."""

    def __init__(
        self,
        replica: str,
        channel: grpc.aio.Channel,
        listener: Listener,
        gateway_id: str,
        timeout_s: float,
        traced: messages.Traced | None = None,
    ) -> None:
        self.stub = SchedulerServiceStub(channel)
        self._replica = replica
        self._health: Any = health_pb2_grpc.HealthStub(channel)
        self._listener = listener
        self._gateway_id = gateway_id
        self._timeout_s = timeout_s
        self._traced = traced
        self._outbox: asyncio.Queue[ToScheduler] = asyncio.Queue()

    @property
    def is_empty(self) -> bool:
        """Whether all is on its way."""
        return self._outbox.empty()

    def send(self, action: ToScheduler) -> None:
        """Sends a message as soon as those before it are gone."""
        self._outbox.put_nowait(action)

    async def run(self) -> None:
        """Keeps the stream open, for ever."""
        await for_ever(self._session, f"scheduler {self._replica}".strip())

    async def _session(self) -> None:
        await self._check()
        # No deadline: the stream lives as long as both sides. Keep-alive and _probe notice when one is gone.
        call = self.stub.Schedule()
        outbox = self._outbox = asyncio.Queue()
        self._listener.link_up(self._replica)
        log.info("linked to the scheduler", extra={"fields": {"replica": self._replica}})
        parts = [asyncio.create_task(part) for part in (self._send(call, outbox), self._receive(call), self._probe())]
        try:
            done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            for part in done:
                part.result()
        finally:
            call.cancel()
            for part in parts:
                part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)
            self._listener.link_down(self._replica)

    async def _check(self) -> None:
        await self._health.Check(health_pb2.HealthCheckRequest(), timeout=self._timeout_s)

    async def _send(self, call: Any, outbox: asyncio.Queue[ToScheduler]) -> None:
        while True:
            actions = [await outbox.get()]
            # What came while the last message was written goes together: it costs a fraction of messages one by one.
            while not outbox.empty() and len(actions) < _BATCH_MAX:
                actions.append(outbox.get_nowait())
            await call.write(messages.to_schedule_all(actions, self._gateway_id, self._traced))

    async def _receive(self, call: Any) -> None:
        async for response in call:
            for answer in response.batch or (response,):
                self._listener.answered(self._replica, answer)

    async def _probe(self) -> None:
        """Ends when the replica is silent on a question and on a health check too: it hangs, or the network does."""
        while True:
            await asyncio.sleep(_PROBE_INTERVAL_S)
            if self._listener.waited_us(self._replica) > _PROBE_INTERVAL_S * US_PER_S:
                await self._check()


async def for_ever(session: Callable[[], Awaitable[None]], what: str) -> None:
    """Repeats a session with growing pauses between those that fail quickly; says so once for each loss."""
    pause_s = _BACKOFF_FIRST_S
    while True:
        began_s = asyncio.get_running_loop().time()
        try:
            await session()
        except grpc.aio.AioRpcError as error:
            if pause_s == _BACKOFF_FIRST_S:
                fields = {"code": error.code().name, "error": error.details()}
                log.warning("lost the %s; trying again", what, extra={"fields": fields})
        except asyncio.CancelledError:
            # grpc raises the same error when the other side ends a stream with status CANCELLED.
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
        except Exception:
            # The data plane outlives a peer that sends nonsense.
            log.exception("the session with the %s failed", what)
        if asyncio.get_running_loop().time() - began_s > _BACKOFF_MAX_S:
            pause_s = _BACKOFF_FIRST_S
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 2, _BACKOFF_MAX_S)
