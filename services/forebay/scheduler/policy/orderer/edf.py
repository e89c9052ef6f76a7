"""Earliest deadline first."""

from dataclasses import dataclass

import numpy as np

from forebay.scheduler.policy.orderer.base import Keys, OrderView


@dataclass(frozen=True, slots=True)
class Edf:
    """Ranks by the time at which the promise of a request is due (SageServe, section 10 of its summary)."""

    def rank(self, view: OrderView) -> Keys:
        """Time left until the promise is due, in microseconds; negative once it is broken."""
        return (view.due_us - view.now_us).astype(np.float64)
