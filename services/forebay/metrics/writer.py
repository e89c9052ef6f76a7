"""Writes events to the store in batches, many callers to a transaction, and holds them while the store is down."""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence

from forebay.core.errors import Unavailable
from forebay.core.metrics import Event
from forebay.core.units import US_PER_S
from forebay.metrics.store import Store

log = logging.getLogger(__name__)

RETRY_S = 1.0


class Writer:
    """A bounded buffer before the store. While the store answers, what `submit` took is kept once it returns."""

    def __init__(self, store: Store, buffer_count_max: int, batch_count_max: int) -> None:
        self._store = store
        self._buffer_count_max = buffer_count_max
        self._batch_count_max = batch_count_max
        self._events: deque[Event] = deque()
        self._work = asyncio.Event()
        self._tried = asyncio.Condition()
        self._turn = asyncio.Lock()
        self._taken_count = 0
        self._written_count = 0
        self.failing = False

    @property
    def pending_count(self) -> int:
        """Events that are not in the store yet."""
        return len(self._events)

    async def submit(self, events: Sequence[Event]) -> None:
        """Takes events and waits until they are in the store, or not at all while the store is down.

        Raises Unavailable, and takes none, when the buffer has no room.
        """
        if len(self._events) + len(events) > self._buffer_count_max:
            text = f"{len(self._events)} events wait for the database; send these again later"
            raise Unavailable(text, reason="EVENT_BUFFER_FULL", retry_after_us=US_PER_S)
        self._events.extend(events)
        self._taken_count += len(events)
        mark = self._taken_count
        self._work.set()
        async with self._tried:
            await self._tried.wait_for(lambda: self.failing or self._written_count >= mark)

    async def run(self) -> None:
        """Writes for ever."""
        while True:
            await self._work.wait()
            self._work.clear()
            await self.flush()
            if self._events:
                await asyncio.sleep(RETRY_S)
                self._work.set()

    async def flush(self) -> None:
        """Writes what is there, until it is done or the store is down."""
        async with self._turn:
            while self._events and await self._flush_batch():
                pass

    async def close(self) -> None:
        """Writes what is there for a last time, and says what is lost where the store is down."""
        await self.flush()
        if self._events:
            log.error("%d events are lost: the store does not answer", len(self._events))

    async def _flush_batch(self) -> bool:
        batch = [self._events[i] for i in range(min(self._batch_count_max, len(self._events)))]
        done = await self._write(batch)
        async with self._tried:
            self._note(done, len(batch))
            self._tried.notify_all()
        return done

    def _note(self, done: bool, count: int) -> None:
        if done:
            for _ in range(count):
                self._events.popleft()
            self._written_count += count
        if self.failing is done:
            log.warning("the store %s", "answers again" if done else "does not answer; events are held")
        self.failing = not done

    async def _write(self, batch: list[Event]) -> bool:
        try:
            await asyncio.to_thread(self._store.append, batch)
        except Unavailable:
            return False
        except Exception:
            return await self._write_halves(batch)
        return True

    async def _write_halves(self, batch: list[Event]) -> bool:
        # One event that the store cannot take must not hold up the others for ever: halving finds it.
        if len(batch) == 1:
            log.exception("an event was lost", extra={"fields": {"event_id": batch[0].event_id}})
            return True
        middle = len(batch) // 2
        return await self._write(batch[:middle]) and await self._write(batch[middle:])
