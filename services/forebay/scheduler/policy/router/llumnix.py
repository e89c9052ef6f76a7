"""Llumnix' dispatch: the freest instance, by decode steps that each request there has room for."""

from dataclasses import dataclass

import numpy as np

from forebay.core.anticipation import CONDITIONAL
from forebay.scheduler.policy.router.base import Route, RouteView, anticipated, lowest

IDLE_REQUESTS = 0.5
"""An idle instance counts half a request: it is freer than any other, and its freeness stays a number."""


@dataclass(frozen=True, slots=True)
class Llumnix:
    """Freeness (M - sum V) / B: the free tokens of the cache over the requests there, the steps that each of them can
    still go. The highest wins; the score is its negative.

    V is what a running request holds now, by what was last reported of it; all that waits counts among the B requests.
    No length is predicted. Source: Llumnix (OSDI 2024, arXiv 2406.03243) and its code at v0 without defragmentation
    (remaining_steps = available_blocks / num_requests), section 2.1 of the summary of related systems.
    """

    def route(self, view: RouteView) -> Route:
        """Scores each instance by its freeness."""
        held = anticipated(view, CONDITIONAL).peak(1)
        scores = (held - view.observed.kv_tokens_max) / np.maximum(view.in_flight_count, IDLE_REQUESTS)
        return Route(lowest(view, scores), scores, "negative_freeness_steps")
