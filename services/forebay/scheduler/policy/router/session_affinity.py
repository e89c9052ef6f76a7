"""Sessions stay where they are, unless that instance has much more to do than the others."""

from dataclasses import dataclass

import numpy as np

from forebay.scheduler.policy.router.base import Route, RouteView, Term, away_from_home, lowest, total


@dataclass(frozen=True, slots=True)
class SessionAffinity:
    """The instance that last served the session, as long as it has fewer than `load_factor` times the mean of requests
    in flight, plus one; else, and without a session, the least requests.

    The bound is that of consistent hashing with bounded loads (Mirrokni, Thorup, Zadimoghaddam, arXiv 1608.01350), with
    memory in the place of the hash: no session moves because another instance came or went. `load_factor` infinite: a
    session never moves.
    """

    load_factor: float = 1.25

    def __post_init__(self) -> None:
        if not self.load_factor >= 1:
            raise ValueError("load_factor must be at least 1")

    def route(self, view: RouteView) -> Route:
        """Scores an instance by its requests, all but the home by more than any has."""
        if view.home < 0 or not view.eligible[view.home] or not self._has_room(view):
            return Route(lowest(view, view.in_flight_count), view.in_flight_count, "in_flight_count")
        requests = Term("requests in flight", "requests", 1.0, view.in_flight_count)
        terms = (requests, away_from_home(view, float(view.in_flight_count.max())))
        scores = total(terms)
        return Route(lowest(view, scores), scores, terms=terms)

    def _has_room(self, view: RouteView) -> bool:
        mean = float(np.mean(view.in_flight_count, where=view.eligible))
        return bool(view.in_flight_count[view.home] < self.load_factor * mean + 1)
