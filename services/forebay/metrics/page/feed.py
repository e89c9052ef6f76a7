"""One stream of changes for all browsers: the state to a new one, then what differs, while anybody looks."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from forebay.core.errors import ResourceExhausted
from forebay.metrics.page.delta import State, delta
from forebay.wire.clock import Clock

log = logging.getLogger(__name__)

BEHIND_COUNT_MAX = 5
"""Changes that wait for a slow browser; after that it is sent the state again."""


class Viewer:
    """One browser: what waits to be sent to it."""

    def __init__(self) -> None:
        self.frames: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.is_new = True

    def lose(self) -> None:
        """Forgets what waits: the browser begins anew."""
        while not self.frames.empty():
            self.frames.get_nowait()
        self.is_new = True


class Feed:
    """Asks `collect` once an interval while there are viewers, and never when nobody looks."""

    def __init__(
        self, collect: Callable[[int], Awaitable[State]], clock: Clock, interval_s: float, viewer_count_max: int
    ) -> None:
        self._collect, self._clock, self._interval_s = collect, clock, interval_s
        self._viewer_count_max = viewer_count_max
        self._viewers: set[Viewer] = set()
        self._arrived = asyncio.Event()
        self._state: State = {}
        self._is_closed = False

    @property
    def viewer_count(self) -> int:
        """Browsers that look now."""
        return len(self._viewers)

    async def run(self) -> None:
        """Keeps all viewers up to date, for ever."""
        time = asyncio.get_running_loop().time
        while True:
            await self._arrived.wait()
            start_s = time()
            await self._tick()
            await self._pause(self._interval_s - (time() - start_s))

    async def frames(self) -> AsyncIterator[bytes]:
        """Server-sent events for one browser, until it goes or the feed is closed.

        Raises ResourceExhausted at once when there are too many.
        """
        if len(self._viewers) >= self._viewer_count_max:
            raise ResourceExhausted(f"{self._viewer_count_max} browsers look at this page already; close one")
        return self._frames()

    async def _frames(self) -> AsyncIterator[bytes]:
        viewer = Viewer()
        self._viewers.add(viewer)
        self._arrived.set()
        try:
            while not self._is_closed and (frame := await viewer.frames.get()) is not None:
                yield frame
        finally:
            self._viewers.discard(viewer)
            if not self._viewers:
                self._arrived.clear()

    def close(self) -> None:
        """Ends all streams."""
        self._is_closed = True
        for viewer in self._viewers:
            viewer.frames.put_nowait(None)

    async def _pause(self, pause_s: float) -> None:
        """Sleeps, but not while somebody new waits for the first sight."""
        deadline_s = asyncio.get_running_loop().time() + max(0.05, pause_s)
        while (left_s := deadline_s - asyncio.get_running_loop().time()) > 0:
            if any(viewer.is_new for viewer in self._viewers):
                return
            await asyncio.sleep(min(left_s, 0.1))

    async def _tick(self) -> None:
        now_us = self._clock()
        try:
            state = await self._collect(now_us)
        except Exception:
            # A fault of the page must not end the service that it belongs to.
            log.exception("the page was not made")
            return
        change, self._state = delta(self._state, state), state
        self._send(now_us, change)

    def _send(self, now_us: int, change: Any) -> None:
        whole = part = b""
        for viewer in self._viewers:
            if viewer.frames.qsize() > BEHIND_COUNT_MAX:
                viewer.lose()
            if viewer.is_new:
                whole = whole or frame("whole", now_us, {name: {"set": rows} for name, rows in self._state.items()})
                viewer.frames.put_nowait(whole)
                viewer.is_new = False
            else:
                part = part or frame("delta", now_us, change)
                viewer.frames.put_nowait(part)


def frame(event: str, now_us: int, change: Any) -> bytes:
    """One server-sent event."""
    text = json.dumps({"at": now_us // 1_000, "change": change}, separators=(",", ":"), ensure_ascii=False)
    return f"event: {event}\ndata: {text}\n\n".encode()
