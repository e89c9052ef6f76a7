"""Highest response ratio next."""

from dataclasses import dataclass

from forebay.scheduler.policy.orderer.base import Keys, OrderView


@dataclass(frozen=True, slots=True)
class Hrrn:
    """Ranks by waiting over predicted service, the highest first (Magnus, section 5 of its summary).

    Service is `fixed_s` and `token_s` for each predicted token (SSJF's values, section 2.4 of the summary of related
    work). Waiting raises everybody's ratio without bound, so that nobody starves.
    """

    fixed_s: float = 0.1
    token_s: float = 0.02

    def __post_init__(self) -> None:
        if self.fixed_s <= 0 or self.token_s < 0:
            raise ValueError("fixed_s must be positive and token_s not negative")

    def rank(self, view: OrderView) -> Keys:
        """The ratio with its sign turned."""
        return -view.waited_s / (self.fixed_s + self.token_s * view.predicted_tokens)
