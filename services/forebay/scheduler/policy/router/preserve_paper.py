"""PreServe's router in a general form: prompts that wait, footprints, and how far the predicted peak overflows."""

from dataclasses import dataclass

import numpy as np

from forebay.core.anticipation import PRESERVE_PAPER
from forebay.scheduler.policy.router.base import Route, RouteView, Term, anticipated, check_horizon, lowest


@dataclass(frozen=True, slots=True)
class PreservePaper:
    """`prefill_weight` times prompt tokens without a first token yet, `footprint_weight` times prompts and predicted
    answers, and `overflow_weight` times the tokens by which the peak expected within `horizon`, with the request, is
    over the share `theta` of the cache.

    An answer that outlives its prediction D is taken to need 0.2 D more, again and again. The formula as printed has
    not been checked: the weights are those of the artifact, 2, 1 and 0, and every result says so; `theta` 0.95 and the
    horizon of 100 iterations are those of its scaling rule. Source: PreServe (arXiv 2504.03702), sections 3 and 5 of
    its summary.
    """

    prefill_weight: float = 2.0
    footprint_weight: float = 1.0
    overflow_weight: float = 0.0
    theta: float = 0.95
    horizon: int = 100

    def __post_init__(self) -> None:
        if min(self.prefill_weight, self.footprint_weight, self.overflow_weight, self.theta) < 0:
            raise ValueError("weights and theta must not be negative")
        check_horizon(self.horizon)

    def route(self, view: RouteView) -> Route:
        """Scores each instance by its weighted tokens."""
        expected = anticipated(view, PRESERVE_PAPER)
        footprint = expected.footprint_tokens
        scores = self.prefill_weight * view.prompt_tokens_pending + self.footprint_weight * footprint
        terms = [
            Term("prompts without a first token", "tokens", self.prefill_weight, view.prompt_tokens_pending),
            Term("prompts and predicted answers", "tokens", self.footprint_weight, footprint),
        ]
        if self.overflow_weight:
            peak = expected.peak_with(view.prompt_tokens, view.predicted_length.p50, self.horizon)
            overflow = np.maximum(0.0, peak - self.theta * view.observed.kv_tokens_max)
            scores = scores + self.overflow_weight * overflow
            terms.append(Term("peak over the share of the cache", "tokens", self.overflow_weight, overflow))
        return Route(lowest(view, scores), scores, terms=tuple(terms))
