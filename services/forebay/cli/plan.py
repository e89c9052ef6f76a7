"""Deals requests: which prompt, model and class each one gets, from a seed, so that equal options give equal load."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from forebay.cli.loaders import Arrival, Prompt
from forebay.core.values import SloClass

CLASS_NAMES = {
    "interactive-fast": SloClass.INTERACTIVE_FAST,
    "interactive-normal": SloClass.INTERACTIVE_NORMAL,
    "deferred": SloClass.DEFERRED,
}
"""The classes as the gateway's header names them."""


@dataclass(frozen=True, slots=True)
class PlannedRequest:
    """One request before it is sent; `at_s` counts from the start of the load."""

    index: int
    at_s: float
    prompt: Prompt
    model: str
    slo_class: str
    tokens_max: int | None = None


class Dealer:
    """Deals the prompts in a shuffled order, again from the start when they run out; models and classes at random."""

    def __init__(
        self,
        prompts: Sequence[Prompt],
        models: Sequence[str],
        slo_classes: Sequence[str],
        tokens_max: int | None,
        seed: int,
    ) -> None:
        if not prompts or not models or not slo_classes:
            raise ValueError("a dealer needs at least one prompt, one model and one class")
        self._prompts, self._models, self._slo_classes = prompts, models, slo_classes
        self._tokens_max = tokens_max
        self._rng = np.random.default_rng(seed)
        self._deck: list[int] = []
        self._dealt = 0

    def deal(self, at_s: float) -> PlannedRequest:
        """The next request."""
        if not self._deck:
            self._deck = [int(index) for index in self._rng.permutation(len(self._prompts))]
        request = PlannedRequest(
            index=self._dealt,
            at_s=at_s,
            prompt=self._prompts[self._deck.pop()],
            model=self._models[int(self._rng.integers(len(self._models)))],
            slo_class=self._slo_classes[int(self._rng.integers(len(self._slo_classes)))],
            tokens_max=self._tokens_max,
        )
        self._dealt += 1
        return request


def arrival_times(
    arrivals: Sequence[Arrival], start_s: float, duration_s: float | None, rate_scale: float, limit: int | None
) -> Iterator[float]:
    """When to send, in seconds from the start of the load.

    Takes the trace from `start_s` on, `rate_scale` times as fast (2 doubles the rate), for `duration_s` of load or
    until it ends, and at most `limit` requests.
    """
    sent = 0
    for arrival in arrivals:
        at_s = (arrival.at_s - start_s) / rate_scale
        if at_s < 0:
            continue
        if (duration_s is not None and at_s >= duration_s) or (limit is not None and sent >= limit):
            return
        sent += 1
        yield at_s
