"""The engine's shell: turns what happens into events, one at a time, and brings each answer to whoever waits for it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Protocol, TypeAlias

from forebay.core.errors import Unavailable
from forebay.core.pressure import WaitingJob
from forebay.core.scheduling import Answer, OpenLease, Placement, Rejected, Retry, ScheduledInstance
from forebay.core.units import US_PER_S
from forebay.core.values import InferenceRequest, Instance, InstanceLoad, LengthPrediction, Outcome, WakeAt
from forebay.scheduler.actions import Action, Observe, Plan
from forebay.scheduler.engine import Engine
from forebay.scheduler.policy.planner.base import Assignment
from forebay.scheduler.traces import Traces
from forebay.wire.clock import Clock

Reply: TypeAlias = Callable[[Answer], None]
"""Takes the answer to one arrival; must not wait and must not call the shell."""


class Lengths(Protocol):
    """Who predicts answer lengths and learns from outcomes."""

    def ask(self, request: InferenceRequest, reply: Callable[[LengthPrediction | None], None]) -> None:
        """Calls `reply` once, now or soon: with the prediction, or with None where there is none in time."""
        ...

    def observe(self, outcome: Observe) -> None:
        """Takes an outcome; never waits."""
        ...


class Alarm(Protocol):
    """Who wakes the shell."""

    def set(self, at_us: int) -> None:
        """Calls the shell's `wake` at this time; replaces what was set before."""
        ...


class Solver(Protocol):
    """Who makes plans."""

    def solve(self, asked: Plan, reply: Callable[[Assignment | None], None]) -> None:
        """Calls `reply` once, now or later: with the plan, or with None where there is none."""
        ...


class Meter(Protocol):
    """Who counts."""

    def answered(self, answer: Answer) -> None:
        """Takes one answer."""
        ...

    def predicted(self, in_time: bool) -> None:
        """Takes whether the predictor answered in time."""
        ...


