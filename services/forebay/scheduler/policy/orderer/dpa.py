"""Four buckets by the time that is left, served in a set order."""

from dataclasses import dataclass

import numpy as np

from forebay.core.units import US_PER_S
from forebay.scheduler.policy.orderer.base import CLASS_COUNT, Keys, OrderView, banded

BUCKETS = ("severe", "recent", "urgent", "calm")
"""Expired for long, expired just now, nearly due, and not so."""


@dataclass(frozen=True, slots=True)
class Dpa:
    """Ranks by bucket of slack, then by class, then by deadline (SageServe's DPA, section 10 of its summary).

    The paper gives neither the order of the buckets nor their bounds. Ours: who can still be in time goes first, then
    who has just missed it, then who has missed it by more than `severe_s`, then who has more than `urgent_s` left. An
    order that serves one bucket only when all others are empty may starve it.
    """

    buckets: tuple[str, ...] = ("urgent", "recent", "severe", "calm")
    severe_s: float = 10.0
    urgent_s: float = 5.0

    def __post_init__(self) -> None:
        if sorted(self.buckets) != sorted(BUCKETS):
            raise ValueError(f"buckets must be the four of {', '.join(BUCKETS)}, the one that is served first at first")
        if min(self.severe_s, self.urgent_s) < 0:
            raise ValueError("severe_s and urgent_s must not be negative")

    def rank(self, view: OrderView) -> Keys:
        """Bucket and class as a band, time left until the promise is due inside it."""
        slack_us = view.due_us - view.now_us
        bucket = np.searchsorted([-self.severe_s * US_PER_S, 0, self.urgent_s * US_PER_S], slack_us, side="right")
        ranks = np.array([self.buckets.index(name) for name in BUCKETS])
        return banded(ranks[bucket] * CLASS_COUNT + view.slo_class, slack_us)
