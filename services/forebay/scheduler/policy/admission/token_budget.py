"""Admits while the answer tokens in flight and held of a model stay within a budget."""

from dataclasses import dataclass

from forebay.core.units import US_PER_S
from forebay.scheduler.policy.admission.base import ADMITTED, AdmissionView, Admitted, Later


@dataclass(frozen=True, slots=True)
class TokenBudget:
    """Admits an arrival whose predicted tokens fit beside those in flight and held, or that finds its model idle.

    One that does not fit comes back when the tokens too many are generated at the rate of the last seconds, or after
    `retry_delay_s` where no rate is known.
    """

    tokens_max: int = 200_000
    retry_delay_s: float = 1.0

    def __post_init__(self) -> None:
        if self.tokens_max < 1:
            raise ValueError("tokens_max must be at least 1")
        if self.retry_delay_s <= 0:
            raise ValueError("retry_delay_s must be positive")

    def admit(self, view: AdmissionView) -> Admitted | Later:
        """Now, or the time until the budget has room."""
        used = view.tokens_in_flight + view.tokens_held
        excess = used + view.predicted_tokens - self.tokens_max
        if excess <= 0 or used == 0:
            return ADMITTED
        delay_s = min(excess, used) / view.tokens_per_s if view.tokens_per_s > 0 else self.retry_delay_s
        return Later(
            "TOKEN_BUDGET_EXHAUSTED",
            f"model {view.model!r} has {used} predicted tokens in flight and held; with {view.predicted_tokens} more "
            f"its budget of {self.tokens_max} is exceeded; come back after the delay",
            round(delay_s * US_PER_S),
        )
