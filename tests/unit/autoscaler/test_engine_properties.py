"""What holds whatever happens: bounds and budget at every Start, no Stop with leases, and never stuck."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from forebay.autoscaler import invariants
from forebay.autoscaler.actions import Action, Alarm, Changed, Decided, Retire, Start, Stop
from forebay.autoscaler.config import Config, ModelConfig, ServerConfig, StockConfig
from forebay.autoscaler.engine import Engine
from forebay.autoscaler.forecasts import Forecasts
from forebay.autoscaler.policy.autoscaler.base import Choice, Needs, PerPool, PoolView
from forebay.autoscaler.room import Room
from forebay.core.errors import AlreadyExists
from forebay.core.fleet import Bounds, FleetState
from forebay.core.values import Instance, InstanceState, ModelLoad

S = 1_000_000
BUDGET = 4
QUIET_S = 3
MODELS = ("a", "b", "c")
CONFIG = Config(
    policy="told",
    instances_max=BUDGET,
    step_instances_max=2,
    dwell_s=4,
    actuator_timeout_s=10,
    snapshot_age_s_max=5,
    start_timeout_s=20,
    backoff_s_max=8,
    lost_timeout_s=15,
    drain_quiet_s=QUIET_S,
    models=(
        ModelConfig(name="a", instances_min=1, instances_max=4, gpu="H100", gpu_count=2),
        ModelConfig(name="b", instances_min=0, instances_max=3, instances_initial=0, gpu="H100"),
        ModelConfig(
            name="c", launcher="repository", servers=("s1", "s2"), instances_min=0, instances_max=2, instances_initial=0
        ),
    ),
    stocks=(StockConfig("local", "H100", 6),),
    servers=(
        ServerConfig(server_id="s1", grpc_address="127.0.0.1:1", models_max=1),
        ServerConfig(server_id="s2", grpc_address="127.0.0.1:2", models_max=1),
    ),
)


@dataclass(slots=True)
class Told(PerPool):
    """A policy that wants what the test tells it."""

    wishes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(MODELS, 1))
    needs: Needs = field(default_factory=Needs)

    def choose(self, view: PoolView) -> Choice:
        wish = self.wishes[view.model]
        return Choice(wish, wish, "told")


class World:
    """Everything around an engine, with its own idea of what must never happen."""

    def __init__(self) -> None:
        self.policy = Told()
        self.now_us = 0
        self.engine = Engine(CONFIG, self.policy, FleetState(), 0)
        self.bounds = {model.name: (model.instances_min, model.instances_max) for model in CONFIG.models}
        self.launched: dict[str, str] = {}
        self.external: dict[str, str] = {}
        self.was_ready: set[str] = set()
        self.draining: dict[str, int] = {}
        self.leases: dict[str, int] = {}
        self.empty_since: dict[str, int] = {}
        self.asked: list[Action] = []
        self.starts: dict[str, list[int]] = {model: [] for model in MODELS}
        self.ours: set[str] = set()
        self.owed: dict[str, int] = {}
        self.held = dict.fromkeys(MODELS, 0)

    def apply(self, actions: list[Action]) -> None:
        check: dict[type, Callable[[Any], None]] = {
            Start: lambda action: self._started(action.instance),
            Changed: lambda action: self._changed(action.member.instance),
            Stop: lambda action: self._stopped(action.instance_id),
            Decided: self._shrunk,
            Alarm: self._told,
        }
        for action in actions:
            check.get(type(action), lambda _: None)(action)
            if isinstance(action, (Start, Retire, Stop)):
                self.asked.append(action)
                self.owed[subject(action)] = self.now_us

    def _told(self, action: Alarm) -> None:
        self.owed = {key: at_us for key, at_us in self.owed.items() if key not in action.text}

    def _started(self, instance: Instance) -> None:
        assert instance.instance_id not in self.launched
        self.launched[instance.instance_id] = instance.model
        self.ours.add(instance.instance_id)
        self.starts[instance.model].append(self.now_us)
        total = sum(model == instance.model for model in (*self.launched.values(), *self.external.values()))
        assert invariants.within_bounds(self.bounds[instance.model][1], total)
        assert invariants.budget_never_exceeded(CONFIG, self.launched.values())
        assert invariants.steps_limited(CONFIG, self.starts[instance.model], self.now_us)

    def _shrunk(self, action: Decided) -> None:
        made, starts = action.decision, self.starts[action.decision.model]
        if made.instances_after >= made.instances_before or "failure" in made.reason:
            return
        assert made.instances_before - made.instances_after <= CONFIG.step_instances_max
        # What operators set and what others must have does not wait.
        is_forced = made.instances_before > self.bounds[made.model][1] or "needs its place" in made.reason
        assert invariants.dwell_kept(starts[-1] if starts else None, 4 * S, self.now_us, is_forced)

    def _changed(self, instance: Instance) -> None:
        key = instance.instance_id
        if instance.state is InstanceState.STOPPED:
            for kept in (self.launched, self.external, self.draining, self.leases, self.empty_since, self.owed):
                kept.pop(key, None)
            self.was_ready.discard(key)
        elif instance.state is InstanceState.DRAINING:
            self.draining[key] = self.now_us
        elif instance.state is InstanceState.READY:
            self.was_ready.add(key)

    def _stopped(self, key: str) -> None:
        assert key in self.ours
        if key in self.was_ready:
            assert invariants.never_kills_in_flight(
                self.leases.get(key, 0), self.empty_since.get(key), self.draining[key], QUIET_S * S, self.now_us
            )

    # What can happen.

    def advance(self, number: int) -> None:
        self.now_us += number * S // 2

    def wish(self, number: int) -> None:
        self.policy.wishes[MODELS[number % 3]] = number // 3 % 7

    def tick(self, _: int) -> None:
        self.apply(self.engine.on_tick(Forecasts(), self.now_us))

    def demand(self, number: int) -> None:
        self.held[MODELS[number % 3]] = number // 3 % 3
        self.observe()

    def observe(self) -> None:
        loads = [ModelLoad(model, held_count=count) for model, count in self.held.items()]
        self.apply(self.engine.on_snapshot(loads, [], self.now_us))

    def wake(self, _: int) -> None:
        self.apply(self.engine.on_wake(self.now_us))

    def set_bounds(self, number: int) -> None:
        model, low, high = MODELS[number % 3], number // 3 % 3, number // 9 % 5
        self.bounds[model] = (min(low, high), high)
        self.apply(self.engine.on_bounds(Bounds(model, *self.bounds[model]), self.now_us))

    def place(self, number: int) -> None:
        ready = [one.instance_id for one in self.engine.instances() if one.state is InstanceState.READY]
        if ready:
            key = ready[number % len(ready)]
            self.leases[key] = self.leases.get(key, 0) + 1

    def finish(self, number: int) -> None:
        if self.leases:
            key = sorted(self.leases)[number % len(self.leases)]
            self.leases[key] = max(0, self.leases[key] - 1)

    def tell_leases(self, number: int) -> None:
        for key in sorted(self.draining):
            count = None if number % 5 == 0 else self.leases.get(key, 0)
            if count == 0:
                self.empty_since.setdefault(key, self.now_us)
            else:
                self.empty_since.pop(key, None)
            self.apply(self.engine.on_lease_count(key, count, self.now_us))

    def probe(self, number: int) -> None:
        instances = self.engine.instances()
        if instances:
            key = instances[number % len(instances)].instance_id
            how = number // 7 % 4
            self.apply(self.engine.on_probe(key, how > 0, how > 1, self.now_us))

    def die(self, number: int) -> None:
        living = [one.instance_id for one in self.engine.launched()]
        if living:
            self.apply(self.engine.on_survey({living[number % len(living)]: "it died"}, self.now_us))

    def register(self, number: int) -> None:
        key = f"ext-{number % 3}/a"
        try:
            actions = self.engine.on_register(
                Instance(key, "a", "127.0.0.1:9", f"ext-{number % 3}"), number % 4 * S, self.now_us
            )
        except AlreadyExists:
            return
        self.external[key] = "a"
        self.apply(actions)

    def deregister(self, number: int) -> None:
        instances = self.engine.instances()
        if instances:
            self.apply(self.engine.on_deregister(instances[number % len(instances)].instance_id, self.now_us))

    def answer(self, number: int) -> None:
        if not self.asked:
            return
        action = self.asked.pop(number % len(self.asked))
        self._answer(action, number // 3 % 4)

    def _answer(self, action: Action, how: int) -> None:
        self.owed.pop(subject(action), None)
        if isinstance(action, Start):
            key = action.instance.instance_id
            if how == 0:
                self.apply(self.engine.on_actuator_failed(key, "no", self.now_us))
                self.launched.pop(key, None)
                return
            placed = None if how == 1 else replace(action.instance, grpc_address="127.0.0.1:5")
            if placed is None:
                self.launched.pop(key, None)
            self.apply(self.engine.on_actuated(key, placed, self.now_us))
        elif isinstance(action, Retire):
            self.apply(self.engine.on_retired(action.instance_id, how > 1, self.now_us))
        elif isinstance(action, Stop):
            if how > 0:
                # One whose start had no answer was never published: nobody else hears that it is gone.
                self.launched.pop(action.instance_id, None)
            self.apply(self.engine.on_stopped(action.instance_id, how > 0, self.now_us))

    def agree(self, _: int) -> None:
        while self.asked:
            self._answer(self.asked.pop(0), 3)

    def heal(self, seconds: int) -> None:
        """From now on everything works."""
        for second in range(seconds):
            self.now_us += S
            self.agree(0)
            for key in [*self.leases]:
                self.leases[key] = 0
            for instance in self.engine.instances():
                self.apply(self.engine.on_probe(instance.instance_id, True, True, self.now_us))
            self.tell_leases(1)
            self.observe()
            if second % 2 == 0:
                self.tick(0)


def subject(action: Any) -> str:
    """The instance that an action is about."""
    return str(action.instance.instance_id if isinstance(action, Start) else action.instance_id)


EVENTS: tuple[Callable[[World, int], None], ...] = (
    World.advance,
    World.advance,
    World.wish,
    World.wish,
    World.tick,
    World.tick,
    World.tick,
    World.wake,
    World.demand,
    World.set_bounds,
    World.place,
    World.finish,
    World.tell_leases,
    World.tell_leases,
    World.tell_leases,
    World.probe,
    World.probe,
    World.die,
    World.register,
    World.deregister,
    World.answer,
    World.answer,
    World.answer,
    World.agree,
)
# Lists from hypothesis are short on average; half of the histories are to be long.
EVENT = st.tuples(st.sampled_from(EVENTS), st.integers(0, 60))
HISTORY = st.one_of(st.lists(EVENT, max_size=40), st.lists(EVENT, min_size=80, max_size=120))


def lived(history: list[tuple[Callable[[World, int], None], int]], leak: Callable[[Room], Room] | None = None) -> World:
    """The world after the history; `leak` makes the kernel believe in more room than there is."""
    world = World()
    if leak is not None:
        rooms = world.engine._sizing._rooms
        tight = rooms.of
        rooms.of = lambda plan, counts, now_us: leak(tight(plan, counts, now_us))  # type: ignore[method-assign]
    world.heal(5)
    for event, number in history:
        event(world, number)
    return world


@settings(max_examples=300, deadline=None)
@given(HISTORY)
def test_bounds_hold_and_nothing_is_stopped_that_has_leases(
    history: list[tuple[Callable[[World, int], None], int]],
) -> None:
    lived(history)


LEAKS: dict[str, Callable[[Room], Room]] = {
    "budget": lambda room: replace(room, budget_left=room.budget_left + 1),
    "stock": lambda room: replace(room, stock_left=room.stock_left + 1),
    "bounds": lambda room: replace(room, total=room.total - 1),
    "steps": lambda room: replace(room, start_max=99),
    "dwell": lambda room: replace(room, dwelling=False),
}


@pytest.mark.parametrize("leak", LEAKS.values(), ids=LEAKS)
def test_a_limit_that_leaks_is_found(leak: Callable[[Room], Room]) -> None:
    @settings(max_examples=300, deadline=None, derandomize=True, phases=[Phase.generate], database=None)
    @given(HISTORY)
    def live(history: list[tuple[Callable[[World, int], None], int]]) -> None:
        lived(history, leak)

    with pytest.raises(AssertionError):
        live()


@settings(max_examples=40, deadline=None)
@given(HISTORY)
def test_whatever_happened_the_fleet_becomes_what_is_wanted(
    history: list[tuple[Callable[[World, int], None], int]],
) -> None:
    world = lived(history)
    for key, model in list(world.external.items()):
        assert model == "a"
        if key in {one.instance_id for one in world.engine.instances()}:
            world.apply(world.engine.on_deregister(key, world.now_us))
    for model, wish in (("a", 2), ("b", 1), ("c", 1)):
        world.held[model] = 0
        world.policy.wishes[model] = wish
        world.bounds[model] = (0, 4)
        world.apply(world.engine.on_bounds(Bounds(model, 0, 4), world.now_us))
    world.heal(300)
    found = {one.model: (one.ready_count, one.starting_count, one.draining_count) for one in world.engine.models()}
    assert found == {"a": (2, 0, 0), "b": (1, 0, 0), "c": (1, 0, 0)}


@settings(max_examples=40, deadline=None)
@given(HISTORY)
def test_whatever_happened_requests_that_wait_get_an_instance_though_none_is_wanted(
    history: list[tuple[Callable[[World, int], None], int]],
) -> None:
    world = lived(history)
    for model in MODELS:
        world.held[model] = int(model == "b")
        world.policy.wishes[model] = 0
        world.bounds[model] = (0, 4)
        world.apply(world.engine.on_bounds(Bounds(model, 0, 4), world.now_us))
    world.heal(120)
    found = {one.model: one.ready_count for one in world.engine.models()}
    assert invariants.demand_is_served(1, 4, found["b"], is_limited=False)
    assert found["b"] == 1


@settings(max_examples=60, deadline=None)
@given(HISTORY)
def test_an_actuator_that_never_answers_again_is_told_of_and_asked_again(
    history: list[tuple[Callable[[World, int], None], int]],
) -> None:
    world = lived(history)
    for _ in range(60):
        world.now_us += S
        world.tell_leases(1)
        world.tick(0)
        assert invariants.never_stuck(world.owed, 11 * S, world.now_us)


@settings(max_examples=50, deadline=None)
@given(HISTORY)
def test_the_same_history_leads_to_the_same_fleet(history: list[tuple[Callable[[World, int], None], int]]) -> None:
    first, second = lived(history), lived(history)
    assert first.engine.instances() == second.engine.instances()
    assert first.engine.decisions.page("", 1_000, "") == second.engine.decisions.page("", 1_000, "")
