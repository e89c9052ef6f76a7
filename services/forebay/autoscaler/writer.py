"""Writes changes of the fleet to the store in the background, in order, and again while the store does not answer."""

import asyncio
import logging
from typing import Protocol

from forebay.autoscaler.store import Store
from forebay.core.errors import NotLeader, Unavailable
from forebay.core.fleet import FleetSettings, FleetState, Member, ScalingDecision

log = logging.getLogger(__name__)

RETRY_S = 1.0


class Leading(Protocol):
    """Who knows whether this autoscaler leads."""

    @property
    def token(self) -> int:
        """What shows that it does; 0: it does not."""
        ...

    def lose(self) -> None:
        """Another one leads."""
        ...


class Writer:
    """Gathers changes while a write runs; the newest state of a member wins. Never blocks and never fails."""

    def __init__(self, store: Store, decision_count_max: int, leadership: Leading) -> None:
        self._store = store
        self._leadership = leadership
        self._decision_count_max = decision_count_max
        self._settings: FleetSettings | None = None
        self._members: dict[str, Member] = {}
        self._decisions: list[ScalingDecision] = []
        self._pending = asyncio.Event()
        self._turn = asyncio.Lock()
        self._epoch = 0

    def keep(self, settings: FleetSettings, members: list[Member], decisions: list[ScalingDecision]) -> None:
        """Takes a change."""
        self._settings = settings
        self._members.update({member.instance.instance_id: member for member in members})
        self._decisions = [*self._decisions, *decisions][-self._decision_count_max :]
        self._pending.set()

    async def run(self) -> None:
        """Writes for ever."""
        while True:
            await self._pending.wait()
            if not await self.flush():
                await asyncio.sleep(RETRY_S)

    async def flush(self) -> bool:
        """Writes what is there; False when that is not done.

        Where the store does not answer nothing is lost. Where another autoscaler leads, all is forgotten.
        """
        async with self._turn:
            return await self._flush()

    def forget(self) -> None:
        """Lets go of all that is not written."""
        self._settings, self._members, self._decisions = None, {}, []
        self._pending.clear()
        self._epoch += 1

    async def _flush(self) -> bool:
        if self._settings is None or not self._pending.is_set():
            return True
        self._pending.clear()
        members, decisions = self._members, self._decisions
        self._members, self._decisions = {}, []
        change = FleetState(self._settings, tuple(members.values()), tuple(decisions))
        epoch = self._epoch
        try:
            await asyncio.to_thread(self._store.save, change, self._leadership.token)
        except NotLeader as error:
            log.warning("the fleet is not kept", extra={"fields": {"error": error.message}})
            if epoch == self._epoch:
                self._leadership.lose()
                self.forget()
            return False
        except Unavailable as error:
            log.warning("the fleet is not kept", extra={"fields": {"error": error.message}})
            # What was forgotten while it was written belongs to an engine that does not act any more.
            if epoch == self._epoch:
                self._members = {**members, **self._members}
                self._decisions = [*decisions, *self._decisions][-self._decision_count_max :]
                self._pending.set()
            return False
        return True
