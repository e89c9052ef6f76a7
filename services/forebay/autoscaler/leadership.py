"""Says whether this process leads: of several autoscalers on one database exactly one acts."""

import asyncio
import uuid

from forebay.autoscaler.store import RETRY_AFTER_US, Store
from forebay.core.errors import NotLeader
from forebay.core.fleet import Term
from forebay.core.units import US_PER_S
from forebay.wire.clock import Clock

RENEWALS = 4
"""A term is renewed so often before it runs out; its last part is the margin in which nobody is asked to act."""


NOT_NEW = -1
"""The token of a wish whose process has claimed before: it takes nothing over from its own address."""


class Alone:
    """Leads for ever, where there can be no other."""

    token = 0
    leader = ""

    def may_act(self) -> bool:
        """Always."""
        return True

    def require(self) -> None:
        """Nothing stands against it."""

    def lose(self) -> None:
        """To nobody."""


class Leadership:
    """What this process knows of the term. Only while `may_act` holds is an actuator asked for anything.

    The span in which it holds begins before the store is asked and ends a margin before the store lets others lead, so
    that a process which was asleep finds it over when it wakes. Between that look and the actuator's own call to the
    operating system there is nothing that waits.
    """

    def __init__(self, store: Store, address: str, lease_s: float, clock: Clock) -> None:
        self._store = store
        self._wish = Term(uuid.uuid4().hex, address)
        self._ttl_us = round(lease_s * US_PER_S)
        self._clock = clock
        self._acts_until_us = 0
        self._no_token = 0
        self.token = 0
        self.leader = ""

    @property
    def leads(self) -> bool:
        """Whether this process leads, as far as it knows."""
        return self.token > 0

    def may_act(self) -> bool:
        """Whether it surely does now."""
        return self.leads and self._clock() < self._acts_until_us

    def require(self) -> None:
        """Raises NotLeader, with the address of the one that leads, unless this process does."""
        if not self.leads:
            who = f"the autoscaler at {self.leader} leads this fleet; ask it" if self.leader else "nobody leads yet"
            raise NotLeader(who, retry_after_us=RETRY_AFTER_US)

    def lose(self) -> None:
        """Another one leads."""
        self.token = self._acts_until_us = 0

    async def renew(self) -> None:
        """Leads on, begins to, or learns who does. Raises Unavailable: then what was known holds as long as it does."""
        asked_us = self._clock()
        wish = Term(self._wish.holder, self._wish.address, self.token or self._no_token)
        term = await asyncio.to_thread(self._store.claim, wish, self._ttl_us, asked_us)
        self.leader, self._no_token = term.address, NOT_NEW
        if term.holder != wish.holder or term.token < self.token:
            self.lose()
            return
        self.token = term.token
        self._acts_until_us = asked_us + self._ttl_us - self._ttl_us // RENEWALS

    async def resign(self) -> None:
        """Lets another one lead at once."""
        if self.leads:
            wish = Term(self._wish.holder, self._wish.address, self.token)
            self.lose()
            await asyncio.to_thread(self._store.claim, wish, 0, self._clock())
