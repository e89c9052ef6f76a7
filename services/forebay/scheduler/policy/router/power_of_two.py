"""The better of two instances drawn at random."""

import random
from dataclasses import dataclass, field

import numpy as np

from forebay.scheduler.policy.router.base import Route, RouteView


@dataclass(frozen=True, slots=True)
class PowerOfTwo:
    """Draws two eligible instances and takes the one with fewer requests in flight (Mitzenmacher 2001).

    The draws come from a generator of its own: the same seed and the same views give the same routes.
    """

    seed: int = 0
    _draws: random.Random = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_draws", random.Random(self.seed))

    def route(self, view: RouteView) -> Route:
        """Scores each instance by its requests in flight; only those drawn count."""
        open_indices = np.flatnonzero(view.eligible)
        drawn = sorted(self._draws.sample(range(len(open_indices)), min(2, len(open_indices))))
        indices = tuple(int(open_indices[position]) for position in drawn)
        scores = view.in_flight_count
        return Route(min(indices, key=lambda index: (scores[index], index)), scores, "in_flight_count", indices)
