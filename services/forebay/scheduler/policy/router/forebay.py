"""Forebay's own router: a request goes where there is the least to do, once its predicted peak fits."""

from dataclasses import dataclass
from math import ceil

import numpy as np

from forebay.core.anticipation import CONDITIONAL, CONDITIONAL_MEDIAN
from forebay.core.values import SloClass
from forebay.scheduler.policy.router.base import Hold, Route, RouteView, Term, anticipated, check_horizon, lowest

EXPECTED = {"mean": CONDITIONAL, "median": CONDITIONAL_MEDIAN}
OVERFLOW_WEIGHT = 1e9
"""A token too many counts more than any work there may be to do, so that what fits wins over what does not."""


@dataclass(frozen=True, slots=True)
class Forebay:
    """Never overfill a cache: a request that fits nowhere waits in the queue, where order decides who waits, and not in
    an engine, where it would push others out.

    It fits where the peak within `horizon` iterations, with the request at its predicted p90, stays within a share of
    the cache: the sooner its class is owed a first token, the larger, so that there is room for those when they come.
    What runs counts for as long as half of the answers as long as it already is are at most, or, where `expected` is
    "mean", as they are on average: long tails then weigh more while answers are young. Of the instances that it fits
    the one with the least work wins: `prefill_weight` times the prompt tokens before its own, and the prompts
    and expected answers there, which every iteration reads. An instance with nothing on it takes any request. Where
    deferred work does not fit, no younger deferred work is tried.

    Lengths that are too short do little harm, since what outlives them is seen to; lengths that are too long make
    requests wait before empty caches. Where the newest answers, `outcome_count_min` at least, were expected to be
    `overstatement_max` times as long as they were, the predictor is not believed: the fewest requests win.

    Source: ours; the score is PreServe's (section 5 of its summary) with conditional lengths, the horizon its
    artifact's, and the shares the flat best in `preserve_routing` and `mixed_classes`.
    """

    horizon: int = 200
    room_share_fast: float = 0.95
    room_share_normal: float = 0.90
    room_share_deferred: float = 0.65
    prefill_weight: float = 2.0
    overstatement_max: float = 2.0
    outcome_count_min: int = 100
    expected: str = "median"

    def __post_init__(self) -> None:
        check_horizon(self.horizon)
        if not all(0 < self._share(slo_class) <= 10 for slo_class in SloClass):
            raise ValueError("room_share_fast, room_share_normal and room_share_deferred must be above 0, at most 10")
        if self.prefill_weight < 0:
            raise ValueError("prefill_weight must not be negative")
        if self.expected not in EXPECTED:
            raise ValueError(f"expected must be one of {', '.join(EXPECTED)}")

    def _share(self, slo_class: SloClass) -> float:
        if slo_class is SloClass.INTERACTIVE_NORMAL:
            return self.room_share_normal
        return self.room_share_fast if slo_class is SloClass.INTERACTIVE_FAST else self.room_share_deferred

    def route(self, view: RouteView) -> Route | Hold:
        """Scores each instance by its work and what it lacks; holds where each has something and lacks room."""
        seen = view.calibration
        if seen.overstatement > self.overstatement_max and seen.outcome_count >= self.outcome_count_min:
            return Route(lowest(view, view.in_flight_count), view.in_flight_count, "in_flight_count")
        expected = anticipated(view, EXPECTED[self.expected])
        peak = expected.peak_with(view.prompt_tokens, view.predicted_length.p90, self.horizon)
        footprint = expected.footprint_tokens
        scores = footprint + self.prefill_weight * view.prompt_tokens_pending
        lacking = peak - self._share(view.slo_class) * view.observed.kv_tokens_max
        np.maximum(lacking, 0.0, out=lacking)
        if lacking[lacking.argmax()]:
            np.ceil(lacking, out=lacking)
            lacking[view.in_flight_count == 0] = 0.0
            scores += OVERFLOW_WEIGHT * lacking
        index = lowest(view, scores)
        if lacking[index]:
            text = f"its predicted peak is {ceil(lacking[index])} tokens over the room that any cache has for its class"
            return Hold(text, is_for_class=view.slo_class is SloClass.DEFERRED)
        terms = (
            Term("prompts before its own", "tokens", self.prefill_weight, view.prompt_tokens_pending),
            Term("prompts and expected answers", "tokens", 1.0, footprint),
            Term("predicted peak over the room", "tokens", OVERFLOW_WEIGHT, lacking),
        )
        return Route(index, scores, terms=terms)
