"""The values and actions of the gateway's engine."""

from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

from forebay.core.errors import ForebayError
from forebay.core.pressure import WaitingJob
from forebay.core.scheduling import OpenLease, Placement
from forebay.core.values import InferenceRequest, LengthQuantiles, Outcome, WakeAt

NO_PREDICTION = LengthQuantiles(0, 0, 0, 0)
"""Stands in placements that the gateway gives by itself."""


class RequestStatus(IntEnum):
    """How a request ended for its client; numbers are those of the contract."""

    OK = 1
    FAILED = 2
    REJECTED = 3
    CANCELLED = 4


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """What happened to one request, without its text; times are in microseconds, 0 where there was none."""

    request: InferenceRequest
    status: RequestStatus
    arrival_us: int
    placed_us: int
    first_token_us: int
    end_us: int
    placement: Placement | None
    prompt_tokens: int
    response_tokens: int
    attempt_count: int
    error_reason: str
    censored: bool


@dataclass(frozen=True, slots=True)
class Resume:
    """Action: tell a replica of the scheduler all that runs on leases of its; the first that it hears of a stream."""

    leases: tuple[OpenLease, ...]
    to: str = ""


@dataclass(frozen=True, slots=True)
class Ask:
    """Action: ask the scheduler for an instance."""

    request: InferenceRequest
    to: str = ""


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Action: tell the scheduler that a request is its business no more, whether it waits or runs."""

    request_id: str
    to: str = ""


@dataclass(frozen=True, slots=True)
class Renew:
    """Action: tell the scheduler how far a request has come."""

    lease_id: str
    generated_tokens: int
    to: str = ""


@dataclass(frozen=True, slots=True)
class End:
    """Action: tell the scheduler that a lease ended."""

    lease_id: str
    outcome: Outcome
    generated_tokens: int
    prompt_tokens: int
    to: str = ""


@dataclass(frozen=True, slots=True)
class Tell:
    """Action: tell a replica of the scheduler what deferred work waits of the models that are its."""

    jobs: tuple[WaitingJob, ...]
    to: str = ""


@dataclass(frozen=True, slots=True)
class Attempt:
    """Action: send the request to this instance."""

    request_id: str
    placement: Placement


@dataclass(frozen=True, slots=True)
class Fail:
    """Action: answer the client with this error."""

    request_id: str
    error: ForebayError


@dataclass(frozen=True, slots=True)
class Report:
    """Action: tell metrics how a request ended."""

    record: RequestRecord


ToScheduler: TypeAlias = Resume | Ask | Withdraw | Renew | End | Tell
"""What goes to the replica that it names."""
Action: TypeAlias = ToScheduler | Attempt | Fail | Report | WakeAt
