"""The instance whose cache is expected to be the least full at its fullest."""

from dataclasses import dataclass

from forebay.core.anticipation import CONDITIONAL
from forebay.scheduler.policy.router.base import Route, RouteView, anticipated, check_horizon, lowest


@dataclass(frozen=True, slots=True)
class LeastAnticipatedPeak:
    """Compares all instances by the share of their cache that the peak within `horizon` iterations takes, with the
    request on them at its predicted median: what PreServe's anticipator is for, and its router never asks.
    """

    horizon: int = 200

    def __post_init__(self) -> None:
        check_horizon(self.horizon)

    def route(self, view: RouteView) -> Route:
        """Scores each instance by its expected peak."""
        expected = anticipated(view, CONDITIONAL)
        peak = expected.peak_with(view.prompt_tokens, view.predicted_length.p50, self.horizon)
        scores = peak / view.observed.kv_tokens_max
        return Route(lowest(view, scores), scores, "kv_peak_expected")
