"""What the metrics service takes and gives: events as they happened, and the snapshot of everything at one time."""

from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

from forebay.core.values import Instance, InstanceLoad, LengthQuantiles, ModelLoad, SloClass


class RequestStatus(IntEnum):
    """How a request ended for its client; numbers are those of the contract."""

    OK = 1
    FAILED = 2
    REJECTED = 3
    CANCELLED = 4


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """What happened to one request, without its text; the prediction stands beside the outcome.

    `ttft_us` is None where there was no token, `predicted_length` where there was no prediction.
    """

    request_id: str
    model: str
    arrival_us: int
    status: RequestStatus
    slo_class: SloClass = SloClass.INTERACTIVE_NORMAL
    tenant: str = ""
    application: str = ""
    region: str = ""
    instance_id: str = ""
    decision_id: str = ""
    prompt_tokens: int = 0
    response_tokens: int = 0
    predicted_length: LengthQuantiles | None = None
    predicted_by: str = ""
    held_us: int = 0
    ttft_us: int | None = None
    end_to_end_us: int = 0
    error_reason: str = ""
    attempt_count: int = 0
    censored: bool = False

    @property
    def end_us(self) -> int:
        """When the last token or the error reached the client."""
        return self.arrival_us + self.end_to_end_us


@dataclass(frozen=True, slots=True)
class QueueSample:
    """What one scheduler holds and has in flight for one model at one time."""

    model: str
    sample_us: int
    held_count: int = 0
    in_flight_count: int = 0
    scheduler_id: str = ""


@dataclass(frozen=True, slots=True)
class InstanceChange:
    """One step in an instance's life: the instance as it stands after it."""

    instance: Instance


EventKind: TypeAlias = RequestRecord | QueueSample | InstanceChange


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened; two events with one id are the same event."""

    event_id: str
    kind: EventKind


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of everything at one time: instances by id, models by name."""

    snapshot_us: int
    instances: tuple[InstanceLoad, ...]
    models: tuple[ModelLoad, ...]
