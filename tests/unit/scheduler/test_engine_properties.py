"""Named invariants of the engine under any sequence of events.

INV-1 conservation: every arrival is answered exactly once or held; leases on instances equal the open leases.
INV-2 time: the clock never goes back, no wake lies in the past, and nothing waits without a wake.
INV-3 nothing is placed on an instance that drains, is not ready, did not answer, or failed the request before.
INV-4 bounds: caps, queues, delays and predictions keep theirs.
INV-5 the same seed and events give the same actions.
INV-6 work conservation: nothing is held that some instance could take.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from forebay.core.scheduling import OpenLease, Placement, Rejected, Retry
from forebay.core.values import (
    Batching,
    InferenceRequest,
    Instance,
    InstanceLoad,
    InstanceState,
    LengthPrediction,
    Outcome,
    SloClass,
    WakeAt,
)
from forebay.scheduler.actions import Action
from forebay.scheduler.config import Config
from forebay.scheduler.engine import Engine
from forebay.scheduler.policy import build
from forebay.scheduler.policy.admission import ADMISSIONS
from forebay.scheduler.policy.grouper import GROUPERS
from forebay.scheduler.policy.orderer import ORDERERS
from forebay.scheduler.policy.puller import PULLERS
from forebay.scheduler.policy.router import ROUTERS
from tests.unit.scheduler.kit import S, instance, prediction

MODELS = ("m", "n")
IDS = [(name, model) for model in MODELS for name in "abc"]
HELD_MAX = 2

INSTANCES = st.builds(
    lambda spot, state, cap, context, batching: instance(
        *spot, state=state, concurrency_max=cap, context_tokens_max=context, kv_tokens_max=500, batching=batching
    ),
    st.sampled_from(IDS),
    st.sampled_from([InstanceState.READY] * 4 + list(InstanceState)),
    st.integers(1, 3),
    st.sampled_from([0, 100, 400]),
    st.sampled_from([Batching.CONTINUOUS, Batching.STATIC, Batching.STATIC]),
)
FLEETS = st.lists(INSTANCES, max_size=6, unique_by=lambda one: one.instance_id)
REQUESTS = st.builds(
    InferenceRequest,
    request_id=st.sampled_from([f"r{number}" for number in range(12)]),
    model=st.sampled_from([*MODELS, *MODELS, "unknown"]),
    prompt_tokens=st.integers(1, 120),
    slo_class=st.sampled_from(SloClass),
    tokens_max=st.sampled_from([0, 0, 10, 300]),
    excluded_instance_ids=st.frozensets(st.sampled_from([f"{name}/{model}" for name, model in IDS]), max_size=2),
    hold_timeout_us=st.sampled_from([0, 0, S, 400 * S]),
)
PICK = st.integers(0, 20)
EVENTS = st.one_of(
    st.tuples(st.just("arrive"), REQUESTS, st.one_of(st.none(), st.integers(1, 200)), st.sampled_from(["", "g", "h"])),
    st.tuples(st.just("arrive"), REQUESTS, st.one_of(st.none(), st.integers(1, 200)), st.sampled_from(["", "g", "h"])),
    st.tuples(st.just("progress"), PICK, st.integers(0, 300)),
    st.tuples(st.just("finish"), PICK, st.sampled_from(Outcome), st.integers(0, 300)),
    st.tuples(st.just("cancel"), st.sampled_from([f"r{number}" for number in range(12)])),
    st.tuples(st.just("fleet"), FLEETS),
    st.tuples(st.just("loads"), st.frozensets(st.sampled_from(IDS), max_size=3)),
    st.tuples(st.just("drain"), PICK),
    st.tuples(st.just("resume"), st.sampled_from(["g", "h"]), st.frozensets(PICK, max_size=4), REQUESTS),
    st.tuples(st.just("wake")),
    st.tuples(st.just("wait"), st.integers(-5 * S, 40 * S)),
)
POLICIES = st.fixed_dictionaries(
    {
        "admission": st.sampled_from(sorted(ADMISSIONS)),
        "orderer": st.sampled_from(sorted(ORDERERS)),
        "router": st.sampled_from(sorted(ROUTERS)),
        "puller": st.sampled_from(sorted(PULLERS)),
        "grouper": st.sampled_from(sorted(GROUPERS)),
    }
)


@dataclass
class World:
    """Drives an engine, remembers what it owes, and checks it after every event."""

    engine: Engine
    config: Config
    now_us: int = 0
    latest_us: int = 0
    wake_us: int | None = None
    owed: dict[str, InferenceRequest] = field(default_factory=dict)
    fleet: dict[str, Instance] = field(default_factory=dict)
    unreachable: frozenset[str] = frozenset()
    loads_us: int = 0
    drained: set[str] = field(default_factory=set)
    journal: list[list[Action]] = field(default_factory=list)

    def step(self, event: tuple[Any, ...]) -> None:
        if event[0] != "wait":
            self.latest_us = max(self.latest_us, self.now_us)
        handler: Callable[..., list[Action]] = getattr(self, event[0])
        actions = handler(*event[1:])
        self.journal.append(actions)
        for action in actions:
            self.check_action(action)
        self.check_state()

    # Events

    def arrive(self, request: InferenceRequest, tokens: int | None, gateway_id: str) -> list[Action]:
        self.owed.setdefault(request.request_id, request)
        guess: LengthPrediction | None = prediction(tokens) if tokens else None
        return self.engine.on_arrive(request, guess, self.now_us, gateway_id)

    def progress(self, pick: int, tokens: int) -> list[Action]:
        return self.engine.on_progress(self.lease_id(pick), tokens, self.now_us)

    def finish(self, pick: int, outcome: Outcome, tokens: int) -> list[Action]:
        return self.engine.on_finish(self.lease_id(pick), outcome, tokens, self.now_us)

    def cancel(self, request_id: str) -> list[Action]:
        return self.engine.on_cancel(request_id, self.now_us)

    def fleet_(self, instances: list[Instance]) -> list[Action]:
        self.fleet = {one.instance_id: one for one in instances if one.state is not InstanceState.STOPPED}
        self.drained &= self.fleet.keys()
        return self.engine.on_fleet(instances, self.now_us)

    def loads(self, dead: frozenset[tuple[str, str]]) -> list[Action]:
        self.unreachable = frozenset(f"{name}/{model}" for name, model in dead)
        self.loads_us = self.latest_us
        seen = [InstanceLoad(f"{n}/{m}", m, f"{n}/{m}" not in self.unreachable) for n, m in IDS]
        return self.engine.on_loads(seen, self.now_us)

    def drain(self, pick: int) -> list[Action]:
        if not self.fleet:
            return self.engine.on_cancel("nobody", self.now_us)
        instance_id = sorted(self.fleet)[pick % len(self.fleet)]
        self.drained.add(instance_id)
        return self.engine.on_drain(instance_id, self.now_us)

    def resume(self, gateway_id: str, picks: frozenset[int], extra: InferenceRequest) -> list[Action]:
        leases = [self.engine.leases()[pick] for pick in sorted(picks) if pick < len(self.engine.leases())]
        known = [
            OpenLease(InferenceRequest(one.request_id, one.model, 5), one.lease_id, one.instance_id, 3)
            for one in leases
        ]
        if all(one.request.request_id != extra.request_id for one in known):
            known.append(OpenLease(extra, f"own-{extra.request_id}", f"a/{extra.model}", 1))
        return self.engine.on_resume(gateway_id, known, self.now_us)

    def wake(self) -> list[Action]:
        if self.wake_us is not None:
            self.now_us = self.latest_us = max(self.latest_us, self.wake_us)
        self.wake_us = None
        if self.unreachable and self.latest_us >= self.loads_us + round(self.config.loads_stale_s * S):
            self.unreachable = frozenset()
        return self.engine.on_wake(self.now_us)

    def wait(self, by_us: int) -> list[Action]:
        self.now_us = max(0, self.now_us + by_us)
        return []

    # Checks

    def check_action(self, action: Action) -> None:
        match action:
            case WakeAt(at_us):
                assert at_us >= self.latest_us, "INV-2"
                self.wake_us = at_us
            case Placement():
                self.check_placement(action)
            case Rejected() | Retry():
                assert self.owed.pop(action.request_id, None), "INV-1"
                assert self.engine.explain(action.decision_id).request_id == action.request_id
        if isinstance(action, Retry):
            least, most = self.config.retry_delay_min_s * S, self.config.retry_delay_max_s * S
            assert least <= action.retry_delay_us <= most, "INV-4"

    def check_placement(self, placement: Placement) -> None:
        request = self.owed.pop(placement.request_id, None)
        assert request is not None, "INV-1"
        if not placement.decision_id.startswith("s-") or not self.is_new(placement):
            return
        where = self.fleet[placement.instance_id]
        assert where.state is InstanceState.READY, "INV-3"
        assert where.instance_id not in self.drained | self.unreachable, "INV-3"
        assert where.instance_id not in request.excluded_instance_ids, "INV-3"
        assert placement.held_us >= 0, "INV-2"
        assert placement.grpc_address == where.grpc_address
        if request.tokens_max:
            assert placement.predicted.p97 <= request.tokens_max, "INV-4"
        if placement.batch_id:
            assert self.is_batched(where.model)
            told = [one for one in self.journal[-1] if isinstance(one, Placement)]
            batch = [one for one in told if one.batch_id == placement.batch_id]
            assert {(one.instance_id, one.batch_count) for one in batch} == {(where.instance_id, len(batch))}
        [chosen] = [
            one for one in self.engine.explain(placement.decision_id).candidates if one.instance_id == where.instance_id
        ]
        assert chosen.eligible
        assert chosen.inputs["in_flight_count"] < chosen.inputs["concurrency_cap"], "INV-4"

    def is_new(self, placement: Placement) -> bool:
        """Whether the answer is a decision of this event, not an older one told again."""
        told = [one.lease_id for actions in self.journal[:-1] for one in actions if isinstance(one, Placement)]
        return placement.lease_id not in told

    def check_state(self) -> None:
        queues = {queue.model: queue for queue in self.engine.queues(self.now_us)}
        assert sum(queue.held_count for queue in queues.values()) == len(self.owed), "INV-1"
        leases = self.engine.leases()
        assert len({one.request_id for one in leases}) == len(leases), "INV-1"
        assert not {one.request_id for one in leases} & self.owed.keys(), "INV-1"
        for instance_id in {one.instance_id for one in leases} | self.fleet.keys():
            on_it = [one for one in leases if one.instance_id == instance_id]
            assert self.engine.lease_count(instance_id) == len(on_it), "INV-1"
        for scheduled in self.engine.instances():
            assert scheduled.predicted_tokens >= 0
            assert scheduled.lease_count or not scheduled.predicted_tokens, "INV-1"
        for queue in queues.values():
            assert queue.lease_count == sum(one.model == queue.model for one in leases), "INV-1"
        if leases or self.owed:
            assert self.wake_us is not None, "INV-2"
            assert self.wake_us <= min((one.expire_us for one in leases), default=self.wake_us), "INV-2"
        if self.fleet:
            assert all(queue.held_count <= HELD_MAX for queue in queues.values()), "INV-4"
        self.check_work()

    def check_work(self) -> None:
        for scheduled in self.engine.instances():
            one = scheduled.instance
            closed = one.state is not InstanceState.READY or one.instance_id in self.drained | self.unreachable
            if closed or scheduled.lease_count >= scheduled.concurrency_cap:
                continue
            if scheduled.lease_count and self.is_batched(one.model):
                continue
            for request in self.owed.values():
                fits = request.prompt_tokens + (request.tokens_max or 1) <= (one.context_tokens_max or 10**9)
                could = request.model == one.model and one.instance_id not in request.excluded_instance_ids and fits
                assert not could, "INV-6"

    def is_batched(self, model: str) -> bool:
        """Whether all instances of the model run static batches."""
        return all(one.batching is Batching.STATIC for one in self.fleet.values() if one.model == model)

    def lease_id(self, pick: int) -> str:
        leases = self.engine.leases()
        return leases[pick % len(leases)].lease_id if leases else "none"


def run(events: list[tuple[Any, ...]], names: dict[str, str]) -> World:
    budget: dict[str, object] = {"tokens_max": 300} if names["admission"] == "token_budget" else {}
    bounded = Config(held_count_max=HELD_MAX, lease_ttl_s=30.0, admission_parameters=budget)
    config = replace(bounded, **names)  # type: ignore[arg-type]
    world = World(Engine(config, build(config), "s"), config)
    for event in events:
        world.step(("fleet_", *event[1:]) if event[0] == "fleet" else event)
    return world


@settings(max_examples=300, deadline=None)
@given(st.lists(EVENTS, max_size=60), POLICIES)
def test_every_invariant_holds_after_every_event(events: list[tuple[Any, ...]], names: dict[str, str]) -> None:
    run(events, names)


@settings(max_examples=60, deadline=None)
@given(st.lists(EVENTS, max_size=60), POLICIES)
def test_inv5_the_same_events_give_the_same_actions(events: list[tuple[Any, ...]], names: dict[str, str]) -> None:
    assert run(events, names).journal == run(events, names).journal


@settings(max_examples=100, deadline=None)
@given(st.lists(EVENTS, max_size=40), POLICIES)
def test_in_the_end_every_request_is_answered_and_every_lease_over(
    events: list[tuple[Any, ...]], names: dict[str, str]
) -> None:
    world = run(events, names)
    for _ in range(500):
        if world.wake_us is None:
            break
        world.step(("wake",))
    assert world.wake_us is None
    assert not world.owed
    assert not world.engine.leases()


@given(st.lists(st.integers(1, 2_000), min_size=1, max_size=30), st.integers(0, 2**32))
def test_inv5_the_seed_decides_the_draws(lengths: list[int], seed: int) -> None:
    config = Config(router="power_of_two", router_parameters={"seed": seed}, puller="unlimited")
    fleet = [replace(instance(f"i{number}"), concurrency_max=64) for number in range(9)]
    runs = []
    for _ in range(2):
        engine = Engine(config, build(config), "s")
        engine.on_fleet(fleet, 0)
        runs.append(
            [engine.on_arrive(InferenceRequest(str(k), "m", 5), prediction(n), k) for k, n in enumerate(lengths)]
        )
    assert runs[0] == runs[1]
