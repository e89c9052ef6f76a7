"""Drives the engine: the scheduler's streams, the fleet, the clock, and the requests that wait for their placement."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence

import grpc
from google.protobuf import duration_pb2
from lmaas.scheduler.v1 import scheduler_service_pb2

from forebay.core.errors import ForebayError
from forebay.core.instance.hints import Hints
from forebay.core.pressure import WaitingJob
from forebay.core.scheduling import Placement
from forebay.core.units import US_PER_S
from forebay.core.values import InferenceRequest, Outcome, WakeAt
from forebay.gateway import messages
from forebay.gateway.config import Config
from forebay.gateway.engine import Engine
from forebay.gateway.link import Link, for_ever
from forebay.gateway.meters import Meters
from forebay.gateway.traces import Traces
from forebay.gateway.values import Action, Attempt, Fail, Report
from forebay.wire.clock import Clock
from forebay.wire.convert_scheduler import placement_from_proto
from forebay.wire.reporter import Reporter
from forebay.wire.tracing import OFF, Tracer

_WATCH_TIMEOUT_S = 3600.0
_FLEET_INTERVAL_MS = 200
_FOLLOW_S = 0.5


class Loop:
    """The one place that calls the engine; all its calls come from one event loop, so they never overlap.

    `schedulers` are the replicas by name; they may come and go.
    """

    def __init__(
        self,
        engine: Engine,
        schedulers: Mapping[str, grpc.aio.Channel],
        reporter: Reporter,
        meters: Meters,
        config: Config,
        gateway_id: str,
        clock: Clock,
        tracer: Tracer = OFF,
    ) -> None:
        self._engine = engine
        self.traces = Traces(tracer, meters.genai)
        self._traced = self.traces.asked if tracer.is_on else None
        self._schedulers = schedulers
        self._gateway_id = gateway_id
        self._timeout_s = config.scheduler_timeout_s
        self._links = {name: self._link_to(name) for name in schedulers}
        self._watched = ""
        self._reporter = reporter
        self._meters = meters
        self._clock = clock
        self._waiting: dict[str, asyncio.Future[Placement]] = {}
        self.wake_at_us = 0
        """When the engine wants to be woken."""
        meters.in_flight.set_function(lambda: engine.flight_count)
        meters.linked.set_function(lambda: engine.is_linked)

    @property
    def engine(self) -> Engine:
        """The engine; others only read it."""
        return self._engine

    def suspected(self) -> frozenset[str]:
        """The ids of the instances that have just failed a request."""
        return self._engine.fleet.suspected(self._clock())

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
        self.traces.tried(request_id, error.code)
        self._apply(self._engine.on_failed(request_id, error, self._clock()))
        return future

    def counted(self, request_id: str, generated_tokens: int, prompt_tokens: int) -> None:
        """An answer that came whole has so many tokens."""
        self._engine.on_counted(request_id, generated_tokens, prompt_tokens, self._clock())

    def failed_over(self, request_id: str, instance_id: str) -> None:
        """Another instance than the chosen one answers, since that one failed."""
        self._apply(self._engine.on_failed_over(request_id, instance_id, self._clock()))

    def broken(self, request_id: str, error: ForebayError) -> None:
        """An attempt failed before the client's eyes: no other one follows."""
        self.traces.tried(request_id, error.code)
        self._apply(self._engine.on_failed(request_id, error, self._clock(), is_final=True))

    def finished(self, request_id: str, outcome: Outcome) -> None:
        """An answer ended."""
        self._apply(self._engine.on_finished(request_id, outcome, self._clock()))

    def gone(self, request_id: str) -> None:
        """The client is done with the request; nothing happens when it ended already."""
        future = self._waiting.pop(request_id, None)
        if future is not None:
            future.cancel()
        self._apply(self._engine.on_gone(request_id, self._clock()))

    def backlog(self, jobs: Sequence[WaitingJob]) -> None:
        """Deferred work waits in the store."""
        self._apply(self._engine.on_backlog(jobs, self._clock()))

    async def run_clock(self) -> None:
        """Wakes the engine when it wants to be woken, for ever."""
        while True:
            await asyncio.sleep(max(0, self.wake_at_us - self._clock()) / US_PER_S)
            self.wake()

    def wake(self) -> None:
        """The time has come that the engine wanted to be woken at."""
        self._apply(self._engine.on_wake(self._clock()))

    async def run_links(self) -> None:
        """Keeps the streams of all replicas of the scheduler open, for ever, also of those that come later."""
        running: dict[str, asyncio.Task[None]] = {}
        try:
            while True:
                await self._follow(running)
                await asyncio.sleep(_FOLLOW_S)
        finally:
            for task in running.values():
                task.cancel()

    async def _follow(self, running: dict[str, asyncio.Task[None]]) -> None:
        for name in [one for one in self._schedulers if one not in running]:
            link = self._links[name] = self._links.get(name) or self._link_to(name)
            running[name] = asyncio.create_task(link.run())
        for name in [one for one in running if one not in self._schedulers]:
            task = running.pop(name)
            task.cancel()
            # Only then does the engine know that it is gone.
            await asyncio.gather(task, return_exceptions=True)
            del self._links[name]

    def _link_to(self, name: str) -> Link:
        return Link(name, self._schedulers[name], self, self._gateway_id, self._timeout_s, self._traced)

    async def run_fleet(self) -> None:
        """Watches the scheduler's fleet, for ever."""
        await for_ever(self._watch, "scheduler's fleet")

    async def flush(self) -> None:
        """Waits until what the scheduler must still hear is on its way, a second at most."""
        for _ in range(20):
            if all(link.is_empty for link in self._links.values()) or not self._engine.is_linked:
                return
            await asyncio.sleep(0.05)

    def _wait(self, request_id: str) -> asyncio.Future[Placement]:
        future: asyncio.Future[Placement] = asyncio.get_running_loop().create_future()
        self._waiting[request_id] = future
        return future

    # What replicas of the scheduler say

    def link_up(self, replica: str) -> None:
        """The stream of a replica opened."""
        self._apply(self._engine.on_link_up(replica, self._clock()))

    def link_down(self, replica: str) -> None:
        """The stream of a replica broke."""
        self._apply(self._engine.on_link_down(replica, self._clock()))

    def answered(self, replica: str, response: scheduler_service_pb2.ScheduleResponse) -> None:
        """A replica answered."""
        self._apply(self._answer(replica, response))

    def waited_us(self, replica: str) -> int:
        """For how long a replica has owed an answer."""
        oldest_us = self._engine.oldest_ask_us(replica)
        return 0 if oldest_us is None else self._clock() - oldest_us

    def _answer(self, replica: str, response: scheduler_service_pb2.ScheduleResponse) -> list[Action]:
        now_us, kind = self._clock(), response.WhichOneof("action")
        if kind == "placed":
            placement = placement_from_proto(response.request_id, response.placed)
            return self._engine.on_placed(replica, placement, now_us)
        refusal = messages.rejection(response.rejected) if kind == "rejected" else messages.retry(response.retry)
        return self._engine.on_refused(replica, response.request_id, refusal, now_us)

    async def _watch(self) -> None:
        interval = duration_pb2.Duration()
        interval.FromMilliseconds(_FLEET_INTERVAL_MS)
        request = scheduler_service_pb2.WatchInstancesRequest(interval_min=interval)
        if not self._links:
            # The name stands for nobody yet.
            return
        names = sorted(self._links)
        # All replicas know the whole fleet; when the one that was watched is lost, the next one is.
        self._watched = next((name for name in names if name > self._watched), names[0])
        async for fleet in self._links[self._watched].stub.WatchInstances(request, timeout=_WATCH_TIMEOUT_S):
            self.take_fleet(fleet)

    def take_fleet(self, message: scheduler_service_pb2.WatchInstancesResponse) -> None:
        """Tells the engine one message of the scheduler."""
        self._apply(self._engine.on_fleet(messages.instances(message), self._clock()))

    def _apply(self, actions: Iterable[Action]) -> None:
        for action in actions:
            match action:
                case Attempt(request_id, placement):
                    self.traces.placed(request_id, placement)
                    self._resolve(request_id, placement)
                case Fail(request_id, error):
                    self._resolve(request_id, error)
                case Report(record):
                    self._reporter.report(messages.event(record))
                    model = record.request.model if self._engine.fleet.knows(record.request.model) else "unknown"
                    self._meters.ended(record, model)
                    self.traces.ended(record, model)
                case WakeAt(at_us):
                    self.wake_at_us = at_us
                case _:
                    self._links[action.to].send(action)

    def _resolve(self, request_id: str, result: Placement | ForebayError) -> None:
        future = self._waiting.pop(request_id, None)
        if future is None or future.done():
            return
        if isinstance(result, ForebayError):
            future.set_exception(result)
        else:
            future.set_result(result)
