"""QLM's virtual queues: the instance that a plan names, else the one with the fewest requests."""

from dataclasses import dataclass

import numpy as np

from forebay.scheduler.policy.router.base import Route, RouteView, Term, lowest, total

AWAY = 1e9
"""What an instance costs that the plan does not name: more requests than ever run."""


@dataclass(frozen=True, slots=True)
class Qlm:
    """The instance whose virtual queue holds the request's group; where that is full, or none is, the emptiest.

    In QLM an instance takes from its own queue alone. Here all instances of a model serve it alike and none is swapped,
    so keeping one idle beside a full queue would gain nothing. (Section 2.2 of the summary of related work.)
    """

    def route(self, view: RouteView) -> Route:
        """Scores each instance by the plan, then by requests in flight."""
        away = np.arange(len(view.instance_ids)) != view.planned if view.planned >= 0 else np.zeros(len(view.eligible))
        terms = (
            Term("outside the planned queue", "instances", AWAY, away),
            Term("requests in flight", "requests", 1.0, view.in_flight_count),
        )
        scores = total(terms)
        return Route(lowest(view, scores), scores, terms=terms)
