"""llm-d's weighted scorers: short queues and empty caches."""

from dataclasses import dataclass

from forebay.scheduler.policy.router.base import Route, RouteView, Scores, Term, lowest, total


@dataclass(frozen=True, slots=True)
class LlmD:
    """The default profile of llm-d's endpoint picker, as a cost: the weighted sum of one less each scorer's score.

    Queue: `(x - min) / (max - min)` over the eligible instances, 0 where all are equal, x the requests that wait.
    Cache: the utilisation. Both as last seen, and with `count_unseen` what was put there since is added, since a sight
    a second would otherwise herd where llm-d's scrapes, 50 ms apart, do not; off: what was seen alone.
    Prefix: the share of the prompt that the instance is not thought to have in its cache; 0 for all where nobody knows.
    Source: llm-d/llm-d-router, config/charts/routerlib/templates/_config.yaml, weights 2, 2, 3.
    """

    queue_weight: float = 2.0
    kv_weight: float = 2.0
    prefix_weight: float = 3.0
    count_unseen: bool = True

    def __post_init__(self) -> None:
        if min(self.queue_weight, self.kv_weight, self.prefix_weight) < 0:
            raise ValueError("queue_weight, kv_weight and prefix_weight must not be negative")

    def route(self, view: RouteView) -> Route:
        """Scores each instance by its weighted cost."""
        terms = [
            Term("queue", "share of the longest", self.queue_weight, self._queue(view)),
            Term("cache in use", "share", self.kv_weight, self._kv(view)),
        ]
        if view.prefix_tokens is not None:
            missing = 1 - view.prefix_tokens / view.prompt_tokens
            terms.append(Term("prompt not in the cache", "share", self.prefix_weight, missing))
        scores = total(terms)
        return Route(lowest(view, scores), scores, terms=tuple(terms))

    def _queue(self, view: RouteView) -> Scores:
        waiting: Scores = view.observed.waiting_count
        if self.count_unseen:
            waiting = waiting + view.unseen_count
        compared = waiting if view.eligible_count == len(waiting) else waiting[view.eligible]
        least, most = compared[compared.argmin()], compared[compared.argmax()]
        costs: Scores = (waiting - least) / max(1, most - least)
        return costs

    def _kv(self, view: RouteView) -> Scores:
        seen = view.observed
        if not self.count_unseen:
            return seen.kv_utilization
        scores: Scores = seen.kv_utilization + view.unseen_prompt_tokens / seen.kv_tokens_max
        return scores
