"""The live scheduler, fed with a journal: servicer, stream, shell, queue sampler and converters are the real ones."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lmaas.autoscaler.v1.autoscaler_service_pb2 import WatchFleetResponse
from lmaas.metrics.v1.metrics_service_pb2 import WatchSnapshotsResponse
from lmaas.metrics.v1.snapshot_pb2 import Snapshot
from lmaas.scheduler.v1 import scheduler_service_pb2 as pb
from prometheus_client import CollectorRegistry

from forebay.core.config import from_mapping
from forebay.core.metrics import Event, QueueSample
from forebay.core.scheduling import OpenLease, Placement, QueueStatus, Rejected, Retry
from forebay.core.values import InferenceRequest, Instance, InstanceLoad, LengthPrediction, Outcome, WakeAt
from forebay.gateway import messages
from forebay.gateway.values import Ask, End, Renew, Resume, ToScheduler, Withdraw
from forebay.scheduler.actions import Observe, Plan
from forebay.scheduler.config import Config
from forebay.scheduler.engine import Engine
from forebay.scheduler.loop import QueueSampler, take_fleet, take_loads, take_models
from forebay.scheduler.meters import Meters
from forebay.scheduler.policy import Policies, build
from forebay.scheduler.policy.planner.base import Assignment
from forebay.scheduler.servicer import SchedulerServicer
from forebay.scheduler.shell import Shell
from forebay.simulator.shell.journal import QUESTIONS, Entry
from forebay.simulator.shell.scheduling import GATEWAY_ID, SCHEDULER_ID
from forebay.wire import convert, convert_autoscaler, convert_pressure, convert_scheduler, validate
from forebay.wire.convert_metrics import event_from_proto
from tests.parity.journal_kit import Clock, Heard, Post, Replay, settle, told
from tests.parity.scenarios import Case

PART = "scheduler"


def wanted(journal: Sequence[Entry], case: Case) -> Replay:
    """What the journal says that a scheduler hears and does."""
    replay = Replay(told(journal, PART))
    samples = 0
    for entry in journal:
        if entry.part != PART:
            continue
        if entry.event == "lease_count":
            replay.note("lease counts", entry.now_us, entry.answer)
        elif entry.event == "pressure":
            replay.note("pressures", entry.now_us, entry.answer)
        elif entry.event == "queues":
            for queue in entry.answer:
                samples += 1
                replay.note("samples", entry.now_us, _sample(samples, queue, entry.now_us))
        else:
            for action in entry.answer:
                replay.note(_port(action), entry.now_us, action)
    return replay


def _port(action: object) -> str:
    match action:
        case WakeAt():
            return "wakes"
        case Observe():
            return "outcomes"
        case Plan():
            return "plans"
    assert isinstance(action, Placement | Rejected | Retry)
    return "answers"


def _sample(number: int, queue: QueueStatus, now_us: int) -> Event:
    kind = QueueSample(queue.model, now_us, queue.held_count, queue.lease_count, SCHEDULER_ID)
    return Event(f"{SCHEDULER_ID}-q{number}", kind)


@dataclass
class Live:
    """One live scheduler; fields are what a sabotage may replace."""

    case: Case
    clock: Clock
    post: Post = field(default_factory=Post)
    policies: Policies | None = None

    def __post_init__(self) -> None:
        config = from_mapping(Config, {**self.case.policy.scheduler, "resume_grace_s": 0.0}, "scheduler")
        engine = Engine(config, self.policies or build(config), SCHEDULER_ID)
        self.journal, self.replay = Heard(), Replay()
        watched = self.journal.watch(PART, engine, lambda: self.clock.now_us)
        meters = Meters(CollectorRegistry())
        self.shell = Shell(watched, self.clock, self, self, meters, self)
        self.sampler = QueueSampler(self.shell, _Reporter(self), meters, SCHEDULER_ID)  # type: ignore[arg-type]
        self.servicer = SchedulerServicer(self.shell, config)
        self._guess: LengthPrediction | None = None
        self._plans: dict[str, Callable[[Assignment | None], None]] = {}
        self._inbox: asyncio.Queue[pb.ScheduleRequest] = asyncio.Queue()
        self._answer_count = self._heard_count = 0

    async def run(self, journal: Sequence[Entry]) -> Replay:
        """Hears the journal."""
        reader = asyncio.create_task(self._read())
        answer_count = 0
        for entry in journal:
            if entry.part != PART or entry.event == "lease_count":
                continue
            self.clock.now_us = entry.now_us
            await getattr(self, f"_{entry.event}")(*entry.arguments)
            if entry.event not in QUESTIONS:
                answer_count += sum(isinstance(one, Placement | Rejected | Retry) for one in entry.answer)
                await self._settle(answer_count)
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
        self.replay.told = told(self.journal.entries, PART)
        return self.replay

    async def _settle(self, answer_count: int) -> None:
        """Waits until the event has gone all the way; one that goes astray is missed in the comparison."""
        self._heard_count += 1
        await settle(lambda: self.journal.event_count >= self._heard_count and self._answer_count >= answer_count)

    # The shell's ports

    def ask(self, request: InferenceRequest, reply: Callable[[LengthPrediction | None], None]) -> None:
        """The predictor answers what it answered in the journal."""
        if self._guess is None:
            reply(None)
            return
        message = self.post.carry(convert.prediction_to_proto(request.request_id, self._guess))
        reply(convert.prediction_from_proto(message, self._guess.predicted_by))

    def observe(self, outcome: Observe) -> None:
        """An outcome goes to the predictor."""
        self.replay.note("outcomes", self.clock.now_us, outcome)

    def solve(self, asked: Plan, reply: Callable[[Assignment | None], None]) -> None:
        """The planner is asked; it answers when it did so in the journal."""
        self.replay.note("plans", self.clock.now_us, asked)
        self._plans[asked.model] = reply

    def set(self, at_us: int) -> None:
        """The timer is set."""
        self.replay.note("wakes", self.clock.now_us, WakeAt(at_us))

    # Events as messages

    async def _on_arrive(
        self, request: InferenceRequest, guess: LengthPrediction | None, now_us: int, gateway_id: str
    ) -> None:
        self._guess = guess
        self._send(Ask(request))

    async def _on_progress(self, lease_id: str, tokens: int, now_us: int) -> None:
        self._send(Renew(lease_id, tokens))

    async def _on_finish(self, lease_id: str, outcome: Outcome, tokens: int, now_us: int) -> None:
        self._send(End(lease_id, outcome, tokens, 0))

    async def _on_cancel(self, request_id: str, now_us: int) -> None:
        self._send(Withdraw(request_id))

    async def _on_resume(self, gateway_id: str, leases: Sequence[OpenLease], now_us: int) -> None:
        self._send(Resume(tuple(leases)))

    async def _on_fleet(self, instances: Sequence[Instance], now_us: int) -> None:
        # Each message tells the models too; those that changed have been told just before.
        models = convert_autoscaler.scaled_models_to_proto(self.shell.engine.leads_us)
        fleet = map(convert.instance_to_proto, instances)
        take_fleet(self.shell, self.post.carry(WatchFleetResponse(instances=fleet, models=models)))

    async def _on_models(self, leads_us: Mapping[str, int], now_us: int) -> None:
        message = WatchFleetResponse(models=convert_autoscaler.scaled_models_to_proto(leads_us))
        take_models(self.shell, self.post.carry(message))

    async def _on_loads(self, loads: Sequence[InstanceLoad], now_us: int) -> None:
        snapshot = Snapshot(instances=map(convert.instance_load_to_proto, loads))
        take_loads(self.shell, self.post.carry(WatchSnapshotsResponse(snapshot=snapshot)))

    async def _on_drain(self, instance_id: str, now_us: int) -> None:
        request = pb.DrainInstanceRequest(instance_id=instance_id, request_id="d")
        validate.check(request)
        answer = await self.servicer.DrainInstance(request, None)
        self.replay.note("lease counts", self.clock.now_us, answer.lease_count)

    async def _on_planned(self, model: str, assignment: Assignment | None, now_us: int) -> None:
        self._plans.pop(model)(assignment)

    async def _on_wake(self, now_us: int) -> None:
        self.shell.wake()

    async def _pressure(self, now_us: int) -> None:
        answer = self.post.carry(await self.servicer.GetPressure(pb.GetPressureRequest(), None))
        self.replay.note("pressures", self.clock.now_us, convert_pressure.pressure_from_proto(answer.pressure))

    async def _queues(self, now_us: int) -> None:
        self.sampler.sample()

    def _send(self, action: ToScheduler) -> None:
        self._inbox.put_nowait(self.post.carry(messages.to_schedule(action, GATEWAY_ID)))

    async def _read(self) -> None:
        async for response in self.servicer.Schedule(self._requests(), _Context()):
            answer = convert_scheduler.answer_from_proto(self.post.carry(response))
            self._answer_count += 1
            self.replay.note("answers", self.clock.now_us, answer)

    async def _requests(self) -> AsyncIterator[pb.ScheduleRequest]:
        while True:
            yield await self._inbox.get()


class _Context:
    """Stands for the call."""

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """It never ends."""


class _Reporter:
    """Takes what goes to metrics."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def report(self, event: Any) -> None:
        """An event is reported."""
        carried = self._live.post.carry(event)
        self._live.replay.note("samples", self._live.clock.now_us, event_from_proto(carried))
