"""MAPS: of the instances that an upper bound of the request fits, the one with the shortest queue."""

from dataclasses import dataclass

import numpy as np

from forebay.core.anticipation import PRESERVE_PAPER
from forebay.scheduler.policy.router.base import Route, RouteView, Term, anticipated, lowest

LACKING_WEIGHT = 1_000.0
"""A token of room that is lacking counts more than any queue: only what fits is compared by its queue."""


@dataclass(frozen=True, slots=True)
class Maps:
    """An answer's bound is its predicted median and the shift that nine of ten of the newest 500 answers stayed within;
    until enough are known, its predicted p90. Every request there has its prompt and its bound reserved; the request
    fits where the cache has as much room left as it needs itself. Where it fits nowhere, the freest takes it.

    Reservations move with the shift, where MAPS keeps that of the moment; the guarantee of the bound, 90 % of answers,
    is that of exchangeable requests. Source: MAPS (ICML 2026), section 2 of the summary on length prediction.
    """

    def route(self, view: RouteView) -> Route:
        """Scores each instance by its requests, and by what it lacks before those."""
        predicted, shift = view.predicted_length, view.calibration.shift_tokens
        if shift is None:
            shift = predicted.p90 - predicted.p50
        reserved = anticipated(view, PRESERVE_PAPER).footprint_tokens + shift * view.in_flight_count
        need = view.prompt_tokens + predicted.p50 + shift
        lacking = np.maximum(0, reserved + need - view.observed.kv_tokens_max)
        scores = view.in_flight_count + LACKING_WEIGHT * lacking
        terms = (
            Term("requests in flight", "requests", 1.0, view.in_flight_count),
            Term("room that its bound lacks", "tokens", LACKING_WEIGHT, lacking),
        )
        return Route(lowest(view, scores), scores, terms=terms)
