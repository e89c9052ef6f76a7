"""Chiron's routing: by the type of the instances, and packed instead of spread."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from forebay.core.values import InstanceRole, SloClass
from forebay.scheduler.policy.router.base import Hold, Mask, Route, RouteView, Scores, Term, lowest

AWAY = 10.0
"""What each step down the list of types costs: more than an empty instance, which is 1."""
CLOSED = 9.0
"""The step of an instance that may not get the request."""
INTERACTIVE_STEPS = np.array([CLOSED, 1.0, 0.0, CLOSED])
DEFERRED_STEPS = np.array([CLOSED, 0.0, CLOSED, 1.0])
"""How far down the list of a class each type is, by the number of its role: interactive requests go to interactive
instances, then mixed ones; deferred work to mixed ones, then batch ones (Chiron's summary, section 3)."""


@dataclass(frozen=True, slots=True)
class Chiron:
    """Interactive requests go to interactive instances and overflow to mixed ones; deferred work takes room that is
    spare on mixed instances, then batch instances, and else waits.

    Among instances of a type the fullest is filled up before the next is opened, so that the share of busy instances
    tells the load; without `packs` the emptiest is taken. Types that a model has none of bar nobody: where all its
    instances are of the other kind, they take everything.

    With `evicts` the engine moves deferred work to the host's memory for interactive requests (`order = "preemptive"`
    and `preemption = "swap"` of an emulated or simulated one; no real engine does): a mixed instance, whose cap is then
    twice its level (puller `chiron`, with `evicts` too), takes interactive requests as if no deferred work were there.
    Without it `reserve_share` of the room on mixed instances is kept from deferred work. (Section 3; packing and the
    share are ours.)
    """

    packs: bool = True
    evicts: bool = False
    reserve_share: float = 0.25

    def __post_init__(self) -> None:
        if not 0 <= self.reserve_share < 1:
            raise ValueError("reserve_share must be at least 0 and below 1")

    def route(self, view: RouteView) -> Route | Hold:
        """Scores by type, then by what is full."""
        is_deferred = view.slo_class is SloClass.DEFERRED
        steps, is_mixed = _steps(view, is_deferred)
        level = np.where(is_mixed & self.evicts, view.concurrency_cap // 2, view.concurrency_cap)
        taken = view.in_flight_count
        if self.evicts and not is_deferred and view.deferred_count is not None:
            taken = taken - view.deferred_count * is_mixed
        room = level * (1 - self.reserve_share) if is_deferred and not self.evicts else level
        is_open: Mask = view.eligible & (steps < CLOSED) & (taken < np.where(is_mixed, np.ceil(room), level))
        if not is_open.any():
            return Hold("no instance of a type that takes the class has room", is_for_class=True)
        return self._filled(view, np.where(is_open, steps, CLOSED), taken / np.maximum(level, 1))

    def _filled(self, view: RouteView, steps: npt.NDArray[np.float64], share: Scores) -> Route:
        free: Scores = np.clip(1 - share if self.packs else share, 0.0, 1.0)
        seats = "free seats" if self.packs else "taken seats"
        terms = (Term("steps down the list of types", "steps", AWAY, steps), Term(seats, "share", 1.0, free))
        scores = AWAY * steps + free
        return Route(lowest(view, scores), scores, terms=terms)


def _steps(view: RouteView, is_deferred: bool) -> tuple[npt.NDArray[np.float64], Mask]:
    """How far down the list of types each instance is, and which are mixed."""
    count = len(view.instance_ids)
    numbers = np.fromiter(view.roles, np.int64, count) if view.roles else np.full(count, InstanceRole.MIXED)
    steps = (DEFERRED_STEPS if is_deferred else INTERACTIVE_STEPS)[numbers]
    if (steps == CLOSED).all():
        return np.zeros(count), np.zeros(count, dtype=np.bool_)
    return steps, numbers == InstanceRole.MIXED
