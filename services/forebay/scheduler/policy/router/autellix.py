"""Autellix' balancer: long calls stay with their program's instance, short ones go where there is least."""

from dataclasses import dataclass

from forebay.scheduler.policy.router.base import Route, RouteView, Term, away_from_home, lowest, total


@dataclass(frozen=True, slots=True)
class Autellix:
    """A prompt of at most `short_tokens` goes to the least used instance, a longer one to that of its program.

    "Least used" is taken as the least prompt and predicted tokens on an instance. The first call of a program goes to
    the least used one, too, and so does one whose instance is full. Source: Autellix (arXiv 2502.13965),
    section 2.8 of the summary of related work: 2,048 tokens. `short_tokens` above all prompts: no program is pinned.
    """

    short_tokens: int = 2_048

    def __post_init__(self) -> None:
        if self.short_tokens < 0:
            raise ValueError("short_tokens must not be negative")

    def route(self, view: RouteView) -> Route:
        """Scores an instance by the tokens on it, all but a pinned program's by more than any has."""
        tokens = view.predicted_tokens + view.prompt_tokens_in_flight
        terms = [Term("prompt and predicted tokens", "tokens", 1.0, tokens)]
        if view.prompt_tokens > self.short_tokens and view.home >= 0 and view.eligible[view.home]:
            terms.append(away_from_home(view, float(tokens.max())))
        scores = total(terms)
        return Route(lowest(view, scores), scores, terms=tuple(terms))
