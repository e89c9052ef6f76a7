"""The instance whose key-value cache is the emptiest."""

from dataclasses import dataclass

from forebay.scheduler.policy.router.base import Route, RouteView, lowest


@dataclass(frozen=True, slots=True)
class LeastKv:
    """Compares all instances by the share of their key-value cache that is in use.

    The share that was last seen, and the prompts put there since over the tokens that the cache has room for; where
    nothing was seen these are all prompts in flight. Source: AIBrix, gateway plugin `least-kv-cache`, which compares
    what was last seen alone and so sends all requests between two sights to one instance.
    """

    def route(self, view: RouteView) -> Route:
        """Scores each instance by its expected utilisation."""
        scores = view.observed.kv_utilization + view.unseen_prompt_tokens / view.observed.kv_tokens_max
        return Route(lowest(view, scores), scores, "kv_utilization_expected")
