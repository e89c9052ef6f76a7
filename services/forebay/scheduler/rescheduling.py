"""Asks now and then which running requests should move, once a shell has said that it can move them."""

from collections.abc import Sequence

import numpy as np

from forebay.core.anticipation import CONDITIONAL
from forebay.core.units import US_PER_S
from forebay.core.values import InstanceState
from forebay.scheduler.actions import Migrate
from forebay.scheduler.deadlines import NEVER_US
from forebay.scheduler.fleet import Fleet
from forebay.scheduler.lanes import Lanes
from forebay.scheduler.policy.rescheduler.base import Rescheduler, RescheduleView, Running


class Rescheduling:
    """When the rescheduler is asked next, `due_us`, and what it is shown; a lease is moved by a later event, or not."""

    def __init__(self, rescheduler: Rescheduler, fleet: Fleet) -> None:
        self._rescheduler = rescheduler
        self._fleet = fleet
        self.due_us = NEVER_US

    def begin(self, now_us: int) -> None:
        """Somebody can move running requests."""
        if self._rescheduler.period_s:
            self.due_us = now_us + round(self._rescheduler.period_s * US_PER_S)

    def moves(self, now_us: int) -> Sequence[Migrate]:
        """What should move now."""
        self.begin(now_us)
        return [one for lanes in self._fleet.models.values() if len(lanes.ids) > 1 for one in self._moves(lanes)]

    def _moves(self, lanes: Lanes) -> list[Migrate]:
        leases = {lease_id: lease for there in lanes.leases for lease_id, lease in there.items()}
        wanted = self._rescheduler.moves(_view(lanes))
        return [Migrate(leases[one.lease_id].placement, lanes.ids[one.destination]) for one in wanted]


def _view(lanes: Lanes) -> RescheduleView:
    standing = lanes.standing
    leaving = InstanceState.DRAINING.name.lower()
    running = [
        [
            Running(name, lease.request.prompt_tokens + lease.generated_tokens)
            for name, lease in there.items()
            if lease.generated_tokens
        ]
        for there in lanes.leases
    ]
    waiting = [
        next((lease.request.prompt_tokens for lease in there.values() if not lease.generated_tokens), 0)
        for there in lanes.leases
    ]
    return RescheduleView(
        np.array([not why for why in standing.blocked]),
        np.array([why == leaving for why in standing.blocked]),
        standing.observed.kv_tokens_max,
        lanes.anticipations.by(CONDITIONAL).peak(1),
        np.array(waiting),
        running,
    )
