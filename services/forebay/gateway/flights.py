"""One request on its way, and what is told of it: to the scheduler, and to metrics when it ends."""

from dataclasses import dataclass, field, replace
from enum import Enum

from forebay.core.errors import ForebayError
from forebay.core.scheduling import OpenLease, Placement
from forebay.core.values import InferenceRequest, Instance, Outcome
from forebay.gateway.values import NO_PREDICTION, Report, RequestRecord, RequestStatus


class Phase(Enum):
    """What a request waits for."""

    ASKED = "the scheduler's answer"
    WAITING = "room on an instance, while the scheduler is down"
    RUNNING = "tokens"
    ENDED = "what follows from the end of an attempt"


@dataclass(slots=True)
class Flight:
    """A request that has not ended."""

    request: InferenceRequest
    arrival_us: int
    phase: Phase = Phase.ASKED
    asked_us: int = 0
    placement: Placement | None = None
    placed_us: int = 0
    told_us: int = 0
    replica: str = ""
    """Which replica of the scheduler was asked last, or knows the lease."""
    is_known: bool = False
    """Whether the scheduler knows the lease."""
    attempt_count: int = 0
    excluded: set[str] = field(default_factory=set)
    error: ForebayError | None = None
    """Why the last attempt failed."""
    generated_tokens: int = 0
    prompt_tokens: int = 0
    first_token_us: int = 0


def own_placement(flight: Flight, instance: Instance) -> Placement:
    """The placement that the gateway makes by itself, without a lease that the scheduler knows."""
    request_id = flight.request.request_id
    return Placement(
        request_id=request_id,
        lease_id=f"own-{request_id[:100]}-{flight.attempt_count + 1}",
        decision_id="",
        instance_id=instance.instance_id,
        grpc_address=instance.grpc_address,
        predicted=NO_PREDICTION,
        predicted_by="",
        lease_ttl_us=0,
        openai_address=instance.openai_address,
    )


def open_lease(flight: Flight) -> OpenLease:
    """What a scheduler is told of a request that runs."""
    placed = flight.placement
    assert placed is not None
    # The prompt helped to predict; the prediction is made.
    request = replace(flight.request, prompt_head="")
    predicted = None if placed.predicted == NO_PREDICTION else placed.predicted
    return OpenLease(request, placed.lease_id, placed.instance_id, flight.generated_tokens, predicted)


def report(
    flight: Flight,
    status: RequestStatus,
    now_us: int,
    error: ForebayError | None,
    outcome: Outcome | None = None,
) -> Report:
    """What metrics is told of a request that ends."""
    record = RequestRecord(
        request=flight.request,
        status=status,
        arrival_us=flight.arrival_us,
        placed_us=flight.placed_us,
        first_token_us=flight.first_token_us,
        end_us=now_us,
        placement=flight.placement,
        prompt_tokens=flight.prompt_tokens or flight.request.prompt_tokens,
        response_tokens=flight.generated_tokens,
        attempt_count=flight.attempt_count,
        error_reason=error.code if error else "",
        censored=outcome is Outcome.LENGTH,
    )
    return Report(record)
