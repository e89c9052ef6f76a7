"""Programs that were served little go before programs that were served much."""

from dataclasses import dataclass

import numpy as np

from forebay.scheduler.policy.orderer.base import Keys, OrderView, banded


@dataclass(frozen=True, slots=True)
class Autellix:
    """Ranks by the attained service of the session in levels, inside a level by arrival (PLAS of Autellix).

    The rule is that of section 2.8 of the summary of related work; a session is the program, and what has none is a
    program of its own. A request enters the level of its session's service: `service_s` seconds a unit of service,
    against the bounds `levels_s`. Once the session has waited, this request included, `starved_ratio` times its
    service, the request goes to the first level. The paper gives neither bounds nor ratio: these are those of a
    reproduction. Service is measured in tokens, at SSJF's 20 ms for a token of an answer.
    """

    levels_s: tuple[float, ...] = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
    starved_ratio: float = 8.0
    service_s: float = 0.01

    def __post_init__(self) -> None:
        if list(self.levels_s) != sorted(self.levels_s) or min(self.levels_s, default=1.0) <= 0:
            raise ValueError("levels_s must be positive and rise")
        if min(self.starved_ratio, self.service_s) <= 0:
            raise ValueError("starved_ratio and service_s must be positive")

    def rank(self, view: OrderView) -> Keys:
        """The level as a band, arrival relative to now inside it."""
        served_s = self.service_s * view.session_service
        level = np.searchsorted(self.levels_s, served_s, side="right")
        waited_s = view.session_waited_s + view.waited_s
        level[waited_s >= self.starved_ratio * served_s] = 0
        return banded(level, view.arrived_us - view.now_us)
