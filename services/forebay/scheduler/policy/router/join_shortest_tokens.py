"""The instance with the fewest tokens to work through: prompts not begun and answers not ended."""

from dataclasses import dataclass

from forebay.scheduler.policy.router.base import Route, RouteView, lowest


@dataclass(frozen=True, slots=True)
class JoinShortestTokens:
    """Joins the shortest queue in tokens, counting what is in flight, not only what waits.

    A prompt counts until the first token of its answer is reported. The answer counts with the predicted tokens that
    it has left, or with one token where `count_predicted` is off, as in the original, which knows no lengths.
    `least_predicted_tokens` counts the same answers and no prompts, so it sends a flood of long prompts with short
    answers all to one instance until they begin to answer. Source: splitwise-sim, scheduler.py, TokenJSQScheduler, and
    task.py, where a prompt is taken off when it has been processed.
    """

    count_predicted: bool = True

    def route(self, view: RouteView) -> Route:
        """Scores each instance by its tokens."""
        answers = view.predicted_tokens if self.count_predicted else view.in_flight_count
        scores = view.prompt_tokens_pending + answers
        return Route(lowest(view, scores), scores, "queued_tokens")
