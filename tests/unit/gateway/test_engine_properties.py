"""Invariants of the gateway's engine under any order of events."""

from collections import Counter
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from forebay.core.errors import Aborted, InvalidArgument, ResourceExhausted
from forebay.core.scheduling import Placement
from forebay.core.values import InferenceRequest, Instance, InstanceState, LengthQuantiles, Outcome
from forebay.gateway.config import Config
from forebay.gateway.engine import Engine
from forebay.gateway.values import Action, Ask, Attempt, End, Fail, Report, Resume, Withdraw

IDS = [f"r{number}" for number in range(6)]
INSTANCES = ("a", "b", "c")
EVENT = st.tuples(
    st.sampled_from(["arrive", "place", "refuse", "tokens", "finish", "fail", "mistake", "gone", "up", "down", "wake"]),
    st.sampled_from(IDS),
    st.sampled_from(INSTANCES),
)


class World:
    """Plays scheduler, instances and clients, and keeps count."""

    def __init__(self) -> None:
        config = Config(attempts_max=2, requests_max=5, fallback_queue_factor=1.0, placement_timeout_s=3.0)
        self.engine = Engine(config)
        self.now_us = 0
        self.generation: Counter[str] = Counter()
        self.asked: set[str] = set()
        self.attempts: dict[str, Placement] = {}
        self.open_leases: set[str] = set()
        self.reports: Counter[str] = Counter()
        self.arrived: set[str] = set()
        self.lease_count = 0
        fleet = [
            Instance(one, "m", f"{one}:1", one, state=InstanceState.READY, concurrency_max=1) for one in INSTANCES[:2]
        ]
        fleet.append(Instance("c", "m", "c:1", "c", state=InstanceState.DRAINING, concurrency_max=1))
        self.apply(self.engine.on_fleet(fleet, 0))

    def play(self, kind: str, name: str, instance_id: str) -> None:
        self.now_us += 100_000
        request_id = f"{name}.{self.generation[name]}"
        self.apply(getattr(self, f"_{kind}")(name, request_id, instance_id))
        assert self.engine.flight_count == len(self.arrived) - sum(self.reports.values())

    def apply(self, actions: list[Action]) -> None:  # noqa: C901 - one case for each action
        for action in actions:
            match action:
                case Ask(request):
                    assert self.engine.is_linked
                    self.asked.add(request.request_id)
                case Withdraw(request_id):
                    assert self.engine.is_linked
                    self.asked.discard(request_id)
                case Attempt(request_id, placement):
                    assert not self.reports[request_id], "nothing is sent for a request that ended"
                    assert self.engine.is_linked or placement.instance_id != "c", "nothing is placed on a draining one"
                    self.asked.discard(request_id)
                    self.attempts[request_id] = placement
                case End(lease_id):
                    assert lease_id in self.open_leases, "a lease ends once, and only one that the scheduler knows"
                    self.open_leases.remove(lease_id)
                case Resume(leases):
                    self.open_leases = {one.lease_id for one in leases}
                    assert len(self.open_leases) == len(leases)
                case Fail(request_id):
                    self.attempts.pop(request_id, None)
                    self.asked.discard(request_id)
                case Report(record):
                    self.reports[record.request.request_id] += 1
                    assert self.reports[record.request.request_id] == 1, "a request is reported once"
                    assert record.attempt_count <= 2

    def _arrive(self, name: str, _: str, __: str) -> list[Action]:
        self.generation[name] += 1
        request = InferenceRequest(f"{name}.{self.generation[name]}", "m", prompt_tokens=1)
        self.arrived.add(request.request_id)
        return self.engine.on_arrive(request, self.now_us)

    def _place(self, _: str, request_id: str, instance_id: str) -> list[Action]:
        if not self.engine.is_linked or request_id not in self.asked:
            return []
        self.asked.remove(request_id)
        self.lease_count += 1
        lease_id = f"l{self.lease_count}"
        self.open_leases.add(lease_id)
        quantiles = LengthQuantiles(1, 1, 1, 1)
        return self.engine.on_placed(
            "",
            Placement(request_id, lease_id, "d", instance_id, f"{instance_id}:1", quantiles, "p", 9_000_000),
            self.now_us,
        )

    def _refuse(self, _: str, request_id: str, __: str) -> list[Action]:
        if not self.engine.is_linked or request_id not in self.asked:
            return []
        self.asked.remove(request_id)
        return self.engine.on_refused("", request_id, ResourceExhausted("full"), self.now_us)

    def _tokens(self, _: str, request_id: str, __: str) -> list[Action]:
        return self.engine.on_tokens(request_id, 1, 1, self.now_us) if request_id in self.attempts else []

    def _finish(self, _: str, request_id: str, __: str) -> list[Action]:
        if self.attempts.pop(request_id, None) is None:
            return []
        return self.engine.on_finished(request_id, Outcome.STOPPED, self.now_us)

    def _fail(self, _: str, request_id: str, __: str) -> list[Action]:
        if self.attempts.pop(request_id, None) is None:
            return []
        return self.engine.on_failed(request_id, Aborted("died"), self.now_us)

    def _mistake(self, _: str, request_id: str, __: str) -> list[Action]:
        if self.attempts.pop(request_id, None) is None:
            return []
        return self.engine.on_failed(request_id, InvalidArgument("bad"), self.now_us)

    def _gone(self, _: str, request_id: str, __: str) -> list[Action]:
        self.attempts.pop(request_id, None)
        return self.engine.on_gone(request_id, self.now_us)

    def _up(self, _: str, __: str, ___: str) -> list[Action]:
        return [] if self.engine.is_linked else self.engine.on_link_up("", self.now_us)

    def _down(self, _: str, __: str, ___: str) -> list[Action]:
        self.asked.clear()
        return self.engine.on_link_down("", self.now_us) if self.engine.is_linked else []

    def _wake(self, _: str, __: str, ___: str) -> list[Action]:
        self.now_us += 2_000_000
        return self.engine.on_wake(self.now_us)


@settings(max_examples=300, deadline=None)
@given(st.lists(EVENT, max_size=60))
def test_every_request_is_reported_once_and_every_lease_ends_once(events: list[tuple[str, str, str]]) -> None:
    world = World()
    for kind, name, instance_id in events:
        world.play(kind, name, instance_id)
    if not world.engine.is_linked:
        world.apply(world.engine.on_link_up("", world.now_us))
    for request_id in sorted(world.arrived):
        world.apply(world.engine.on_gone(request_id, world.now_us))
    assert world.engine.flight_count == 0
    assert world.open_leases == set()
    assert set(world.reports) == world.arrived
    assert not any(world.engine.fleet.outstanding(one) for one in INSTANCES), "no instance keeps a count"


@settings(max_examples=100, deadline=None)
@given(st.lists(EVENT, max_size=40))
def test_the_same_events_give_the_same_actions(events: list[tuple[str, str, str]]) -> None:
    journals = []
    for _ in range(2):
        world, journal = World(), []
        apply = world.apply

        def keep(actions: list[Action], apply=apply, journal=journal) -> None:
            journal.append([_plain(action) for action in actions])
            apply(actions)

        world.apply = keep  # type: ignore[method-assign]
        for event in events:
            world.play(*event)
        journals.append(journal)
    assert journals[0] == journals[1]


def _plain(action: Action) -> Action | str:
    """Errors compare by identity, so a failure is compared by its text."""
    return repr(action) if isinstance(action, Fail) else replace(action)
