"""Drives the engine: the scheduler's stream, the fleet, the clock, and the requests that wait for their placement."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import grpc
from google.protobuf import duration_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from lmaas.scheduler.v1 import scheduler_service_pb2
from lmaas.scheduler.v1.scheduler_service_pb2_grpc import SchedulerServiceStub

from forebay.core.errors import ForebayError
from forebay.core.instance.hints import Hints
from forebay.core.scheduling import Placement
from forebay.core.units import US_PER_S
from forebay.core.values import InferenceRequest, Outcome, WakeAt
from forebay.gateway import messages
from forebay.gateway.config import Config
from forebay.gateway.engine import Engine
from forebay.gateway.meters import Meters
from forebay.gateway.values import Action, Attempt, Fail, Report, ToScheduler
from forebay.wire.clock import Clock
from forebay.wire.convert_scheduler import placement_from_proto
from forebay.wire.reporter import Reporter

log = logging.getLogger(__name__)

_BACKOFF_FIRST_S, _BACKOFF_MAX_S = 0.1, 2.0
_PROBE_INTERVAL_S = 0.5
_WATCH_TIMEOUT_S = 3600.0
_FLEET_INTERVAL_MS = 200


class Loop:
    """The one place that calls the engine; all its calls come from one event loop, so they never overlap."""

    def __init__(
        self,
        engine: Engine,
        scheduler: grpc.aio.Channel,
        reporter: Reporter,
        meters: Meters,
        config: Config,
        gateway_id: str,
        clock: Clock,
    ) -> None:
        self._engine = engine
        self._stub = SchedulerServiceStub(scheduler)
        self._health: Any = health_pb2_grpc.HealthStub(scheduler)
        self._reporter = reporter
        self._meters = meters
        self._config = config
        self._gateway_id = gateway_id
        self._clock = clock
        self._outbox: asyncio.Queue[ToScheduler] = asyncio.Queue()
        self._waiting: dict[str, asyncio.Future[Placement]] = {}
        self.wake_at_us = 0
        """When the engine wants to be woken."""
        meters.in_flight.set_function(lambda: engine.flight_count)
        meters.linked.set_function(lambda: engine.is_linked)

    @property
    def engine(self) -> Engine:
        """The engine; others only read it."""
        return self._engine

    def arrive(self, request: InferenceRequest) -> asyncio.Future[Placement]:
        """Takes a request; the future brings its placement or the error that the client gets."""
        future = self._wait(request.request_id)
        self._apply(self._engine.on_arrive(request, self._clock()))
        return future

    def hints(self, request_id: str) -> Hints:
        """What the instance that the request was placed on is told beside it."""
        return self._engine.hints(request_id, self._clock())

    def tokens(self, request_id: str, generated_tokens: int, prompt_tokens: int) -> None:
        """An answer grew."""
        self._engine.on_tokens(request_id, generated_tokens, prompt_tokens, self._clock())

    def failed(self, request_id: str, error: ForebayError) -> asyncio.Future[Placement]:
        """An attempt failed; the future brings the next placement or the error that the client gets."""
        future = self._wait(request_id)
        self._apply(self._engine.on_failed(request_id, error, self._clock()))
        return future

    def finished(self, request_id: str, outcome: Outcome) -> None:
        """An answer ended."""
        self._apply(self._engine.on_finished(request_id, outcome, self._clock()))

    def gone(self, request_id: str) -> None:
        """The client is done with the request; nothing happens when it ended already."""
        future = self._waiting.pop(request_id, None)
        if future is not None:
            future.cancel()
        self._apply(self._engine.on_gone(request_id, self._clock()))

    async def run_clock(self) -> None:
        """Wakes the engine when it wants to be woken, for ever."""
        while True:
            await asyncio.sleep(max(0, self.wake_at_us - self._clock()) / US_PER_S)
            self.wake()

    def wake(self) -> None:
        """The time has come that the engine wanted to be woken at."""
        self._apply(self._engine.on_wake(self._clock()))

    async def run_link(self) -> None:
        """Keeps the scheduler's stream open, for ever."""
        await _for_ever(self._link, "scheduler")

    async def run_fleet(self) -> None:
        """Watches the scheduler's fleet, for ever."""
        await _for_ever(self._watch, "scheduler's fleet")

    async def flush(self) -> None:
        """Waits until what the scheduler must still hear is on its way, a second at most."""
        for _ in range(20):
            if self._outbox.empty() or not self._engine.is_linked:
                return
            await asyncio.sleep(0.05)

    def _wait(self, request_id: str) -> asyncio.Future[Placement]:
        future: asyncio.Future[Placement] = asyncio.get_running_loop().create_future()
        self._waiting[request_id] = future
        return future

    async def _link(self) -> None:
        await self._check()
        # No deadline: the stream lives as long as both sides. Keep-alive and _probe notice when one is gone.
        call = self._stub.Schedule()
        outbox = self._outbox = asyncio.Queue()
        self._apply(self._engine.on_link_up(self._clock()))
        log.info("linked to the scheduler")
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
            self._apply(self._engine.on_link_down(self._clock()))

    async def _check(self) -> None:
        await self._health.Check(health_pb2.HealthCheckRequest(), timeout=self._config.scheduler_timeout_s)

    async def _send(self, call: Any, outbox: asyncio.Queue[ToScheduler]) -> None:
        while True:
            action = await outbox.get()
            await call.write(messages.to_schedule(action, self._gateway_id))

    async def _receive(self, call: Any) -> None:
        async for response in call:
            self._apply(self._answer(response))

    async def _probe(self) -> None:
        """Ends when the scheduler is silent on a question and on a health check too: it hangs, or the network does."""
        while True:
            await asyncio.sleep(_PROBE_INTERVAL_S)
            oldest_us = self._engine.oldest_ask_us()
            if oldest_us is not None and self._clock() - oldest_us > _PROBE_INTERVAL_S * US_PER_S:
                await self._check()

    def _answer(self, response: scheduler_service_pb2.ScheduleResponse) -> list[Action]:
        now_us, kind = self._clock(), response.WhichOneof("action")
        if kind == "placed":
            return self._engine.on_placed(placement_from_proto(response.request_id, response.placed), now_us)
        refusal = messages.rejection(response.rejected) if kind == "rejected" else messages.retry(response.retry)
        return self._engine.on_refused(response.request_id, refusal, now_us)

    async def _watch(self) -> None:
        interval = duration_pb2.Duration()
        interval.FromMilliseconds(_FLEET_INTERVAL_MS)
        request = scheduler_service_pb2.WatchInstancesRequest(interval_min=interval)
        async for fleet in self._stub.WatchInstances(request, timeout=_WATCH_TIMEOUT_S):
            self.take_fleet(fleet)

    def take_fleet(self, message: scheduler_service_pb2.WatchInstancesResponse) -> None:
        """Tells the engine one message of the scheduler."""
        self._apply(self._engine.on_fleet(messages.instances(message), self._clock()))

    def _apply(self, actions: Iterable[Action]) -> None:
        for action in actions:
            match action:
                case Attempt(request_id, placement):
                    self._resolve(request_id, placement)
                case Fail(request_id, error):
                    self._resolve(request_id, error)
                case Report(record):
                    self._reporter.report(messages.event(record))
                    self._meters.ended(record, self._engine.fleet.knows(record.request.model))
                case WakeAt(at_us):
                    self.wake_at_us = at_us
                case _:
                    self._outbox.put_nowait(action)

    def _resolve(self, request_id: str, result: Placement | ForebayError) -> None:
        future = self._waiting.pop(request_id, None)
        if future is None or future.done():
            return
        if isinstance(result, ForebayError):
            future.set_exception(result)
        else:
            future.set_result(result)


async def _for_ever(session: Callable[[], Awaitable[None]], what: str) -> None:
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
