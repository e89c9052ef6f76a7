"""One gateway engine and the engines of several schedulers that come and go: no lease is lost and none stands twice.

Messages wait in a queue each way, as on a stream, and are lost when it breaks.
"""

from collections import deque
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from forebay.core.scheduling import Placement, Rejected, Retry
from forebay.core.values import InferenceRequest, Instance, InstanceState, Outcome
from forebay.gateway import refusals
from forebay.gateway.config import Config
from forebay.gateway.engine import Engine
from forebay.gateway.values import Action, Ask, Attempt, End, Fail, Renew, Resume, Withdraw
from forebay.scheduler.config import Config as SchedulerConfig
from forebay.scheduler.engine import Engine as Scheduler
from forebay.scheduler.policy import build

S = 1_000_000
REPLICAS = ("s1", "s2", "s3")
MODELS = ("chat", "code", "poem", "tune")
FLEET = [
    Instance(f"i{number}/{model}", model, f"i{number}:1", f"i{number}", state=InstanceState.READY, concurrency_max=2)
    for model in MODELS
    for number in range(2)
]
EVENT = st.one_of(
    st.tuples(st.just("arrive"), st.sampled_from(MODELS)),
    st.tuples(st.sampled_from(["up", "down", "hear", "say"]), st.sampled_from(REPLICAS)),
    st.tuples(st.sampled_from(["finish", "gone"]), st.integers(0, 9)),
    st.tuples(st.just("wake"), st.just("")),
)


class World:
    """The gateway, three schedulers, and what is on its way between them."""

    def __init__(self) -> None:
        self.now_us = S
        self.engine = Engine(Config(placement_timeout_s=1_000.0, suspect_s=1.0))
        self.schedulers: dict[str, Scheduler] = {}
        self.to: dict[str, deque[Any]] = {name: deque() for name in REPLICAS}
        self.back: dict[str, deque[Any]] = {name: deque() for name in REPLICAS}
        self.linked: set[str] = set()
        self.running: dict[str, Placement] = {}
        self.ended: set[str] = set()
        self.arrived: list[str] = []
        for name in REPLICAS:
            config = SchedulerConfig(lease_ttl_s=3_600.0, hold_timeout_interactive_normal_s=3_600.0)
            self.schedulers[name] = Scheduler(config, build(config), name)
            self.schedulers[name].on_fleet(FLEET, self.now_us)
        self.apply(self.engine.on_fleet(FLEET, self.now_us))

    def apply(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Ask() | Withdraw() | Renew() | End() | Resume():
                    assert action.to in self.linked, "nothing is said to a replica that does not listen"
                    self.to[action.to].append(action)
                case Attempt(request_id, placement):
                    assert request_id not in self.running, "a request runs once"
                    assert request_id not in self.ended
                    self.running[request_id] = placement
                case Fail(request_id):
                    self.ended.add(request_id)

    def play(self, kind: str, what: Any) -> None:
        self.now_us += 10_000
        getattr(self, f"_{kind}")(what)

    def _arrive(self, model: str) -> None:
        request_id = f"r{len(self.arrived)}"
        self.arrived.append(request_id)
        self.apply(self.engine.on_arrive(InferenceRequest(request_id, model, 10), self.now_us))

    def _up(self, name: str) -> None:
        if name not in self.linked:
            self.linked.add(name)
            self.apply(self.engine.on_link_up(name, self.now_us))

    def _down(self, name: str) -> None:
        if name in self.linked:
            self.linked.remove(name)
            self.to[name].clear()
            self.back[name].clear()
            self.apply(self.engine.on_link_down(name, self.now_us))

    def _hear(self, name: str) -> None:
        """The scheduler takes one message."""
        if self.to[name]:
            self.back[name].extend(
                one for one in self._take(self.schedulers[name], self.to[name].popleft()) if name in self.linked
            )

    def _take(self, on: Scheduler, message: Any) -> list[Any]:
        match message:
            case Ask(request):
                actions = on.on_arrive(request, None, self.now_us, "g")
            case Withdraw(request_id):
                actions = on.on_cancel(request_id, self.now_us)
            case Renew(lease_id, tokens):
                actions = on.on_progress(lease_id, tokens, self.now_us)
            case End(lease_id, outcome, tokens):
                actions = on.on_finish(lease_id, outcome, tokens, self.now_us)
            case Resume(leases):
                actions = on.on_resume("g", leases, self.now_us)
        return [one for one in actions if isinstance(one, Placement | Rejected | Retry)]

    def _say(self, name: str) -> None:
        """The gateway takes one answer."""
        if not self.back[name]:
            return
        answer = self.back[name].popleft()
        if isinstance(answer, Placement):
            self.apply(self.engine.on_placed(name, answer, self.now_us))
        elif isinstance(answer, Rejected):
            error = refusals.rejection(answer.reason, answer.message)
            self.apply(self.engine.on_refused(name, answer.request_id, error, self.now_us))
        else:
            error = refusals.retry(answer.reason, answer.message, answer.retry_delay_us)
            self.apply(self.engine.on_refused(name, answer.request_id, error, self.now_us))

    def _finish(self, number: int) -> None:
        running = sorted(self.running)
        if running:
            request_id = running[number % len(running)]
            del self.running[request_id]
            self.ended.add(request_id)
            self.apply(self.engine.on_finished(request_id, Outcome.STOPPED, self.now_us))

    def _gone(self, number: int) -> None:
        alive = [one for one in self.arrived if one not in self.ended]
        if alive:
            request_id = alive[number % len(alive)]
            self.running.pop(request_id, None)
            self.ended.add(request_id)
            self.apply(self.engine.on_gone(request_id, self.now_us))

    def _wake(self, _: str) -> None:
        self.now_us += S
        self.apply(self.engine.on_wake(self.now_us))

    def settle(self) -> None:
        """All that is on its way arrives."""
        while any(self.to.values()) or any(self.back.values()):
            for name in REPLICAS:
                self.play("hear", name)
                self.play("say", name)


@settings(max_examples=300, deadline=None)
@given(st.lists(EVENT, max_size=80))
def test_inv_leases_each_running_request_has_one_lease_and_all_leases_are_of_such(
    events: list[tuple[str, Any]],
) -> None:
    world = World()
    for kind, what in events:
        world.play(kind, what)
    for name in REPLICAS:
        world.play("up", name)
    world.settle()
    leased = [(lease.request_id, lease.lease_id) for name in REPLICAS for lease in world.schedulers[name].leases()]
    running = [(request_id, placement.lease_id) for request_id, placement in world.running.items()]
    assert sorted(leased) == sorted(running), "no lease is lost, doubled or left over"
    for name in REPLICAS:
        owned = {lease.model for lease in world.schedulers[name].leases()}
        held = {queue.model for queue in world.schedulers[name].queues(world.now_us) if queue.held_count}
        assert not (owned | held) & {
            lease.model for other in REPLICAS if other != name for lease in world.schedulers[other].leases()
        }, "a model is one replica's"


@settings(max_examples=200, deadline=None)
@given(st.lists(EVENT, max_size=80))
def test_inv_answers_every_request_ends_when_its_instance_does(events: list[tuple[str, Any]]) -> None:
    world = World()
    for kind, what in events:
        world.play(kind, what)
    world.play("up", "s1")
    world.settle()
    for _ in range(len(world.arrived)):
        world.play("finish", 0)
        world.settle()
    assert world.ended == set(world.arrived)
    assert not any(world.schedulers["s1"].leases())
