"""The instance with the fewest tokens still to generate."""

from dataclasses import dataclass

from forebay.scheduler.policy.router.base import Route, RouteView, lowest


@dataclass(frozen=True, slots=True)
class LeastPredictedTokens:
    """Compares all instances by the predicted tokens that their requests have left (after PreServe's anticipator)."""

    def route(self, view: RouteView) -> Route:
        """Scores each instance by its predicted tokens."""
        return Route(lowest(view, view.predicted_tokens), view.predicted_tokens, "predicted_tokens")
