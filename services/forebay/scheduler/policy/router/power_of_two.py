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
        count, scores = view.eligible_count, view.in_flight_count
        drawn = sorted(self._draws.sample(range(count), min(2, count)))
        if count < len(view.instance_ids):
            drawn = np.flatnonzero(view.eligible)[drawn].tolist()
        first, last = drawn[0], drawn[-1]
        return Route(last if scores[last] < scores[first] else first, scores, "in_flight_count", tuple(drawn))
