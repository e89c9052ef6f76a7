"""Acts while this process leads, and shows the fleet as the store has it while another one does."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from forebay.autoscaler.engine import Engine
from forebay.autoscaler.leadership import RENEWALS, Leadership
from forebay.autoscaler.loop import Loop
from forebay.core.errors import Unavailable
from forebay.core.fleet import FleetState

log = logging.getLogger(__name__)


class Reign:
    """Runs the `works` of a leader while this process leads; else shows the fleet as the store has it."""

    def __init__(
        self,
        leadership: Leadership,
        loop: Loop,
        load: Callable[[], FleetState],
        make_engine: Callable[[FleetState], Engine],
        works: Callable[[], Sequence[Awaitable[None]]],
        lease_s: float,
    ) -> None:
        self._leadership = leadership
        self._loop = loop
        self._load = load
        self._make_engine = make_engine
        self._works = works
        self._pause_s = lease_s / RENEWALS
        self._token = 0
        self._ended = False
        self._tasks: list[asyncio.Future[None]] = []

    async def run(self) -> None:
        """Renews the term until it is closed; ends with the error of a work that fails."""
        while not self._ended:
            await self.step()
            done, _ = await asyncio.wait([*self._tasks, self._nap()], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()

    async def step(self) -> None:
        """Renews the term once, and takes over or steps back where it changed hands."""
        try:
            await self._leadership.renew()
            if self._ended:
                return
            if self._leadership.token != self._token:
                await self._change()
            elif not self._leadership.leads:
                await self._follow()
        except Unavailable as error:
            log.warning("the term is not renewed", extra={"fields": {"error": error.message}})

    async def close(self) -> None:
        """Ends the works."""
        self._ended = True
        await self._rest()

    def _nap(self) -> "asyncio.Future[None]":
        return asyncio.ensure_future(asyncio.sleep(self._pause_s))

    async def _rest(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    async def _change(self) -> None:
        await self._rest()
        self._token = 0
        token = self._leadership.token
        await self._follow()
        if not token:
            log.warning("another autoscaler leads", extra={"fields": {"leader": self._leadership.leader}})
            return
        log.info("this autoscaler leads", extra={"fields": {"token": token}})
        await self._loop.restore()
        if self._ended:
            return
        self._token = token
        self._tasks = [asyncio.ensure_future(work) for work in self._works()]

    async def _follow(self) -> None:
        self._loop.take(self._make_engine(await asyncio.to_thread(self._load)))
