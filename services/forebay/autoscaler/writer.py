"""Writes changes of the fleet to the store in the background, in order, and again while the store does not answer."""

import asyncio
import logging

from forebay.autoscaler.store import Store
from forebay.core.errors import Unavailable
from forebay.core.fleet import FleetSettings, FleetState, Member, ScalingDecision

log = logging.getLogger(__name__)

RETRY_S = 1.0


class Writer:
    """Gathers changes while a write runs; the newest state of a member wins. Never blocks and never fails."""

    def __init__(self, store: Store, decision_count_max: int) -> None:
        self._store = store
        self._decision_count_max = decision_count_max
        self._settings: FleetSettings | None = None
        self._members: dict[str, Member] = {}
        self._decisions: list[ScalingDecision] = []
        self._pending = asyncio.Event()

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
        """Writes what is there; False when the store does not answer, and then nothing is lost."""
        self._pending.clear()
        if self._settings is None:
            return True
        members, decisions = self._members, self._decisions
        self._members, self._decisions = {}, []
        try:
            await asyncio.to_thread(
                self._store.save, FleetState(self._settings, tuple(members.values()), tuple(decisions))
            )
        except Unavailable as error:
            log.warning("the fleet is not kept", extra={"fields": {"error": error.message}})
            self._members = {**members, **self._members}
            self._decisions = [*decisions, *self._decisions][-self._decision_count_max :]
            self._pending.set()
            return False
        return True
