"""Dynamo's router by blocks of the key-value cache."""

from dataclasses import dataclass

from forebay.scheduler.policy.router.base import Route, RouteView, Scores, Term, lowest, total


@dataclass(frozen=True, slots=True)
class DynamoKv:
    """Prefill blocks still to be computed plus blocks that decode, the request's own counted in; the least wins.

    `prefill = max(0, active_prefill + incoming - overlap)`, `cost = prefill_load_scale * prefill + active_decode +
    incoming + request_weight * requests`. Prefill counts fully until the first token. Source: ai-dynamo/dynamo,
    lib/kv-router (section 2.1 of the summary of peers): overlap credit 1 for the device, temperature 0, request_weight
    0. Blocks are counted in tokens over `block_tokens`; decoding requests are taken to hold their prompts.
    """

    prefill_load_scale: float = 1.0
    request_weight: float = 0.0
    block_tokens: int = 16

    def __post_init__(self) -> None:
        if self.block_tokens < 1 or min(self.prefill_load_scale, self.request_weight) < 0:
            raise ValueError("block_tokens must be at least 1, prefill_load_scale and request_weight not negative")

    def route(self, view: RouteView) -> Route:
        """Scores each instance by its cost in blocks."""
        size = self.block_tokens
        missing: Scores = view.prompt_tokens_pending + view.prompt_tokens
        if view.prefix_tokens is not None:
            missing = (missing - view.prefix_tokens).clip(0)
        decoding = view.prompt_tokens_in_flight - view.prompt_tokens_pending + view.prompt_tokens
        terms = (
            Term("prompt to be computed", "blocks", self.prefill_load_scale, missing / size),
            Term("cache that decodes", "blocks", 1.0, decoding / size),
            Term("requests in flight", "requests", self.request_weight, view.in_flight_count),
        )
        scores = total(terms)
        return Route(lowest(view, scores), scores, terms=terms)
