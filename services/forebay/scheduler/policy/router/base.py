"""What a router sees and says."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from forebay.core.anticipation import Anticipated, Anticipations, LengthRule
from forebay.core.errors import ConfigError
from forebay.core.values import InstanceRole, LengthQuantiles, SloClass

Ints: TypeAlias = npt.NDArray[np.int64]
Scores: TypeAlias = npt.NDArray[Any]
Mask: TypeAlias = npt.NDArray[np.bool_]

KV_TOKENS_UNKNOWN = 100_000
"""Taken for the room in the key-value cache of an instance that does not tell it: about an 8B model on 40 GB."""
HORIZON_MAX = 100_000
"""Iterations ahead that may be asked for: what is kept of an instance grows with them."""

# Named tuples, not dataclasses: they are as immutable, and one is made for each request in a third of the time.


class Observed(NamedTuple):
    """What was last seen of each instance from outside, and how many tokens its key-value cache has room for.

    `told` says which instances were seen to tell anything; what one does not tell is 0.
    """

    told: Mask
    running_count: Ints
    waiting_count: Ints
    kv_utilization: npt.NDArray[np.float64]
    kv_tokens_max: Ints


class Calibration(NamedTuple):
    """How the newest answers of a model, so many, became beside what was predicted of them.

    Nine of ten answers were at most `shift_tokens` longer than their median (None while too few are known);
    `coverage_p90` of them were at most as long as their p90, and `overstatement` is what was expected of all over what
    they were.
    """

    outcome_count: int
    shift_tokens: int | None
    coverage_p90: float
    overstatement: float


class Calibrated(Protocol):
    """Who tells the same when asked, and judges no sooner."""

    @property
    def outcome_count(self) -> int:
        """Answers that are known."""

    @property
    def shift_tokens(self) -> int | None:
        """As in Calibration."""

    @property
    def coverage_p90(self) -> float:
        """As in Calibration."""

    @property
    def overstatement(self) -> float:
        """As in Calibration."""


UNCALIBRATED = Calibration(0, None, 0.9, 1.0)


class RouteView(NamedTuple):
    """One request and the instances of its model, sorted by id; at least one is eligible; the arrays are read-only.

    What the scheduler has put on each instance: `in_flight_count` requests with `prompt_tokens_in_flight`, of which
    `prompt_tokens_pending` belong to requests that have given no token yet, and `predicted_tokens` still to be
    generated. `unseen_count` requests with `unseen_prompt_tokens` were put there since `observed`; they are all that
    is in flight where nothing was ever seen.

    `turn_index` is where a rotation goes on: the instance after the one that the model's last request got.

    `regions` and `roles` of the instances are empty where all are local and mixed. `deferred_count` are the requests in
    flight that are deferred work, `released_count` those of them that were put there since a request last ended in the
    region of the instance or held ones were last reviewed. `home` is the index of the instance that last served the
    request's session, -1 where none did; `prefix_tokens` is how much of the prompt each instance is thought to have in
    its cache, None where nobody knows. The request came at `arrived_us`. `anticipated` is asked for what is expected of
    each instance, None where nobody follows that, and `calibration` for how predictions have held. `planned` is the
    index of the instance that a plan names for the request, -1 where none does.
    """

    instance_ids: tuple[str, ...]
    eligible: Mask
    eligible_count: int
    concurrency_cap: npt.NDArray[np.int32]
    in_flight_count: Ints
    predicted_tokens: Ints
    prompt_tokens_in_flight: Ints
    prompt_tokens_pending: Ints
    unseen_count: Ints
    unseen_prompt_tokens: Ints
    observed: Observed
    turn_index: int
    prompt_tokens: int
    predicted_length: LengthQuantiles
    slo_class: SloClass
    now_us: int = 0
    region: str = "local"
    regions: tuple[str, ...] = ()
    roles: tuple[InstanceRole, ...] = ()
    deferred_count: Ints | None = None
    home: int = -1
    prefix_tokens: Ints | None = None
    anticipated: Anticipations | None = None
    calibration: Calibrated = UNCALIBRATED
    released_count: Ints | None = None
    arrived_us: int = 0
    tenant_service: float = 0.0
    planned: int = -1


class Term(NamedTuple):
    """One part of a score: `weight` times the `values` of the instances, which are in `unit`."""

    name: str
    unit: str
    weight: float
    values: Scores


@dataclass(frozen=True, slots=True)
class Route:
    """The winner with the scores of all: the lowest eligible score wins, and the smallest id wins a tie.

    `score_input` names the one input that the score is, or is empty for a mixture, of which `terms` tell the parts:
    where there are any, the score is the sum of their weights times their values. `drawn` are the only indices that
    were compared, where a router compares some.
    """

    index: int
    scores: Scores
    score_input: str = ""
    drawn: tuple[int, ...] | None = None
    terms: tuple[Term, ...] = ()


@dataclass(frozen=True, slots=True)
class Hold:
    """No instance yet, though some could take the request: it stays held until something changes.

    `is_for_class` says the same of all requests of its class that came no earlier: they are not asked for one by one.
    """

    reason: str
    is_for_class: bool = False


class Router(Protocol):
    """Says which instance a request goes to."""

    def route(self, view: RouteView) -> Route | Hold:
        """The choice among the eligible instances; equal views give equal routes, given equal draws."""
        ...


def total(terms: Sequence[Term]) -> Scores:
    """The scores that the terms add up to; there must be one."""
    first, *others = (term.weight * term.values for term in terms)
    return sum(others, start=first)


def away_from_home(view: RouteView, most: float) -> Term:
    """What keeps a request with its session: more than any other score, `most`, for all but the session's home."""
    away = np.ones(len(view.instance_ids), dtype=np.int64)
    away[view.home] = 0
    return Term("away from the session's home", "instances", most + 1, away)


def lowest(view: RouteView, scores: Scores) -> int:
    """Index of the lowest eligible score; the first, hence the smallest id, of equal ones."""
    if view.eligible_count == len(view.instance_ids):
        return int(scores.argmin())
    return int(np.where(view.eligible, scores, np.inf).argmin())


def anticipated(view: RouteView, rule: LengthRule) -> Anticipated:
    """The load that is expected by a rule; raises ConfigError where nobody follows it."""
    if view.anticipated is None:
        raise ConfigError(
            "the router asks for the anticipated load, which direct runs do not follow: set direct = false"
        )
    return view.anticipated.by(rule)


def check_horizon(iterations: int) -> None:
    """Raises ValueError for a number of iterations ahead that nobody anticipates."""
    if not 1 <= iterations <= HORIZON_MAX:
        raise ValueError(f"horizon must be 1 to {HORIZON_MAX:,} iterations")
