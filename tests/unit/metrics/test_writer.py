"""The writer keeps what it takes, holds it while the store is down, and never blocks on one bad event."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from forebay.core.errors import Unavailable
from forebay.core.metrics import Event, RequestRecord, RequestStatus
from forebay.metrics import writer as module
from forebay.metrics.store import MemoryStore
from forebay.metrics.writer import Writer


class FlakyStore(MemoryStore):
    """A store that can be down, and that cannot take events named "bad"."""

    def __init__(self) -> None:
        super().__init__()
        self.down = False
        self.batch_counts: list[int] = []

    def append(self, events: Sequence[Event]) -> int:
        if self.down:
            raise Unavailable("down")
        if any(event.event_id == "bad" for event in events):
            raise ValueError("cannot be stored")
        self.batch_counts.append(len(events))
        return super().append(events)

    @property
    def kept(self) -> list[str]:
        return sorted(record.request_id for _, record in self.requests("", 0, None, 1_000))


def some(*names: str) -> list[Event]:
    return [Event(name, RequestRecord(name, "m", 1, RequestStatus.OK)) for name in names]


@pytest.fixture
def store() -> FlakyStore:
    return FlakyStore()


@pytest.fixture
async def writer(store: FlakyStore, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Writer]:
    monkeypatch.setattr(module, "RETRY_S", 0.0)
    made = Writer(store, buffer_count_max=5, batch_count_max=2)
    running = asyncio.create_task(made.run())
    yield made
    running.cancel()


async def test_what_was_submitted_is_in_the_store(store: FlakyStore, writer: Writer) -> None:
    await writer.submit(some("a", "b", "c"))
    assert store.kept == ["a", "b", "c"]
    assert writer.pending_count == 0
    assert store.batch_counts == [2, 1]


async def test_many_submitters_share_a_transaction(store: FlakyStore, writer: Writer) -> None:
    await asyncio.gather(*(writer.submit(some(name)) for name in "abcd"))
    assert store.kept == ["a", "b", "c", "d"]
    assert store.batch_counts == [2, 2]


async def test_while_the_store_is_down_events_are_held_and_nobody_waits(store: FlakyStore, writer: Writer) -> None:
    store.down = True
    await asyncio.wait_for(writer.submit(some("a")), 5)
    await asyncio.wait_for(writer.submit(some("b")), 5)
    assert (writer.pending_count, writer.failing) == (2, True)
    store.down = False
    await writer.flush()
    assert store.kept == ["a", "b"]
    await writer.submit(some("c"))
    assert (store.kept, writer.failing) == (["a", "b", "c"], False)


async def test_a_full_buffer_takes_nothing_and_says_when_to_come_back(store: FlakyStore, writer: Writer) -> None:
    store.down = True
    await writer.submit(some("a", "b", "c"))
    with pytest.raises(Unavailable, match="3 events wait") as caught:
        await writer.submit(some("d", "e", "f"))
    assert (caught.value.code, caught.value.retry_after_us) == ("EVENT_BUFFER_FULL", 1_000_000)
    await writer.submit(some("d", "e"))
    assert writer.pending_count == 5


async def test_an_event_that_cannot_be_stored_is_lost_alone(
    store: FlakyStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    writer = Writer(store, buffer_count_max=100, batch_count_max=100)
    running = asyncio.create_task(writer.run())
    await asyncio.wait_for(writer.submit(some("a", "b", "bad", "c", "d")), 5)
    assert store.kept == ["a", "b", "c", "d"]
    assert [record.message for record in caplog.records] == ["an event was lost"]
    running.cancel()


async def test_what_is_left_at_the_end_is_written(store: FlakyStore) -> None:
    writer = Writer(store, buffer_count_max=5, batch_count_max=2)
    waiting = asyncio.create_task(writer.submit(some("a", "b", "c")))
    await asyncio.sleep(0)
    await writer.close()
    await waiting
    assert store.kept == ["a", "b", "c"]


async def test_what_is_lost_at_the_end_is_said(
    store: FlakyStore, writer: Writer, caplog: pytest.LogCaptureFixture
) -> None:
    store.down = True
    await writer.submit(some("a", "b"))
    await writer.close()
    assert caplog.records[-1].message == "2 events are lost: the store does not answer"


async def test_flushes_at_the_same_time_write_each_event_once(store: FlakyStore, writer: Writer) -> None:
    await asyncio.gather(writer.submit(some("a", "b", "c")), writer.flush(), writer.flush())
    assert store.batch_counts == [2, 1]
    assert writer.pending_count == 0
