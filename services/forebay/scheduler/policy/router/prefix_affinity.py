"""Prompts go where their beginning lies in the cache, as long as the load is even."""

from dataclasses import dataclass

import numpy as np

from forebay.scheduler.policy.router.base import Route, RouteView, Scores, lowest


@dataclass(frozen=True, slots=True)
class PrefixAffinity:
    """SGLang's cache-aware rule: the least requests while the load is uneven, else the longest match above
    `match_min`, else the instance with the least in its cache.

    Uneven: the most requests in flight exceed the least by more than `uneven_count` and `uneven_factor` times. The
    share that matches is of the prompt's tokens. "Least in its cache" is taken as the least prompt tokens in flight,
    since what a cache holds beyond them is not told. Source: section 3 of the summary of related work (one
    version's defaults 32, 1.1, 0.5). `match_min` 1: the rule without a cache.
    """

    uneven_count: int = 32
    uneven_factor: float = 1.1
    match_min: float = 0.5

    def __post_init__(self) -> None:
        if min(self.uneven_count, self.uneven_factor) < 0:
            raise ValueError("uneven_count and uneven_factor must not be negative")
        if not 0 <= self.match_min <= 1:
            raise ValueError("match_min must be from 0 to 1")

    def route(self, view: RouteView) -> Route:
        """Scores each instance by its requests, by what is missing in its cache, or by the prompts it has."""
        if self._is_uneven(view):
            return _by(view, view.in_flight_count, "in_flight_count")
        if view.prefix_tokens is not None:
            matched = int(np.max(view.prefix_tokens, where=view.eligible, initial=0))
            if matched > self.match_min * view.prompt_tokens:
                return _by(view, view.prompt_tokens - view.prefix_tokens, "prompt_tokens_missing")
        return _by(view, view.prompt_tokens_in_flight, "prompt_tokens_in_flight")

    def _is_uneven(self, view: RouteView) -> bool:
        loads = view.in_flight_count[view.eligible]
        least, most = int(loads.min()), int(loads.max())
        return most - least > self.uneven_count and most > self.uneven_factor * least


def _by(view: RouteView, scores: Scores, name: str) -> Route:
    return Route(lowest(view, scores), scores, name)
