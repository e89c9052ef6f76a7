"""First come, first served."""

from dataclasses import dataclass

import numpy as np

from forebay.scheduler.policy.orderer.base import Keys, OrderView


@dataclass(frozen=True, slots=True)
class Fcfs:
    """Ranks by arrival: nobody starves and nobody overtakes."""

    def rank(self, view: OrderView) -> Keys:
        """Arrival relative to now, in microseconds."""
        return (view.arrived_us - view.now_us).astype(np.float64)