class Shell:
    """The one caller of the engine. All calls come from one event loop, so they are serial by construction."""

    def __init__(
        self,
        engine: Engine,
        clock: Clock,
        lengths: Lengths,
        alarm: Alarm,
        meter: Meter,
        solver: Solver | None = None,
        traces: Traces | None = None,
    ) -> None:
        self.engine = engine
        self.clock = clock
        self.traces = traces or Traces()
        self._lengths = lengths
        self._alarm = alarm
        self._meter = meter
        self._solver = solver
        self._started_us = clock()
        self._waiting: dict[str, list[Reply]] = {}
        self._predicting: set[str] = set()
        self._changed = asyncio.Event()
        self._seen_revision = -1

    # Requests

    def arrive(self, request: InferenceRequest, reply: Reply, gateway_id: str = "") -> None:
        """Takes an arrival; `reply` gets its one answer, now or later, unless it is withdrawn before."""
        request_id = request.request_id
        replies = self._waiting.get(request_id)
        if replies is None:
            self._waiting[request_id] = [reply]
        else:
            replies.append(reply)
        if request_id in self._predicting:
            return
        if self.engine.knows(request):
            self._decide(request, None, gateway_id)
            return
        self._predicting.add(request_id)
        self._lengths.ask(request, lambda prediction: self._predicted(request, prediction, gateway_id))

    async def place(self, request: InferenceRequest) -> Answer:
        """The answer to one arrival; whoever stops waiting for it withdraws it."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

        def reply(given: Answer) -> None:
            if not answer.done():
                answer.set_result(given)

        self.arrive(request, reply)
        try:
            return await answer
        finally:
            self.abandon(request.request_id, reply)

    def abandon(self, request_id: str, reply: Reply) -> None:
        """Forgets who waits for an answer; the last one to leave takes a held request along."""
        replies = self._waiting.get(request_id)
        if replies is None or reply not in replies:
            return
        replies.remove(reply)
        if not replies:
            del self._waiting[request_id]
            self.traces.left(request_id)
            self._do(self.engine.on_cancel(request_id, self.clock()))

    def cancel(self, request_id: str) -> None:
        """A request is withdrawn by its sender."""
        if request_id in self._predicting and request_id in self._waiting:
            self._answer(Rejected(request_id, "CANCELLED", "the request was withdrawn by its sender", ""))
        self._do(self.engine.on_cancel(request_id, self.clock()))

    def progress(self, lease_id: str, generated_tokens: int) -> None:
        """A running request moved on."""
        self._do(self.engine.on_progress(lease_id, generated_tokens, self.clock()))

    def finish(self, lease_id: str, outcome: Outcome, generated_tokens: int) -> None:
        """A running request ended."""
        self._do(self.engine.on_finish(lease_id, outcome, generated_tokens, self.clock()))

    def resume(self, gateway_id: str, open_leases: Sequence[OpenLease]) -> None:
        """A gateway tells what it has in flight."""
        self._do(self.engine.on_resume(gateway_id, open_leases, self.clock()))

    def backlog(self, gateway_id: str, jobs: Sequence[WaitingJob]) -> None:
        """A gateway tells what deferred work waits."""
        self._do(self.engine.on_backlog(gateway_id, jobs, self.clock()))

    # Fleet

    def fleet(self, instances: Sequence[Instance]) -> None:
        """The autoscaler tells the fleet."""
        self._do(self.engine.on_fleet(instances, self.clock()))

    def models(self, leads_us: Mapping[str, int]) -> None:
        """The autoscaler tells which models it starts when requests come."""
        self._do(self.engine.on_models(leads_us, self.clock()))

    def loads(self, loads: Sequence[InstanceLoad]) -> None:
        """Metrics tells what it saw."""
        self._do(self.engine.on_loads(loads, self.clock()))

    def drain(self, instance_id: str, grace_us: int) -> int:
        """Stops placing on an instance and gives the leases that it still has.

        Raises NotFound for an unknown instance, and Unavailable in the first `grace_us` after the start: gateways that
        resume have not told their leases yet, so that a count of zero would be a guess.
        """
        self._do(self.engine.on_drain(instance_id, self.clock()))
        left_us = self._started_us + grace_us - self.clock()
        if left_us > 0:
            raise Unavailable(
                "the scheduler has just started and waits for gateways to tell their leases; ask again",
                reason="RESUMING",
                retry_after_us=left_us,
            )
        return self.engine.lease_count(instance_id)

    async def watch(self, model: str, interval_us: int) -> AsyncIterator[list[ScheduledInstance]]:
        """The instances now and after every change, at most once an interval."""
        sent: list[ScheduledInstance] | None = None
        while True:
            revision = self.engine.revision
            instances = self.engine.instances(model)
            if instances != sent:
                sent = instances
                yield instances
            await asyncio.sleep(interval_us / US_PER_S)
            while self.engine.revision == revision:
                self._changed.clear()
                await self._changed.wait()

    # Time

    def wake(self) -> None:
        """The alarm went off."""
        self._do(self.engine.on_wake(self.clock()))

    def _predicted(self, request: InferenceRequest, prediction: LengthPrediction | None, gateway_id: str) -> None:
        self._predicting.discard(request.request_id)
        self._meter.predicted(prediction is not None)
        if request.request_id in self._waiting:
            self._decide(request, prediction, gateway_id)

    def _decide(self, request: InferenceRequest, prediction: LengthPrediction | None, gateway_id: str) -> None:
        self._do(self.engine.on_arrive(request, prediction, self.clock(), gateway_id))
        if self.traces.open and request.request_id in self._waiting:
            self.traces.held(request.request_id)

    def _do(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Placement() | Rejected() | Retry():
                    self._answer(action)
                case Observe():
                    self._lengths.observe(action)
                case WakeAt(at_us):
                    self._alarm.set(at_us)
                case Plan():
                    self._plan(action)
        if self.engine.revision != self._seen_revision:
            self._seen_revision = self.engine.revision
            self._changed.set()

    def _plan(self, asked: Plan) -> None:
        if self._solver is None:
            self._planned(asked.model, None)
        else:
            self._solver.solve(asked, lambda assignment: self._planned(asked.model, assignment))

    def _planned(self, model: str, assignment: Assignment | None) -> None:
        self._do(self.engine.on_planned(model, assignment, self.clock()))

    def _answer(self, answer: Answer) -> None:
        self._meter.answered(answer)
        if self.traces.open:
            self.traces.answered(answer)
        for reply in self._waiting.pop(answer.request_id, ()):
            reply(answer)
