"""The live autoscaler, fed with a journal: loop, prober, watchers, leases and servicer are real; servers are not."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import grpc
from lmaas.autoscaler.v1 import autoscaler_service_pb2 as pb
from lmaas.metrics.v1.metrics_service_pb2 import WatchSnapshotsResponse
from lmaas.predictor.v1.predictor_service_pb2 import ForecastWorkloadRequest, ForecastWorkloadResponse
from lmaas.scheduler.v1.scheduler_service_pb2 import (
    DrainInstanceRequest,
    DrainInstanceResponse,
    GetPressureRequest,
    GetPressureResponse,
)
from prometheus_client import CollectorRegistry
from tritonclient.grpc import service_pb2

from forebay.autoscaler.actions import Alarm, Changed, Decided, Retire, SettingsChanged, Start, Stop
from forebay.autoscaler.actuator import Advisory, Survey
from forebay.autoscaler.advisor import Advisor
from forebay.autoscaler.engine import Engine
from forebay.autoscaler.forecasts import Forecasts
from forebay.autoscaler.leadership import Alone
from forebay.autoscaler.leases import SchedulerWatch, ask_leases
from forebay.autoscaler.loop import Loop
from forebay.autoscaler.policy.autoscaler import AUTOSCALERS
from forebay.autoscaler.policy.autoscaler.base import Autoscaler, ForecastWindow
from forebay.autoscaler.probe import Prober
from forebay.autoscaler.prometheus import FleetStats
from forebay.autoscaler.servicer import AutoscalerServicer
from forebay.autoscaler.watchers import Forecaster, PressureWatch, take_snapshot
from forebay.autoscaler.writer import Writer
from forebay.core.config import from_mapping
from forebay.core.errors import FailedPrecondition, NotFound
from forebay.core.fleet import FleetSettings, Member, ScalingDecision
from forebay.core.metrics import InstanceChange, Snapshot
from forebay.core.prediction import Quantiles, WorkloadForecast
from forebay.core.pressure import Pressure
from forebay.core.values import Instance, InstanceLoad, ModelLoad, SloClass, WakeAt
from forebay.simulator.kernel import make_kernel
from forebay.simulator.profiles import profile_of
from forebay.simulator.shell.fleet_plan import FleetPlan, make_plan
from forebay.simulator.shell.journal import Entry
from forebay.simulator.shell.machines import Machines
from forebay.wire import convert, validate
from forebay.wire.convert_autoscaler import scaled_models_from_proto
from forebay.wire.convert_metrics import event_from_proto, snapshot_to_proto
from forebay.wire.convert_predictor import forecast_to_proto
from forebay.wire.convert_pressure import pressure_to_proto
from tests.parity.journal_kit import Clock, Heard, Post, Replay, S, Wire, failure, settle, told
from tests.parity.scenarios import Case, world_of

PART = "autoscaler"
CONSEQUENCES = ("on_actuated", "on_actuator_failed", "on_retired", "on_stopped")
"""What follows from actions: the live loop has to come up with these by itself."""


def wanted(journal: Sequence[Entry], case: Case) -> Replay:
    """What the journal says that an autoscaler hears and does."""
    replay = Replay(told(journal, PART))
    is_active = case.policy.autoscaler.get("mode", "active") == "active"
    for entry in journal:
        if entry.part == PART:
            for action in entry.answer:
                _note(replay, entry.now_us, action, is_active)
        elif (entry.part, entry.event) == ("scheduler", "on_fleet"):
            replay.note("fleets", entry.now_us, entry.arguments[0])
        elif (entry.part, entry.event) == ("scheduler", "on_models"):
            replay.note("models", entry.now_us, dict(entry.arguments[0]))
    return _settled(replay)


def _settled(replay: Replay) -> Replay:
    """Of the fleets of one instant the last: how many there are on the way depends on how long things take."""
    for kind in ("fleets", "models"):
        last = dict(replay.done.get(kind, []))
        before: Any = None
        replay.done[kind] = [(at, before := fleet) for at, fleet in last.items() if fleet != before]
    return replay


def _note(replay: Replay, now_us: int, action: object, is_active: bool) -> None:
    match action:
        case WakeAt():
            replay.note("wakes", now_us, action)
        case Changed(member):
            replay.note("kept members", now_us, member)
            replay.note("reports", now_us, InstanceChange(member.instance))
        case Decided(decision):
            replay.note("kept decisions", now_us, decision)
        case Alarm():
            replay.note("alarms", now_us)
        case _ if is_active:
            _note_actuation(replay, now_us, action)


def _note_actuation(replay: Replay, now_us: int, action: object) -> None:
    match action:
        case Start(instance):
            replay.note("starts", now_us, instance)
        case Retire(instance_id) | Stop(instance_id):
            replay.note(type(action).__name__, now_us, instance_id)
        case _:
            assert isinstance(action, SettingsChanged)


def plan_of(case: Case) -> FleetPlan:
    """The configuration and the first fleet of the run."""
    machines = Machines(make_kernel(1, "reference"), world_of(case).engine, profile_of)
    return make_plan(world_of(case), case.policy.autoscaler, machines)


def policy_of(plan: FleetPlan) -> Autoscaler:
    """The policy of the run."""
    return from_mapping(AUTOSCALERS[plan.config.policy], plan.config.parameters, "parameters")


@dataclass
class Live:
    """One live autoscaler; fields are what a sabotage may replace."""

    case: Case
    clock: Clock
    post: Post = field(default_factory=Post)
    policy: Autoscaler | None = None

    def __post_init__(self) -> None:
        plan = plan_of(self.case)
        policy = self.policy or policy_of(plan)
        self.journal, self.replay = Heard(), Replay()
        engine = Engine(plan.config, policy, plan.state, 0)
        watched = self.journal.watch(PART, engine, lambda: self.clock.now_us)
        reporter: Any = self
        actuators: Any = {"active": self, "advisory": Advisory(self)}
        writer = _Writer(self)
        self.loop = Loop(watched, actuators, writer, reporter, _Stats(self), lambda: True, self.clock, self, Alone())
        dial: Any = lambda address: Wire(self.post, ModelReady=self._ready)  # noqa: E731
        self.prober = Prober(self.loop, plan.config, dial)
        self.servicer = AutoscalerServicer(
            self.loop, Advisor(lambda needs: Forecaster(to, (), needs), lambda: self._pressed)
        )
        to: Any = Wire(
            self.post, ForecastWorkload=self._forecast, DrainInstance=self._drain, GetPressure=self._pressure
        )
        self._schedulers = SchedulerWatch({"": to}, self.clock)
        self._pressed = PressureWatch({"": to}, round(plan.config.snapshot_age_s_max * S))
        models = [model.name for model in plan.config.models]
        self._forecaster = Forecaster(to, models, policy.needs, watched.demands, self.clock)
        self._rest: list[Entry] = []
        self._place = 0
        self._heard_count = 0

    async def run(self, journal: Sequence[Entry]) -> Replay:
        """Hears the journal."""
        self._rest = [entry for entry in journal if entry.part == PART]
        watcher = asyncio.create_task(self._watch())
        await asyncio.sleep(0)
        for place, entry in enumerate(self._rest):
            self._place = place
            if place < self.journal.event_count or entry.event in CONSEQUENCES:
                # It has come by itself; where it has not, the comparison tells.
                continue
            self.clock.now_us = entry.now_us
            # A fleet that has gone another way may not know the instance; the comparison tells.
            with suppress(NotFound, FailedPrecondition):
                await getattr(self, f"_{entry.event}")(*entry.arguments)
            await self._settle()
        watcher.cancel()
        await asyncio.gather(watcher, return_exceptions=True)
        self.replay.told = told(self.journal.entries, PART)
        return _settled(self.replay)

    async def _settle(self) -> None:
        """Waits for all that has to follow before the next event comes from outside, and for the word to spread."""
        count = self._place + 1
        while count < len(self._rest) and self._rest[count].event in CONSEQUENCES:
            count += 1
        await settle(lambda: self.journal.event_count >= count)
        for _ in range(8):
            await asyncio.sleep(0)

    def _next(self, events: Collection[str], instance_id: str) -> Entry:
        """What the journal says of an instance next."""
        for entry in self._rest[self._place :]:
            if entry.event in events and entry.arguments[0] == instance_id:
                return entry
        raise FailedPrecondition(f"the journal says no more of {instance_id}")

    # The actuator: it answers as the journal says

    async def start(self, instance: Instance) -> Instance | None:
        """A server is to start."""
        self.replay.note("starts", self.clock.now_us, instance)
        entry = self._next(("on_actuated", "on_actuator_failed"), instance.instance_id)
        if entry.event == "on_actuator_failed":
            raise FailedPrecondition(entry.arguments[1])
        placed: Instance = entry.arguments[1]
        return placed

    async def retire(self, instance: Instance) -> bool:
        """An instance is to go."""
        self.replay.note("Retire", self.clock.now_us, instance.instance_id)
        return bool(self._next(("on_retired",), instance.instance_id).arguments[1])

    async def stop(self, instance: Instance) -> bool:
        """A server is to end."""
        self.replay.note("Stop", self.clock.now_us, instance.instance_id)
        return bool(self._next(("on_stopped",), instance.instance_id).arguments[1])

    async def survey(self, expected: Collection[Instance]) -> Survey:
        """Somebody looks around."""
        return Survey(gone=self._rest[self._place].arguments[0])

    async def close(self) -> None:
        """Nothing is held."""

    # The waker and the reporter

    def set(self, at_us: int) -> None:
        """The timer is set."""
        self.replay.note("wakes", self.clock.now_us, WakeAt(at_us))

    def cancel(self) -> None:
        """The timer is stopped."""

    def report(self, event: Any) -> None:
        """An event is reported."""
        self.replay.note("reports", self.clock.now_us, event_from_proto(self.post.carry(event)).kind)

    # Who is asked

    async def _ready(self, request: service_pb2.ModelReadyRequest, context: Any) -> service_pb2.ModelReadyResponse:
        _, live, ready, _ = self._rest[self._place].arguments
        if not live:
            raise failure(grpc.StatusCode.UNAVAILABLE)
        return service_pb2.ModelReadyResponse(ready=ready)

    async def _drain(self, request: DrainInstanceRequest, context: Any) -> DrainInstanceResponse:
        count = self._next(("on_lease_count",), request.instance_id).arguments[1]
        if count is None:
            raise failure(grpc.StatusCode.NOT_FOUND)
        return DrainInstanceResponse(lease_count=count)

    async def _pressure(self, request: GetPressureRequest, context: Any) -> GetPressureResponse:
        return GetPressureResponse(pressure=pressure_to_proto(self._rest[self._place].arguments[0]))

    async def _forecast(self, request: ForecastWorkloadRequest, context: Any) -> ForecastWorkloadResponse:
        said: Forecasts = self._rest[self._place].arguments[0]
        windows = said.models[request.model]
        if request.region:
            windows = said.demands[request.model, request.region, SloClass(request.slo_class)]
        return ForecastWorkloadResponse(forecasts=[forecast_to_proto(_forecast_of(window)) for window in windows])

    # Events

    async def _on_tick(self, forecasts: Forecasts, now_us: int) -> None:
        await self.loop.think(self._forecaster)

    async def _on_snapshot(self, models: Sequence[ModelLoad], loads: Sequence[InstanceLoad], now_us: int) -> None:
        snapshot = snapshot_to_proto(Snapshot(now_us, tuple(loads), tuple(models)))
        take_snapshot(self.loop, self.post.carry(WatchSnapshotsResponse(snapshot=snapshot)))

    async def _on_pressure(self, pressure: Pressure, now_us: int) -> None:
        await self._pressed.ask(self.loop)

    async def _on_probe(self, instance_id: str, live: bool, ready: bool, now_us: int) -> None:
        await self.prober.probe(self.loop.engine.instance(instance_id))

    async def _on_survey(self, gone: Mapping[str, str], now_us: int) -> None:
        await self.loop.look_around()

    async def _on_lease_count(self, instance_id: str, count: int | None, now_us: int) -> None:
        await ask_leases(self.loop, self._schedulers)

    async def _on_deregister(self, instance_id: str, now_us: int) -> None:
        request = pb.DeregisterInstanceRequest(instance_id=instance_id, request_id=f"leave-{instance_id}")
        validate.check(request)
        await self.servicer.DeregisterInstance(request, None)

    async def _on_wake(self, now_us: int) -> None:
        self.loop.wake()

    async def _watch(self) -> None:
        """Who follows the fleet, such as the scheduler."""
        request = pb.WatchFleetRequest()
        request.interval_max.FromSeconds(3_600)
        async for response in self.servicer.WatchFleet(request, None):
            message = self.post.carry(response)
            fleet = [convert.instance_from_proto(one) for one in message.instances]
            self.replay.note("fleets", self.clock.now_us, fleet)
            self.replay.note("models", self.clock.now_us, scaled_models_from_proto(message.models))


def _forecast_of(window: ForecastWindow) -> WorkloadForecast:
    columns = (window.requests, window.prompt_tokens, window.response_tokens)
    return WorkloadForecast(window.start_us, *(Quantiles(*column) for column in columns))


class _Writer(Writer):
    """Notes what is kept."""

    def __init__(self, live: Live) -> None:
        store: Any = None
        super().__init__(store, 1, Alone())
        self._live = live

    def keep(self, settings: FleetSettings, members: list[Member], decisions: list[ScalingDecision]) -> None:
        """A change is kept."""
        for member in members:
            self._live.replay.note("kept members", self._live.clock.now_us, member)
        for decision in decisions:
            self._live.replay.note("kept decisions", self._live.clock.now_us, decision)


class _Stats(FleetStats):
    """Notes alarms."""

    def __init__(self, live: Live) -> None:
        super().__init__(CollectorRegistry())
        self._live = live

    def alarm(self) -> None:
        """The operator is told."""
        self._live.replay.note("alarms", self._live.clock.now_us)
