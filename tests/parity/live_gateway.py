"""The live gateway, fed with a journal: its loop, the scheduler's stream and the converters of both sides are real."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from grpc_health.v1 import health_pb2
from lmaas.scheduler.v1 import scheduler_service_pb2 as pb
from prometheus_client import CollectorRegistry

from forebay.core.config import from_mapping
from forebay.core.errors import ForebayError
from forebay.core.metrics import Event
from forebay.core.scheduling import Answer, Placement, Rejected, Retry, ScheduledInstance
from forebay.core.values import InferenceRequest, Instance, InstanceState, Outcome, WakeAt
from forebay.gateway.config import Config
from forebay.gateway.engine import Engine
from forebay.gateway.loop import Loop
from forebay.gateway.meters import Meters
from forebay.gateway.values import Ask, Attempt, End, Fail, Renew, Report, Resume, ToScheduler, Withdraw
from forebay.simulator.shell.journal import Entry
from forebay.simulator.shell.observing import record_of
from forebay.simulator.shell.scheduling import GATEWAY_ID
from forebay.wire import convert, convert_scheduler
from forebay.wire.convert_metrics import event_from_proto
from tests.parity.journal_kit import Clock, Heard, Post, Replay, Wire, settle, told
from tests.parity.scenarios import Case

PART = "gateway"


def wanted(journal: Sequence[Entry], case: Case) -> Replay:
    """What the journal says that a gateway hears and does."""
    replay = Replay(told(journal, PART))
    for entry in journal:
        if entry.part == PART:
            for action in entry.answer:
                _note(replay, entry.now_us, action)
    return _sorted(replay)


def _note(replay: Replay, now_us: int, action: object) -> None:
    match action:
        case WakeAt(at_us):
            replay.note("wakes", now_us, at_us)
        case Attempt(request_id, placement):
            replay.note("answers", now_us, request_id, placement)
        case Fail(request_id, error):
            replay.note("answers", now_us, request_id, error)
        case Report(record):
            replay.note("reports", now_us, Event(record.request.request_id, record_of(record)))
        case _:
            replay.note("messages", now_us, action)


def _sorted(replay: Replay) -> Replay:
    """Requests that get their answers at one instant get them in no order."""
    replay.done.get("answers", []).sort(key=lambda one: one[:2])
    return replay


@dataclass
class Live:
    """One live gateway; fields are what a sabotage may replace."""

    case: Case
    clock: Clock
    post: Post = field(default_factory=Post)
    make: type[Loop] = Loop

    def __post_init__(self) -> None:
        config = from_mapping(Config, self.case.policy.gateway, "gateway")
        self.journal, self.replay = Heard(), Replay()
        engine = self.journal.watch(PART, Engine(config), lambda: self.clock.now_us)
        wire: Any = Wire(self.post, self, Check=_healthy)
        meters = Meters(CollectorRegistry())
        reporter: Any = self
        self.loop = self.make(engine, {"": wire}, reporter, meters, config, GATEWAY_ID, self.clock)
        self._responses: asyncio.Queue[pb.ScheduleResponse] = asyncio.Queue()
        self._waiting: dict[str, asyncio.Future[Placement]] = {}
        self._refusals: dict[str, Answer] = {}
        self._link: asyncio.Task[None] | None = None
        self._heard_count = self._message_count = 0

    async def run(self, journal: Sequence[Entry]) -> Replay:
        """Hears the journal."""
        message_count = 0
        for entry in journal:
            if entry.part == "scheduler":
                self._keep_refusals(entry)
            if entry.part != PART:
                continue
            # Tokens are heard of later than they came, with the time at which they came.
            self.clock.now_us = entry.arguments[-1]
            wake_at_us = self.loop.wake_at_us
            await getattr(self, f"_{entry.event}")(*entry.arguments)
            message_count += sum(isinstance(one, ToScheduler) for one in entry.answer)
            await self._settle(message_count)
            self._collect(entry.now_us, wake_at_us)
        self.replay.told = told(self.journal.entries, PART)
        # What follows from the end of the stream is no part of the run.
        found, self.replay = _sorted(self.replay), Replay()
        assert self._link is not None
        self._link.cancel()
        await asyncio.gather(self._link, return_exceptions=True)
        for future in self._waiting.values():
            future.cancel()
        return found

    async def _settle(self, message_count: int) -> None:
        self._heard_count += 1
        count = self._heard_count
        await settle(lambda: self.journal.event_count >= count and self._message_count >= message_count)

    def _collect(self, now_us: int, wake_at_us: int) -> None:
        if self.loop.wake_at_us != wake_at_us:
            self.replay.note("wakes", now_us, self.loop.wake_at_us)
        for request_id in [name for name, future in self._waiting.items() if future.done()]:
            future = self._waiting.pop(request_id)
            self.replay.note("answers", now_us, request_id, future.exception() or future.result())

    def _keep_refusals(self, entry: Entry) -> None:
        """The gateway hears an error; what came over the wire is the scheduler's answer."""
        for action in entry.answer if isinstance(entry.answer, tuple) else ():
            if isinstance(action, Rejected | Retry):
                self._refusals[action.request_id] = action

    # The scheduler's side of the stream

    def Schedule(self, request: Any, context: Any) -> "Live":
        """The stream is opened."""
        return self

    async def write(self, message: pb.ScheduleRequest) -> None:
        """The gateway says something; the scheduler's converters read it."""
        told = self.post.carry(message)
        for event in told.batch.events or (told,):
            self._message_count += 1
            self.replay.note("messages", self.clock.now_us, _read(event))

    def __aiter__(self) -> "Live":
        return self

    async def __anext__(self) -> pb.ScheduleResponse:
        return await self._responses.get()

    def cancel(self) -> None:
        """The stream is closed."""

    # Metrics

    def report(self, event: Any) -> None:
        """An event is reported."""
        self.replay.note("reports", self.clock.now_us, event_from_proto(self.post.carry(event)))

    # Events

    async def _on_link_up(self, replica: str, now_us: int) -> None:
        self._link = asyncio.create_task(self.loop.run_links())

    async def _on_arrive(self, request: InferenceRequest, now_us: int) -> None:
        self._waiting[request.request_id] = self.loop.arrive(request)

    async def _on_placed(self, replica: str, placement: Placement, now_us: int) -> None:
        self._responses.put_nowait(self.post.carry(convert_scheduler.answer_to_proto(placement)))

    async def _on_refused(self, replica: str, request_id: str, error: ForebayError, now_us: int) -> None:
        self._responses.put_nowait(self.post.carry(convert_scheduler.answer_to_proto(self._refusals[request_id])))

    async def _on_tokens(self, request_id: str, generated_tokens: int, prompt_tokens: int, now_us: int) -> None:
        self.loop.tokens(request_id, generated_tokens, prompt_tokens)

    async def _on_failed(self, request_id: str, error: ForebayError, now_us: int) -> None:
        self._waiting[request_id] = self.loop.failed(request_id, error)

    async def _on_finished(self, request_id: str, outcome: Outcome, now_us: int) -> None:
        self.loop.finished(request_id, outcome)

    async def _on_fleet(self, instances: Sequence[Instance], now_us: int) -> None:
        scheduled = [convert_scheduler.scheduled_instance_to_proto(_scheduled(one)) for one in instances]
        self.loop.take_fleet(self.post.carry(pb.WatchInstancesResponse(instances=scheduled)))

    async def _on_wake(self, now_us: int) -> None:
        self.loop.wake()


async def _healthy(request: Any, context: Any) -> health_pb2.HealthCheckResponse:
    return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)


def _scheduled(instance: Instance) -> ScheduledInstance:
    """As the scheduler tells it: an instance that it drains may still be ready for the autoscaler."""
    draining = instance.state is InstanceState.DRAINING
    shown = replace(instance, state=InstanceState.READY) if draining else instance
    return ScheduledInstance(shown, 0, 0, 0, draining)


def _read(message: pb.ScheduleRequest) -> ToScheduler:
    match message.WhichOneof("event"):
        case "arrive":
            return Ask(convert.request_from_proto(message.arrive))
        case "progress":
            return Renew(message.progress.lease_id, message.progress.generated_tokens)
        case "finish":
            end = message.finish
            outcome = convert.outcome_from_proto(end.outcome)
            return End(end.lease_id, outcome, end.generated_tokens, end.prompt_tokens)
        case "cancel":
            return Withdraw(message.cancel.request_id)
    leases = tuple(convert_scheduler.open_lease_from_proto(one) for one in message.resume.open_leases)
    assert message.resume.gateway_id == GATEWAY_ID
    return Resume(leases)
