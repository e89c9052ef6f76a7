"""AIBrix' basic router by virtual token counters: a tenant's tokens say which instance it is near to."""

import random
from dataclasses import dataclass, field

import numpy as np

from forebay.scheduler.policy.router.base import Route, RouteView, Term, lowest, total


@dataclass(frozen=True, slots=True)
class AibrixVtc:
    """The least of `fairness_weight * |place - tokens mod (100 n) / 100|`, `utilization_weight * min(1, requests /
    load_max)` and a draw below `jitter` together, of n instances by place.

    Tokens are what the tenant was served, answers twice. A tenant moves on by one instance every 100 tokens, so what is
    fair about it is that all tenants wander; the order of requests, where VTC is at home, stays as it is (`vtc` is that
    order). Source: vllm-project/aibrix, pkg/plugins/gateway/algorithms/vtc/vtc_basic.go at 0d536acf, weights 0.5 and
    0.5, load_max 100, jitter 0.1. `fairness_weight` 0: least requests, but for the draw.
    """

    fairness_weight: float = 0.5
    utilization_weight: float = 0.5
    load_max: float = 100.0
    jitter: float = 0.1
    seed: int = 0
    _draws: random.Random = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.load_max <= 0 or min(self.fairness_weight, self.utilization_weight, self.jitter) < 0:
            raise ValueError("load_max must be positive, the weights and jitter not negative")
        object.__setattr__(self, "_draws", random.Random(self.seed))

    def route(self, view: RouteView) -> Route:
        """Scores each instance by its distance, its load and a draw."""
        count = len(view.instance_ids)
        target = view.tenant_service % (100 * count) / 100
        terms = (
            Term("distance of the tenant's tokens", "places", self.fairness_weight, np.abs(np.arange(count) - target)),
            Term("load", "share", self.utilization_weight, np.minimum(1.0, view.in_flight_count / self.load_max)),
            Term("draw", "share", 1.0, np.array([self._draws.uniform(0, self.jitter) for _ in range(count)])),
        )
        scores = total(terms)
        return Route(lowest(view, scores), scores, terms=terms)
