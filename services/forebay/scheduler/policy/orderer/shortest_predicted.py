"""Shortest predicted answer first, with ageing."""

from dataclasses import dataclass

import numpy as np

from forebay.scheduler.policy.orderer.base import Keys, OrderView


@dataclass(frozen=True, slots=True)
class ShortestPredicted:
    """Ranks by predicted median length less what waiting earns (speculative shortest job first, Qiu et al. 2024).

    Each second of waiting is worth `ageing_tokens_per_s` tokens, so that an answer longer by n tokens is overtaken only
    by requests that arrive within n / ageing_tokens_per_s seconds after it. Zero: no ageing, and long ones may starve.
    """

    ageing_tokens_per_s: float = 50.0

    def __post_init__(self) -> None:
        if self.ageing_tokens_per_s < 0:
            raise ValueError("ageing_tokens_per_s must not be negative")

    def rank(self, view: OrderView) -> Keys:
        """Predicted tokens less the tokens earned by waiting."""
        keys: Keys = view.predicted_tokens.astype(np.float64) - self.ageing_tokens_per_s * view.waited_s
        return keys
