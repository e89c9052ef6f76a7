"""One journal, two worlds: the bare engine and the real servicer must do the same at the same times.

Every action is compared, WakeAt with its time included. The last tests sabotage the live side and demand that the
comparison notices.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from lmaas.autoscaler.v1.autoscaler_service_pb2 import WatchFleetResponse
from lmaas.metrics.v1.metrics_service_pb2 import WatchSnapshotsResponse
from lmaas.metrics.v1.snapshot_pb2 import Snapshot
from lmaas.scheduler.v1 import request_pb2
from lmaas.scheduler.v1 import scheduler_service_pb2 as pb

from forebay.core.scheduling import Answer, OpenLease, Placement
from forebay.core.values import (
    Batching,
    InferenceRequest,
    InstanceLoad,
    InstanceState,
    LengthPrediction,
    Outcome,
    SloClass,
    WakeAt,
)
from forebay.scheduler.actions import Action, Observe, Plan
from forebay.scheduler.config import Config
from forebay.scheduler.engine import Engine
from forebay.scheduler.loop import take_fleet, take_loads
from forebay.scheduler.policy import KINDS, build
from forebay.scheduler.policy.planner.base import Assignment
from forebay.scheduler.servicer import SchedulerServicer
from forebay.scheduler.shell import Shell
from forebay.wire import convert, convert_scheduler
from tests.unit.scheduler.kit import S, instance, prediction

GATEWAYS = ("g", "h")
CASES = [(kind, name) for kind, policies in KINDS.items() for name in policies]
TENANTS = {"acme": {"weight": 2.0, "tokens_per_minute": 900}}
PARAMETERS = {"token_budget": {"tokens_max": 900}}


@dataclass(frozen=True)
class Entry:
    """One event of the journal with the actions that followed in the bare engine."""

    name: str
    values: tuple[Any, ...]
    now_us: int
    actions: list[Action]


class Author:
    """Writes a journal: lets chance drive a bare engine."""

    def __init__(self, config: Config, seed: int) -> None:
        self.journal: list[Entry] = []
        self._engine = Engine(config, build(config), "s")
        self._batching = Batching.STATIC if config.grouper else Batching.CONTINUOUS
        self._chance = random.Random(seed)
        self._now_us = 1_795_000_000 * S
        self._wake_us: int | None = None
        self._leases: dict[str, Placement] = {}
        self._planner = build(config).planner
        self._asked: list[Plan] = []
        self._count = 0

    def write(self, length: int) -> list[Entry]:
        for gateway_id in GATEWAYS:
            self._do("resume", gateway_id, [])
        self._do("arrive", self._request(), prediction(50), "g")
        self._do("fleet", self._fleet())
        while len(self.journal) < length:
            self._now_us += self._chance.choice([0, 1_000, 200_000, 3 * S])
            if self._asked and self._chance.random() < 0.5:
                asked = self._asked.pop(0)
                self._do("planned", asked.model, self._planner.plan(asked.view))
            elif self._wake_us is not None and self._now_us >= self._wake_us:
                self._now_us, self._wake_us = self._wake_us, None
                self._do("wake")
            else:
                event = self._chance.choices(
                    [self.arrive, self.move, self.finish, self.cancel, self.fleet, self.loads, self.drain, self.resume],
                    [40, 15, 20, 5, 4, 4, 2, 2],
                )[0]
                event()
        return self.journal

    def arrive(self) -> None:
        guess = prediction(self._chance.randint(1, 300)) if self._chance.random() < 0.8 else None
        self._do("arrive", self._request(), guess, self._chance.choice(GATEWAYS))

    def move(self) -> None:
        self._do("progress", self._lease_id(), self._chance.randint(0, 400))

    def finish(self) -> None:
        outcome = self._chance.choice([Outcome.STOPPED, Outcome.STOPPED, *Outcome])
        self._do("finish", self._lease_id(), outcome, self._chance.randint(0, 400))

    def cancel(self) -> None:
        self._do("cancel", f"r{self._chance.randint(max(0, self._count - 10), self._count)}")

    def fleet(self) -> None:
        self._do("fleet", self._fleet())

    def loads(self) -> None:
        seen = [
            InstanceLoad(f"{name}/m", "m", self._chance.random() < 0.8, self._now_us, 3, None, 0.25, 7, 1)
            for name in "abcd"
        ]
        self._do("loads", seen)

    def drain(self) -> None:
        ids = [one.instance.instance_id for one in self._engine.instances()]
        if ids:
            self._do("drain", self._chance.choice(ids))

    def resume(self) -> None:
        known = [one for one in self._engine.leases() if self._chance.random() < 0.8]
        leases = [
            OpenLease(
                InferenceRequest(one.request_id, one.model, 9),
                one.lease_id,
                one.instance_id,
                one.generated_tokens + 3,
                one.predicted,
            )
            for one in known
        ]
        self._count += 1
        own = InferenceRequest(f"r{self._count}", "m", 12, tokens_max=70, application="chat")
        self._do("resume", self._chance.choice(GATEWAYS), [*leases, OpenLease(own, f"own-{self._count}", "b/m", 6)])

    def _request(self) -> InferenceRequest:
        self._count += 1
        return InferenceRequest(
            request_id=f"r{self._count if self._chance.random() < 0.9 else self._chance.randint(0, self._count)}",
            model=self._chance.choice(["m"] * 9 + ["n"]),
            prompt_tokens=self._chance.randint(1, 250),
            slo_class=self._chance.choice(list(SloClass)),
            tokens_max=self._chance.choice([0, 0, 40, 120]),
            tenant=self._chance.choice(["default", "acme"]),
            application=self._chance.choice(["", "chat"]),
            prompt_head="Say hello",
            temperature=self._chance.choice([0.0, 0.7]),
            excluded_instance_ids=frozenset(self._chance.sample(["a/m", "b/m", "c/m"], self._chance.choice([0, 0, 1]))),
            hold_timeout_us=self._chance.choice([0, 0, 2 * S]),
            turn_number=self._chance.choice([0, 1, 3]),
            system_digest=self._chance.choice(["", "0123456789abcdef"]),
            session=self._chance.choice(["", "s1", "s2"]),
            deadline_us=self._chance.choice([0, 5 * S]),
            prefix_hashes=self._chance.choice([(), (7,), (7, 9)]),
        )

    def _fleet(self) -> list[Any]:
        states = [InstanceState.READY] * 6 + [InstanceState.LOADING, InstanceState.DRAINING, InstanceState.LOST]
        return [
            replace(
                instance(name, state=self._chance.choice(states)),
                concurrency_max=self._chance.randint(1, 3),
                context_tokens_max=self._chance.choice([0, 300]),
                state_us=self._now_us,
                batching=self._batching,
            )
            for name in self._chance.sample("abcd", self._chance.randint(2, 4))
        ]

    def _lease_id(self) -> str:
        leases = self._engine.leases()
        return self._chance.choice(leases).lease_id if leases else "none"

    def _do(self, name: str, *values: Any) -> None:
        actions = getattr(self._engine, f"on_{name}")(*_arguments(name, values, self._now_us))
        self._wake_us = next((action.at_us for action in actions if isinstance(action, WakeAt)), self._wake_us)
        self._asked += [action for action in actions if isinstance(action, Plan)]
        self.journal.append(Entry(name, values, self._now_us, actions))


def _arguments(name: str, values: tuple[Any, ...], now_us: int) -> tuple[Any, ...]:
    if name == "arrive":
        request, guess, gateway_id = values
        return request, guess, now_us, gateway_id
    return *values, now_us


@dataclass
class Seen:
    """What the live side did for one event, by where it comes out."""

    answers: list[Answer] = field(default_factory=list)
    wakes: list[int] = field(default_factory=list)
    outcomes: list[Observe] = field(default_factory=list)
    plans: list[Plan] = field(default_factory=list)

    def set(self, at_us: int) -> None:
        self.wakes.append(at_us)


def expected(actions: list[Action]) -> Seen:
    return Seen(
        [one for one in actions if not isinstance(one, WakeAt | Observe | Plan)],
        [one.at_us for one in actions if isinstance(one, WakeAt)],
        [one for one in actions if isinstance(one, Observe)],
        [one for one in actions if isinstance(one, Plan)],
    )


class Live:
    """The real servicer, shell and converters, fed with the journal as messages."""

    def __init__(self, config: Config, clock_shift_us: int = 0) -> None:
        self.seen = Seen()
        self._now_us = 0
        self._guess: LengthPrediction | None = None
        self._plans: dict[str, Callable[[Assignment | None], None]] = {}
        engine = Engine(config, build(config), "s")
        self._shell = Shell(engine, lambda: self._now_us + clock_shift_us, self, self, self, self)
        self._servicer = SchedulerServicer(self._shell, replace(config, resume_grace_s=0.0))
        self._context = _Context()
        self._inboxes: dict[str, asyncio.Queue[pb.ScheduleRequest]] = {}
        self._readers: list[asyncio.Task[None]] = []

    async def replay(self, journal: list[Entry]) -> list[Seen]:
        """What the live side did for each entry."""
        found = []
        for entry in journal:
            self.seen, self._now_us = Seen(), entry.now_us
            await getattr(self, f"_{entry.name}")(*entry.values)
            for _ in range(12):
                await asyncio.sleep(0)
            found.append(self.seen)
        self._context.end()
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)
        return found

    # The shell's ports

    def ask(self, request: InferenceRequest, reply: Callable[[LengthPrediction | None], None]) -> None:
        if self._guess is None:
            reply(None)
            return
        message = convert.prediction_to_proto(request.request_id, self._guess)
        reply(convert.prediction_from_proto(message, self._guess.predicted_by))

    def observe(self, outcome: Observe) -> None:
        self.seen.outcomes.append(outcome)

    def solve(self, asked: Plan, reply: Callable[[Assignment | None], None]) -> None:
        self.seen.plans.append(asked)
        self._plans[asked.model] = reply

    def set(self, at_us: int) -> None:
        self.seen.set(at_us)

    def answered(self, answer: Answer) -> None:
        pass

    def predicted(self, in_time: bool) -> None:
        pass

    # Events as messages

    def request_message(self, request: InferenceRequest) -> request_pb2.InferenceRequest:
        return convert.request_to_proto(request)

    async def _arrive(self, request: InferenceRequest, guess: LengthPrediction | None, gateway_id: str) -> None:
        self._guess = guess
        await self._send(gateway_id, arrive=self.request_message(request))

    async def _progress(self, lease_id: str, tokens: int) -> None:
        await self._send("g", progress=request_pb2.Progress(lease_id=lease_id, generated_tokens=tokens))

    async def _finish(self, lease_id: str, outcome: Outcome, tokens: int) -> None:
        message = request_pb2.Finish(lease_id=lease_id, outcome=f"OUTCOME_{outcome.name}", generated_tokens=tokens)
        await self._send("h", finish=message)

    async def _cancel(self, request_id: str) -> None:
        await self._send("g", cancel=request_pb2.Cancel(request_id=request_id))

    async def _resume(self, gateway_id: str, leases: list[OpenLease]) -> None:
        opened = [convert_scheduler.open_lease_to_proto(one) for one in leases]
        await self._send(gateway_id, resume=pb.Resume(gateway_id=gateway_id, open_leases=opened))

    async def _fleet(self, instances: list[Any]) -> None:
        take_fleet(self._shell, WatchFleetResponse(instances=[convert.instance_to_proto(one) for one in instances]))

    async def _loads(self, loads: list[InstanceLoad]) -> None:
        snapshot = Snapshot(instances=[convert.instance_load_to_proto(one) for one in loads])
        take_loads(self._shell, WatchSnapshotsResponse(snapshot=snapshot))

    async def _drain(self, instance_id: str) -> None:
        await self._servicer.DrainInstance(pb.DrainInstanceRequest(instance_id=instance_id, request_id="d"), None)

    async def _planned(self, model: str, assignment: Assignment | None) -> None:
        self._plans.pop(model)(assignment)

    async def _wake(self) -> None:
        self._shell.wake()

    async def _send(self, gateway_id: str, **event: Any) -> None:
        if gateway_id not in self._inboxes:
            self._inboxes[gateway_id] = asyncio.Queue()
            self._readers.append(asyncio.create_task(self._read(gateway_id)))
        await self._inboxes[gateway_id].put(pb.ScheduleRequest(**event))

    async def _read(self, gateway_id: str) -> None:
        async for response in self._servicer.Schedule(self._requests(gateway_id), self._context):
            self.seen.answers.append(convert_scheduler.answer_from_proto(response))

    async def _requests(self, gateway_id: str) -> AsyncIterator[pb.ScheduleRequest]:
        while True:
            yield await self._inboxes[gateway_id].get()


class _Context:
    """Stands for the calls: tells their end."""

    def __init__(self) -> None:
        self._callbacks: list[Callable[[Any], None]] = []

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self._callbacks.append(callback)

    def end(self) -> None:
        for callback in self._callbacks:
            callback(self)


class DropsField(Live):
    """Forgets one field on the way in."""

    def __init__(self, config: Config, name: str) -> None:
        super().__init__(config)
        self._name = name

    def request_message(self, request: InferenceRequest) -> request_pb2.InferenceRequest:
        message = super().request_message(request)
        message.ClearField(self._name)  # type: ignore[arg-type]
        if self._name == "slo_class":
            message.slo_class = 2
        return message


def settings(kind: str = "router", name: str = "least_predicted_tokens") -> Config:
    parameters = PARAMETERS.get(name, {})
    return Config(**{kind: name, f"{kind}_parameters": parameters, "held_count_max": 6, "tenants": TENANTS})


def by_request(seen: Seen) -> Seen:
    """Answers on different streams come in no order between them, and one that was asked for twice comes twice."""
    distinct = {one.request_id: one for one in seen.answers}
    assert all(distinct[one.request_id] == one for one in seen.answers)
    return replace(seen, answers=[distinct[name] for name in sorted(distinct)])


def same(journal: list[Entry], found: list[Seen]) -> bool:
    pairs = zip(journal, found, strict=True)
    return all(by_request(expected(entry.actions)) == by_request(seen) for entry, seen in pairs)


@pytest.mark.parametrize(("kind", "name"), CASES)
async def test_the_servicer_does_what_the_bare_engine_does(kind: str, name: str) -> None:
    config = settings(kind, name)
    journal = Author(config, seed=hash_of(kind, name)).write(600)
    found = await Live(config).replay(journal)
    for entry, seen in zip(journal, found, strict=True):
        assert by_request(expected(entry.actions)) == by_request(seen), entry
    arrivals = sum(entry.name == "arrive" for entry in journal)
    assert arrivals - 25 < sum(len(seen.answers) for seen in found) <= arrivals


def hash_of(*words: str) -> int:
    return sum(ord(letter) * 31**place for place, letter in enumerate("".join(words))) % 2**32


def test_the_journal_holds_every_event_and_every_action() -> None:
    journal = Author(settings(), seed=1).write(600)
    assert {entry.name for entry in journal} == {
        *("arrive", "progress", "finish", "cancel", "fleet", "loads", "drain", "resume", "wake")
    }
    kinds = {type(action).__name__ for entry in journal for action in entry.actions}
    assert kinds == {"Placement", "Rejected", "Retry", "WakeAt", "Observe"}


async def test_a_clock_that_is_shifted_is_noticed() -> None:
    journal = Author(settings(), seed=1).write(300)
    assert same(journal, await Live(settings()).replay(journal))
    assert not same(journal, await Live(settings(), clock_shift_us=20 * S).replay(journal))


async def test_a_clock_that_is_shifted_would_not_be_noticed_by_the_answers_alone() -> None:
    journal = Author(settings(), seed=1).write(300)
    found = await Live(settings(), clock_shift_us=20 * S).replay(journal)
    answers = [replace(by_request(seen), wakes=[], outcomes=[]) for seen in found]
    wanted = [replace(by_request(expected(entry.actions)), wakes=[], outcomes=[]) for entry in journal]
    assert answers == wanted


@pytest.mark.parametrize(
    "name",
    [
        "tokens_max",
        "excluded_instance_ids",
        "hold_timeout",
        "slo_class",
        "tenant",
        "temperature",
        "prompt_head",
        "turn_number",
        "system_digest",
        "session",
        "deadline",
        "prefix_hashes",
    ],
)
async def test_a_field_that_is_dropped_is_noticed(name: str) -> None:
    journal = Author(settings(), seed=1).write(300)
    assert not same(journal, await DropsField(settings(), name).replay(journal))
