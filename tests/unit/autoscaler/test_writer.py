"""Changes reach the store in order, also when it is away for a while."""

import asyncio
from dataclasses import dataclass, field

import pytest

from forebay.autoscaler.leadership import Alone
from forebay.autoscaler.store import MemoryStore
from forebay.autoscaler.writer import Writer
from forebay.core.errors import Unavailable
from forebay.core.fleet import FleetSettings, FleetState, Member, Origin, ScalingDecision, Term
from forebay.core.values import Instance, InstanceState


@dataclass(slots=True)
class Moody:
    """A store that is away when the test says so."""

    inner: MemoryStore = field(default_factory=lambda: MemoryStore(10))
    away: bool = False
    saved: list[FleetState] = field(default_factory=list)

    def load(self) -> FleetState:
        return self.inner.load()

    def save(self, change: FleetState, token: int) -> None:
        if self.away:
            raise Unavailable("the database does not answer")
        self.saved.append(change)
        self.inner.save(change, token)

    def claim(self, wish: Term, ttl_us: int, now_us: int) -> Term:
        return self.inner.claim(wish, ttl_us, now_us)


def member(state: InstanceState) -> Member:
    return Member(Instance("local-1/m", "m", "127.0.0.1:1", "local-1", state=state), Origin.LAUNCHED)


def decision(number: int) -> ScalingDecision:
    return ScalingDecision(f"scale-{number}-{number}", "m", number, 0, 1, 1, "static", "active", "why")


def settings(revision: int) -> FleetSettings:
    return FleetSettings(revision=revision)


async def test_changes_that_gather_are_written_at_once_with_the_newest_state() -> None:
    store = Moody()
    writer = Writer(store, 10, Alone())
    writer.keep(settings(1), [member(InstanceState.PROVISIONING)], [decision(1)])
    writer.keep(settings(2), [member(InstanceState.READY)], [decision(2)])
    assert await writer.flush()
    assert len(store.saved) == 1
    found = store.load()
    assert found.settings.revision == 2
    assert [one.instance.state for one in found.members] == [InstanceState.READY]
    assert [one.decision_id for one in found.decisions] == ["scale-1-1", "scale-2-2"]


async def test_while_the_store_is_away_nothing_is_lost_and_nothing_overtakes() -> None:
    store = Moody(away=True)
    writer = Writer(store, 10, Alone())
    writer.keep(settings(1), [member(InstanceState.READY)], [decision(1)])
    assert not await writer.flush()
    writer.keep(settings(2), [member(InstanceState.DRAINING)], [decision(2)])
    assert not await writer.flush()
    store.away = False
    assert await writer.flush()
    found = store.load()
    assert [one.instance.state for one in found.members] == [InstanceState.DRAINING]
    assert [one.decision_id for one in found.decisions] == ["scale-1-1", "scale-2-2"]


async def test_decisions_that_wait_are_bounded() -> None:
    store = Moody(away=True)
    writer = Writer(store, 3, Alone())
    for number in range(10):
        writer.keep(settings(number), [], [decision(number)])
        await writer.flush()
    store.away = False
    await writer.flush()
    assert [one.decided_us for one in store.load().decisions] == [7, 8, 9]


async def test_nothing_to_write_is_no_write() -> None:
    store = Moody()
    assert await Writer(store, 3, Alone()).flush()
    assert not store.saved


async def test_what_is_forgotten_while_a_write_fails_does_not_come_back() -> None:
    store = Moody(away=True)
    writer = Writer(store, 10, Alone())
    writer.keep(settings(1), [member(InstanceState.READY)], [decision(1)])
    written = asyncio.ensure_future(writer.flush())
    await asyncio.sleep(0)
    writer.forget()
    assert not await written
    store.away = False
    assert await writer.flush()
    writer.keep(settings(2), [], [])
    assert await writer.flush()
    assert [(one.settings.revision, one.members, one.decisions) for one in store.saved] == [(2, (), ())]
    # Nothing waits: else `run` would never give way to others again.
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await writer.run()
