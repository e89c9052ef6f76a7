"""Sabotages of the replay: each must make the comparison fail, else parity says nothing."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import pytest

from forebay.autoscaler.policy.autoscaler.base import Autoscaler, Choice, FleetView, Needs, PerPool, PoolView
from forebay.core.config import from_mapping
from forebay.core.values import WakeAt
from forebay.gateway.loop import Loop as GatewayLoop
from forebay.gateway.values import Action
from forebay.scheduler.config import Config as SchedulerConfig
from forebay.scheduler.policy import Policies, build
from forebay.scheduler.policy.router.base import Route, Router, RouteView
from forebay.simulator.shell.journal import Entry
from tests.parity import live_autoscaler, live_gateway, live_metrics, live_predictor, live_scheduler
from tests.parity.journal_kit import Clock, Forgetful, Post, Replay, S, Spy, difference
from tests.parity.scenarios import PLAIN, PRESSED, Case, journal

END_S = 26
"""As much of the run as the sabotages are tried on: it holds a crash, starts, drains, holds and refusals."""
STEPS_S = (1, 6, END_S)
PARTS = (live_scheduler, live_autoscaler, live_gateway, live_predictor, live_metrics)
KEPT_TO_ITSELF = {
    "scheduler": {"LengthPrediction.query_id"},
    "autoscaler": {
        *("ModelReadyRequest.name", "ModelConfigRequest.name"),
        *("Snapshot.snapshot_time", "Event.event_id", "WatchFleetResponse.revision"),
    },
    "gateway": {"HealthCheckResponse.status", "Rejected.decision_id", "Retry.decision_id"},
    "predictor": set[str](),
    "metrics": {"ReportEventsResponse.accepted_count"},
}
"""Fields whose loss changes nothing: only people read them, or the other side is a fake that knows what is asked."""


STATIC = Case("grouper", "magnus")
"""The run on engines that are given their batches."""


def until(seconds: float, case: Case = PLAIN) -> tuple[Entry, ...]:
    """The run up to a time."""
    return tuple(entry for entry in journal(case) if entry.now_us < seconds * S)


async def found_by(
    part: ModuleType, live: Any, entries: Sequence[Entry], wanted: Iterable[Entry] = (), case: Case = PLAIN
) -> str:
    """What the comparison says of a live part that heard these entries; a part that broke down is found too."""
    try:
        found: Replay = await live.run(entries)
    except Exception as error:
        return f"broken by {error!r}"
    return difference(part.wanted(tuple(wanted) or entries, case), found)


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.PART)
async def test_without_sabotage_there_is_no_difference(part: ModuleType) -> None:
    for seconds in STEPS_S:
        assert await found_by(part, part.Live(PLAIN, Clock()), until(seconds)) == ""


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.PART)
async def test_every_field_that_is_lost_on_the_way_is_missed(part: ModuleType) -> None:
    spy = Spy()
    await part.Live(PLAIN, Clock(), post=spy).run(until(END_S))
    assert len(spy.fields) > 20
    unnoticed = {name for name in spy.fields if not await is_missed(part, Forgetful(name))}
    assert unnoticed == KEPT_TO_ITSELF[part.PART]


PRESSING = ("Pressure", "InstancePressure", "Demand", "WaitingGroup", "GetPressureResponse", "ForecastWorkloadRequest")
"""Messages that only an autoscaler that wants to know everything makes others send."""
ANSWERED_ALIKE = {"ForecastWorkloadRequest.window"}
"""The fake predictor answers as the journal says, whatever is asked for."""


@pytest.mark.parametrize("part", [live_scheduler, live_autoscaler], ids=lambda part: part.PART)
async def test_every_field_that_tells_what_is_on_its_way_is_missed(part: ModuleType) -> None:
    spy, entries = Spy(), until(END_S, PRESSED)
    await part.Live(PRESSED, Clock(), post=spy).run(entries)
    fields = [name for name in spy.fields if name.partition(".")[0] in PRESSING]
    assert len(fields) > 20
    unnoticed = set()
    for name in fields:
        live = part.Live(PRESSED, Clock(), post=Forgetful(name))
        if not await found_by(part, live, entries, case=PRESSED):
            unnoticed.add(name)
    assert unnoticed == (ANSWERED_ALIKE if part is live_autoscaler else set())


async def is_missed(part: ModuleType, post: Post) -> bool:
    """Whether the comparison fails; most fields are missed in the first second already, a few with static batches."""
    for case in (PLAIN, STATIC):
        for seconds in STEPS_S:
            if await found_by(part, part.Live(case, Clock(), post=post), until(seconds, case), case=case):
                return True
    return False


@pytest.mark.parametrize(
    "part", [live_scheduler, live_autoscaler, live_gateway, live_metrics], ids=lambda part: part.PART
)
async def test_a_clock_that_is_wrong_is_noticed(part: ModuleType) -> None:
    assert "told" in await found_by(part, part.Live(PLAIN, Clock(shift_us=20 * S)), until(END_S))


@pytest.mark.parametrize("part", [live_scheduler, live_autoscaler, live_gateway], ids=lambda part: part.PART)
async def test_a_clock_that_is_wrong_is_noticed_by_the_wake_ups_alone(part: ModuleType) -> None:
    entries = until(END_S)
    wanted, found = part.wanted(entries, PLAIN), await part.Live(PLAIN, Clock(shift_us=20 * S)).run(entries)
    assert wanted.done["wakes"] != found.done["wakes"]


class SleepyScheduler(live_scheduler.Live):
    """Forgets the first time that it is to be woken at."""

    def set(self, at_us: int) -> None:
        """The timer is set."""
        if self.is_awake:
            super().set(at_us)
        self.is_awake = True

    is_awake = False


class SleepyAutoscaler(live_autoscaler.Live):
    """Forgets the first time that it is to be woken at."""

    def set(self, at_us: int) -> None:
        """The timer is set."""
        if self.is_awake:
            super().set(at_us)
        self.is_awake = True

    is_awake = False


class SleepyLoop(GatewayLoop):
    """Forgets the times that it is to be woken at."""

    def _apply(self, actions: Iterable[Action]) -> None:
        super()._apply(action for action in actions if not isinstance(action, WakeAt))


@pytest.mark.parametrize(
    ("part", "live"),
    [
        (live_scheduler, lambda: SleepyScheduler(PLAIN, Clock())),
        (live_autoscaler, lambda: SleepyAutoscaler(PLAIN, Clock())),
        (live_gateway, lambda: live_gateway.Live(PLAIN, Clock(), make=SleepyLoop)),
    ],
    ids=("scheduler", "autoscaler", "gateway"),
)
async def test_a_time_to_wake_that_is_swallowed_is_missed(part: ModuleType, live: Callable[[], Any]) -> None:
    assert (await found_by(part, live(), until(END_S))).startswith("wakes")


@dataclass(frozen=True, slots=True)
class LastOfEqual:
    """Another router but for its name: of equal instances it takes the last."""

    inner: Router

    def route(self, view: RouteView) -> Route:
        """The choice of the other router, or the last instance that is as good."""
        route = self.inner.route(view)
        best = route.scores[route.index]
        equal = [index for index, score in enumerate(route.scores) if score == best and view.eligible[index]]
        return replace(route, index=equal[-1])


def last_of_equal() -> Policies:
    """The policies of the run, with that router."""
    policies = build(from_mapping(SchedulerConfig, PLAIN.policy.scheduler, "scheduler"))
    return replace(policies, router=LastOfEqual(policies.router))


async def test_a_router_that_settles_ties_otherwise_is_noticed() -> None:
    live = live_scheduler.Live(PLAIN, Clock(), policies=last_of_equal())
    assert "on_arrive" in await found_by(live_scheduler, live, until(END_S))


@dataclass(frozen=True, slots=True)
class OneMore(PerPool):
    """An autoscaler that wants one instance more where it wants any."""

    inner: Autoscaler

    @property
    def needs(self) -> Needs:
        """As the other."""
        return self.inner.needs

    def choose(self, view: PoolView) -> Choice:
        """One more."""
        choice = self.inner.plan(FleetView(view.now_us, (view,))).pools[view.pool]
        return replace(choice, instances_wanted=choice.instances_wanted + 1)


async def test_an_autoscaler_that_wants_more_is_noticed() -> None:
    policy = OneMore(live_autoscaler.policy_of(live_autoscaler.plan_of(PLAIN)))
    live = live_autoscaler.Live(PLAIN, Clock(), policy=policy)
    assert "on_tick" in await found_by(live_autoscaler, live, until(END_S))


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.PART)
async def test_events_that_come_in_another_order_are_noticed(part: ModuleType) -> None:
    entries = until(6)
    kind = (part.PART, SWAPPED[part.PART])
    own = [place for place, entry in enumerate(entries) if (entry.part, entry.event) == kind]
    first, second = own[-2:]
    swapped = list(entries)
    swapped[first], swapped[second] = entries[second], entries[first]
    assert (await found_by(part, part.Live(PLAIN, Clock()), swapped, wanted=entries)).startswith("told")


SWAPPED = {
    "scheduler": "on_arrive",
    "autoscaler": "on_snapshot",
    "gateway": "on_arrive",
    "predictor": "on_queries",
    "metrics": "on_reading",
}
