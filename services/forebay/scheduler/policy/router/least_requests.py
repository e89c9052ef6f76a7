"""The instance with the fewest requests in flight."""

from dataclasses import dataclass

from forebay.scheduler.policy.router.base import Route, RouteView, lowest


@dataclass(frozen=True, slots=True)
class LeastRequests:
    """Compares all instances by their requests in flight."""

    def route(self, view: RouteView) -> Route:
        """Scores each instance by its requests in flight."""
        return Route(lowest(view, view.in_flight_count), view.in_flight_count, "in_flight_count")
