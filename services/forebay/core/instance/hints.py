"""What is told about a request beside its lengths: how long its answer is expected to get, and by when."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

PARAMETER_PREFIX = "forebay_"
"""Hints travel as request parameters of these names; a server that does not know them ignores them."""


@dataclass(frozen=True, slots=True)
class Hints:
    """What batchers may heed; 0 means that nobody knows, or that nothing is promised.

    `predicted_tokens` is the median of the predicted length of the answer, `predicted_tokens_p90` its 90th percentile;
    never the true length. The first token is due `ttft_slo_us` after the request reached the instance, each further
    one `tpot_slo_us` after the one before. `session_tokens` were generated for the request's session before.
    Raises ValueError for negative numbers.
    """

    predicted_tokens: int = 0
    predicted_tokens_p90: int = 0
    ttft_slo_us: int = 0
    tpot_slo_us: int = 0
    session_tokens: int = 0

    def __post_init__(self) -> None:
        for name in NAMES:
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")

    def after(self, generated_tokens: int) -> "Hints":
        """The hints of what is left once so much of the answer is there; what is due is due as before."""
        if not generated_tokens or self == NO_HINTS:
            return self
        return replace(
            self,
            predicted_tokens=_left(self.predicted_tokens, generated_tokens),
            predicted_tokens_p90=_left(self.predicted_tokens_p90, generated_tokens),
            session_tokens=self.session_tokens + generated_tokens,
        )

    def scaled(self, factor: float) -> "Hints":
        """The same promises on a clock that runs `factor` times as fast."""
        if factor == 1:
            return self
        return replace(self, ttft_slo_us=round(self.ttft_slo_us * factor), tpot_slo_us=round(self.tpot_slo_us * factor))

    def parameters(self) -> dict[str, int]:
        """The request parameters that carry these hints; what is 0 is left out."""
        return {PARAMETER_PREFIX + name: value for name in NAMES if (value := getattr(self, name))}


NAMES = tuple(field.name for field in fields(Hints))
NO_HINTS = Hints()


def hints_of(parameters: Mapping[str, object]) -> Hints:
    """The hints among a request's parameters; what is missing or no count is unknown."""
    found = {name: parameters.get(PARAMETER_PREFIX + name) for name in NAMES}
    return Hints(**{name: value for name, value in found.items() if type(value) is int and value > 0})


def _left(tokens: int, generated_tokens: int) -> int:
    """A prediction that was overrun expects one token more."""
    return max(1, tokens - generated_tokens) if tokens else 0
