"""The values that a scheduler, its gateways and its readers hand to each other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from forebay.core.values import Candidate, InferenceRequest, Instance, LengthQuantiles


class Verdict(IntEnum):
    """What a decision said; numbers are those of the contract."""

    PLACED = 1
    REJECTED = 2
    RETRY = 3


@dataclass(frozen=True, slots=True)
class Placement:
    """Permission to send one request to one instance for `lease_ttl_us` and as long as it is renewed.

    `batch_id` names the batch that the request runs in, of `batch_count` requests, on an engine with static batches;
    empty where the engine forms its own.
    """

    request_id: str
    lease_id: str
    decision_id: str
    instance_id: str
    grpc_address: str
    predicted: LengthQuantiles
    predicted_by: str
    lease_ttl_us: int
    held_us: int = 0
    triton_priority: int = 0
    batch_id: str = ""
    batch_count: int = 0
    openai_address: str = ""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A final no: `reason` is stable and UPPER_SNAKE_CASE, `message` says what to do."""

    request_id: str
    reason: str
    message: str
    decision_id: str


@dataclass(frozen=True, slots=True)
class Retry:
    """A no for now: the request may come back after `retry_delay_us`."""

    request_id: str
    reason: str
    message: str
    retry_delay_us: int
    decision_id: str


Answer = Placement | Rejected | Retry
"""What one arrival gets, exactly once."""


@dataclass(frozen=True, slots=True)
class OpenLease:
    """A request that runs on the strength of an earlier placement, as its gateway tells it."""

    request: InferenceRequest
    lease_id: str
    instance_id: str
    generated_tokens: int = 0
    predicted: LengthQuantiles | None = None


@dataclass(frozen=True, slots=True)
class LeaseStatus:
    """One request that runs somewhere."""

    lease_id: str
    request_id: str
    instance_id: str
    model: str
    expire_us: int
    generated_tokens: int
    predicted: LengthQuantiles


@dataclass(frozen=True, slots=True)
class ScheduledInstance:
    """An instance with the load that the scheduler has put on it; `predicted_tokens` are still to be generated."""

    instance: Instance
    lease_count: int
    predicted_tokens: int
    concurrency_cap: int
    draining: bool


@dataclass(frozen=True, slots=True)
class QueueStatus:
    """What is held and what runs of one model."""

    model: str
    held_count: int
    oldest_held_us: int
    lease_count: int


@dataclass(frozen=True, slots=True)
class Flip:
    """The smallest change of one of the winner's inputs that would have made `instance_id` win."""

    instance_id: str
    input: str
    from_value: float
    to_value: float


@dataclass(frozen=True, slots=True)
class ShadowCost:
    """What a shadow's choices would cost more than those that were made: a mean over all that were compared."""

    name: str
    unit: str
    mean: float


@dataclass(frozen=True, slots=True)
class ShadowRow:
    """How one policy of a shadow compares on one model."""

    kind: str
    model: str
    compared_count: int
    different_count: int
    costs: tuple[ShadowCost, ...]


@dataclass(frozen=True, slots=True)
class ShadowStatus:
    """One shadow: its policies by kind and what came of them since the start."""

    name: str
    policies: Mapping[str, str]
    rows: tuple[ShadowRow, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """The record of one answer, complete enough to check it by hand; candidates stand best first.

    `batch_id` names the static batch that the request runs in (empty: none).
    """

    decision_id: str
    request_id: str
    decided_us: int
    verdict: Verdict
    instance_id: str
    policies: Mapping[str, str]
    inputs: Mapping[str, float]
    predicted: LengthQuantiles
    predicted_by: str
    candidates: Sequence[Candidate] = field(default=())
    flip: Flip | None = None
    reason: str = ""
    shadows: Mapping[str, str] = field(default_factory=dict)
    batch_id: str = ""
