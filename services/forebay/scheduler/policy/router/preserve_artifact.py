"""PreServe's router as its artifact has it: prompts that wait, and whole footprints."""

from dataclasses import dataclass

from forebay.core.anticipation import PRESERVE_ARTIFACT
from forebay.scheduler.policy.router.base import Route, RouteView, Term, anticipated, lowest


@dataclass(frozen=True, slots=True)
class PreserveArtifact:
    """Twice the prompt tokens without a first token yet, and the prompt and predicted answer of all that is there.

    An answer that is 10 tokens past what was predicted counts 30 more, again and again. The 2 stands for the time that
    a token of a prompt takes over that of an answer. What it calls anticipated load is a sum, never a peak in time.
    Source: PreServe's artifact (`scheduler_policy=preserve`, parameter 2), sections 3 and 5 of its summary.
    """

    prefill_weight: float = 2.0
    footprint_weight: float = 1.0

    def __post_init__(self) -> None:
        if min(self.prefill_weight, self.footprint_weight) < 0:
            raise ValueError("prefill_weight and footprint_weight must not be negative")

    def route(self, view: RouteView) -> Route:
        """Scores each instance by its weighted tokens."""
        footprint = anticipated(view, PRESERVE_ARTIFACT).footprint_tokens
        scores = self.prefill_weight * view.prompt_tokens_pending + self.footprint_weight * footprint
        terms = (
            Term("prompts without a first token", "tokens", self.prefill_weight, view.prompt_tokens_pending),
            Term("prompts and predicted answers", "tokens", self.footprint_weight, footprint),
        )
        return Route(lowest(view, scores), scores, terms=terms)
