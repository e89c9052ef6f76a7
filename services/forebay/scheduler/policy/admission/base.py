"""What an admission policy sees and says."""

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from forebay.core.units import US_PER_S
from forebay.core.values import SloClass


class Quota(NamedTuple):
    """The token bucket of a tenant as an arrival finds it; `tokens` below 0 are owed.

    `promised_tokens` are set aside for those that were told to come back; `is_promised`: this arrival is one of them.
    """

    tokens: float
    tokens_max: float
    tokens_per_s: float
    promised_tokens: float = 0.0
    is_promised: bool = False


class AdmissionView(NamedTuple):
    """One arrival and the load of its model; tokens are answer tokens still to be generated, by predicted medians.

    `quota` is that of the tenant, None where it has none. `slack_us` is the time until the first token is due, of
    requests with a deadline of their own and of deferred work the whole answer. `tightest_itl_us` is the shortest time
    between tokens that any class is promised, and `itl_us` that of this one.

    Only for policies that look ahead: `wait_us` is how long the arrival would be held, behind all that the orderer
    would serve before it, at the pace at which requests end; 0 where it would be placed at once or no pace is known.
    `virtual_count` are the requests that run, each counted `tightest_itl_us` over what its own class is promised.
    """

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
    quota: Quota | None = None
    slack_us: int = 0
    tightest_itl_us: int = 0
    itl_us: int = 0
    wait_us: int = 0
    virtual_count: float = 0.0


@dataclass(frozen=True, slots=True)
class Admitted:
    """Now: the request may be placed or held."""


ADMITTED = Admitted()


@dataclass(frozen=True, slots=True)
class Later:
    """Not yet: the request may come back after `retry_delay_us`; the engine keeps the delay within its bounds.

    Not so where `is_promise`: then it is told as it is, and the tenant's quota keeps it.
    """

    reason: str
    message: str
    retry_delay_us: int
    is_promise: bool = False


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


def looks_ahead(admission: Any) -> bool:
    """Whether a policy wants to know how long an arrival would wait: such a one says `looks_ahead = True`."""
    return bool(getattr(admission, "looks_ahead", False))


def looks(admission: Any) -> bool:
    """Whether a policy looks at what it is asked about: one that admits everything says `looks = False`."""
    return bool(getattr(admission, "looks", True))


def in_time(view: AdmissionView, margin: float) -> Admitted | Later:
    """Now, or, where `margin` times the wait is more time than there is, when it would have shrunk to that."""
    wait_us = round(margin * view.wait_us)
    late_us = wait_us - view.slack_us
    if late_us <= 0:
        return ADMITTED
    return Later(
        "SLO_INFEASIBLE",
        f"the request would wait {wait_us / US_PER_S:.1f} s and is due in {view.slack_us / US_PER_S:.1f} s; come "
        "back after the delay, or give it a looser class or deadline",
        late_us,
    )
