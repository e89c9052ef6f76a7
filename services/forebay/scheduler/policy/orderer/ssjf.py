"""Shortest predicted service first, and by waiting as soon as somebody has waited too long."""

from dataclasses import dataclass

import numpy as np

from forebay.scheduler.policy.orderer.base import Keys, OrderView


@dataclass(frozen=True, slots=True)
class Ssjf:
    """Ranks by predicted service, `fixed_s` and `token_s` a token (Qiu et al. 2024, section 2.4 of the summary).

    Its guard: where the request that has waited longest has waited more than `starved_s`, or more than `starved_ratio`
    times its own service, all are ranked by waiting instead. Both infinite: without the guard.
    """

    fixed_s: float = 0.1
    token_s: float = 0.02
    starved_s: float = 100.0
    starved_ratio: float = 10.0

    def __post_init__(self) -> None:
        if min(self.fixed_s, self.token_s) < 0:
            raise ValueError("fixed_s and token_s must not be negative")
        if min(self.starved_s, self.starved_ratio) <= 0:
            raise ValueError("starved_s and starved_ratio must be positive")

    def rank(self, view: OrderView) -> Keys:
        """Predicted seconds of service; where the guard has struck, less waiting for more."""
        service_s = np.asarray(self.fixed_s + self.token_s * view.predicted_tokens, dtype=np.float64)
        waited_s = view.waited_s
        longest = int(np.argmax(waited_s))
        if waited_s[longest] > min(self.starved_s, self.starved_ratio * service_s[longest]):
            return -waited_s
        return service_s
