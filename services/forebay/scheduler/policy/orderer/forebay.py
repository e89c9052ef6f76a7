"""Forebay's own order: a request may wait in proportion to its answer, and who has the least time left is next."""

from dataclasses import dataclass

import numpy as np

from forebay.core.units import US_PER_S
from forebay.scheduler.policy.orderer.base import Keys, OrderView


@dataclass(frozen=True, slots=True)
class Forebay:
    """A request may wait for `patience_s_per_token` times its predicted median, but not until after its first token is
    due; where its whole answer is due, until so much time is left before that.

    A wait is felt by the length of the answer that it delays, which is what normalised latency (latency over tokens)
    says; so the short go first, and every one gets first as it ages. A tenant that was served more than the one that
    was served least of those that wait is taken to have come later, by `share_s_per_token` for each token that it is
    ahead (VTC's counters, running answers as long as predicted), at most by as long as it was promised to wait.

    Source: ours; the form is that of the earliest deadline, and the patience that of PreServe's promise, 0.25 s a
    token, less what the tokens themselves take; the share is the best of 0.001 to 0.1 in `fairness`. Zero: no shares.
    """

    patience_s_per_token: float = 0.2
    share_s_per_token: float = 0.01

    def __post_init__(self) -> None:
        if not 0 <= self.patience_s_per_token <= 3_600:
            raise ValueError("patience_s_per_token must be 0 to 3,600 s")
        if self.share_s_per_token < 0:
            raise ValueError("share_s_per_token must not be negative")

    def rank(self, view: OrderView) -> Keys:
        """Keys in microseconds: until when each request may wait."""
        patience_us = self.patience_s_per_token * US_PER_S * view.predicted_tokens
        soon = np.minimum(view.due_us, view.arrived_us + patience_us)
        until_us = np.where(view.is_due_whole != 0, view.due_us - patience_us, soon)
        charged = view.tenant_charged
        ahead_us = self.share_s_per_token * US_PER_S * (charged - charged.min())
        keys: Keys = until_us + np.minimum(ahead_us, view.due_us - view.arrived_us)
        return keys
