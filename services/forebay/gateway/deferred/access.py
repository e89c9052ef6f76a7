"""The store from the event loop: opened as soon as it can be, each call in a thread."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from forebay.core.errors import ConfigError, Unavailable
from forebay.core.units import US_PER_S
from forebay.gateway.deferred.store import Store

log = logging.getLogger(__name__)

T = TypeVar("T")
_RETRY_S = 1.0
_DESK_THREADS = 8


class Access:
    """Runs calls of the store; the gateway lives while there is none. Raises Unavailable then.

    The loop's own calls have a thread to themselves, so that long uploads do not hold up the work.
    """

    def __init__(self, open_store: Callable[[], Store]) -> None:
        self._open = open_store
        self._store: Store | None = None
        self._turn = asyncio.Lock()
        self._closed_until_s = 0.0
        self._desk = ThreadPoolExecutor(_DESK_THREADS, "deferred-desk")
        self._work = ThreadPoolExecutor(1, "deferred-work")

    async def call(self, use: Callable[[Store], T]) -> T:
        """What `use` gives: for clients."""
        return await self._run(self._desk, use)

    async def work(self, use: Callable[[Store], T]) -> T:
        """What `use` gives: for the loop."""
        return await self._run(self._work, use)

    def close(self) -> None:
        """Lets the threads end."""
        self._desk.shutdown(wait=False)
        self._work.shutdown(wait=False)

    async def _run(self, pool: ThreadPoolExecutor, use: Callable[[Store], T]) -> T:
        store = self._store or await self._opened()
        return await asyncio.get_running_loop().run_in_executor(pool, use, store)

    async def _opened(self) -> Store:
        now_s = asyncio.get_running_loop().time()
        if now_s < self._closed_until_s:
            raise _away()
        async with self._turn:
            if self._store is None:
                try:
                    self._store = await asyncio.get_running_loop().run_in_executor(self._work, self._open)
                except (ConfigError, Unavailable) as error:
                    if not self._closed_until_s:
                        log.warning("no deferred work is taken", extra={"fields": {"error": error.message}})
                    self._closed_until_s = asyncio.get_running_loop().time() + _RETRY_S
                    raise _away() from error
            return self._store


def _away() -> Unavailable:
    return Unavailable(
        "deferred work is not taken now: its database does not answer; try again later",
        reason="DATABASE_UNAVAILABLE",
        retry_after_us=US_PER_S,
    )
