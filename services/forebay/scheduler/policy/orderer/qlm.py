"""QLM's order: groups by deadline, or as they were planned."""

from dataclasses import dataclass

import numpy as np

from forebay.core.units import US_PER_S
from forebay.scheduler.policy.orderer.base import CLASS_COUNT, Column, Keys, OrderView, banded


@dataclass(frozen=True, slots=True)
class Qlm:
    """Groups of requests that are due within the same `width_s`, the first due first; inside first come, first served.

    Where a planner has ranked groups (planner `qlm`), its order holds, and a request that it does not know goes before
    the first group that is due later. (Section 2.2 of the summary of related work: groups and order; 100 s is the width
    of QLM's code, which floors what is left of a promise, where ours floors the time at which it is due, so that groups
    stay what they are.)
    """

    width_s: float = 100.0

    def __post_init__(self) -> None:
        if self.width_s <= 0:
            raise ValueError("width_s must be positive")

    def rank(self, view: OrderView) -> Keys:
        """Rank of the group as a band, arrival inside it."""
        since_us = view.arrived_us - view.now_us
        if view.planned_rank is None:
            buckets = view.due_us // round(self.width_s * US_PER_S)
            return banded((buckets - buckets.min()) * CLASS_COUNT + view.slo_class, since_us)
        return banded(_bands(view.planned_rank, view.due_us), since_us)


def _bands(rank: Keys, due_us: Column) -> Keys:
    """Twice the rank of what is planned; what is not goes just before the first of all that are due later."""
    is_planned = rank >= 0
    order = np.argsort(due_us[is_planned], kind="stable")
    first = np.minimum.accumulate(rank[is_planned][order][::-1])[::-1]
    later = np.searchsorted(due_us[is_planned][order], due_us, side="right")
    before = np.append(first, rank.max() + 1)[later]
    return np.where(is_planned, 2.0 * rank, 2.0 * before - 1)
