"""Llumnix' rescheduling: from the fullest instances to the freest, one request a pair."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from forebay.scheduler.policy.rescheduler.base import Move, RescheduleView, Running, Tokens

Steps = npt.NDArray[np.float64]
CHOICES = ("shortest", "longest", "newest")
IDLE_REQUESTS = 0.5
"""An idle instance counts half a request, so that its freeness stays a number."""


@dataclass(frozen=True, slots=True)
class Llumnix:
    """Pairs instances whose freeness is below a threshold with those above it, the least free with the freest.

    Freeness is the free tokens of the cache, less the prompt of the first that waits, over the requests that run and
    that first one: the steps that each can still go; that of an instance that drains is below any other. The threshold
    is `threshold_blocks` of `block_tokens` for each request. Of the fuller one the `choice` moves: the shortest by now
    (SR), the longest (LR) or the newest (LCR); with `balanced`, only where the freer one stays the freer one and above
    the threshold. Source: Llumnix (OSDI 2024, arXiv 2406.03243) and its code at v0 (migrate_out_threshold -3, SR,
    pairing "defrag"), section 2.1 of the summary of related systems. There it is asked every 0.05 s; here every second,
    which is how often running requests report.
    """

    period_s: float = 1.0
    threshold_blocks: float = 3.0
    block_tokens: int = 16
    choice: str = "shortest"
    balanced: bool = False

    def __post_init__(self) -> None:
        if not 0.01 <= self.period_s <= 3_600:
            raise ValueError("period_s must be 0.01 to 3,600")
        if self.block_tokens < 1:
            raise ValueError("block_tokens must be at least 1")
        if self.choice not in CHOICES:
            raise ValueError(f"choice must be one of {', '.join(CHOICES)}, not {self.choice!r}")

    def moves(self, view: RescheduleView) -> Sequence[Move]:
        """One move for each pair that has something to move."""
        freeness = np.where(view.is_leaving, -np.inf, _freeness(view, np.zeros(len(view.may_take), dtype=np.int64)))
        threshold = self.threshold_blocks * self.block_tokens
        order = np.argsort(freeness, kind="stable").tolist()
        sources = [index for index in order if freeness[index] < threshold and view.running[index]]
        free = [index for index in reversed(order) if freeness[index] > threshold and view.may_take[index]]
        pairs = ((source, to, self._chosen(view.running[source])) for source, to in zip(sources, free, strict=False))
        return [
            Move(one.lease_id, to)
            for source, to, one in pairs
            if not self.balanced or self._stays_freer(view, source, to, one)
        ]

    def _chosen(self, running: Sequence[Running]) -> Running:
        if self.choice == "newest":
            return running[-1]
        pick = min if self.choice == "shortest" else max
        return pick(running, key=lambda one: one.context_tokens)

    def _stays_freer(self, view: RescheduleView, source: int, to: int, one: Running) -> bool:
        change = np.zeros(len(view.may_take), dtype=np.int64)
        change[source], change[to] = -1, 1
        after = _freeness(view._replace(held_tokens=view.held_tokens + change * one.context_tokens), change)
        return bool(after[to] >= self.threshold_blocks * self.block_tokens and after[to] >= after[source])


def _freeness(view: RescheduleView, change: Tokens) -> Steps:
    """Steps that each request can still go, where instances run so many more or fewer."""
    counts = np.array([len(one) for one in view.running]) + change + (view.waiting_tokens > 0)
    steps: Steps = (view.kv_tokens_max - view.held_tokens - view.waiting_tokens) / np.maximum(counts, IDLE_REQUESTS)
    return steps
