"""What an admission policy sees and says."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from forebay.core.values import SloClass


class AdmissionView(NamedTuple):
    """One arrival and the load of its model; tokens are answer tokens still to be generated, by predicted medians."""

    model: str
    slo_class: SloClass
    tenant: str
    prompt_tokens: int
    predicted_tokens: int
    tokens_in_flight: int
    tokens_held: int
    lease_count: int
    held_count: int
    ready_count: int
    tokens_per_s: float


@dataclass(frozen=True, slots=True)
class Admitted:
    """Now: the request may be placed or held."""


@dataclass(frozen=True, slots=True)
class Later:
    """Not yet: the request may come back after `retry_delay_us`; the engine keeps the delay within its bounds."""

    reason: str
    message: str
    retry_delay_us: int


@dataclass(frozen=True, slots=True)
class Never:
    """No: the request must not come back."""

    reason: str
    message: str


class Admission(Protocol):
    """Says whether an arrival may enter."""

    def admit(self, view: AdmissionView) -> Admitted | Later | Never:
        """The answer for one arrival; equal views give equal answers."""
        ...
