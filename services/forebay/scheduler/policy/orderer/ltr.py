"""The predictor's own order, and first of all who has waited too long."""

from dataclasses import dataclass

import numpy as np

from forebay.scheduler.policy.orderer.base import BAND_US, Keys, OrderView


@dataclass(frozen=True, slots=True)
class Ltr:
    """Ranks by the predicted score (learning to rank, Fu et al. 2024, section 3 of the summary of related work).

    Who has waited for `idle_s` goes before all others, by arrival. The paper counts idle steps and takes the priority
    back after some steps of running; here a request that is placed runs to its end, so only the waiting remains, and it
    is ours that it is told in seconds. Infinite: no priority, and long answers may starve.
    """

    idle_s: float = 30.0

    def __post_init__(self) -> None:
        if self.idle_s <= 0:
            raise ValueError("idle_s must be positive")

    def rank(self, view: OrderView) -> Keys:
        """The score, and far below all scores those that waited too long."""
        waited_s = view.waited_s
        return np.where(waited_s >= self.idle_s, -BAND_US - waited_s, view.rank_score)
