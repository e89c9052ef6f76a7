"""Translation between the contract's messages and the gateway's values."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias, assert_never

from lmaas.metrics.v1 import event_pb2
from lmaas.scheduler.v1 import pressure_pb2, request_pb2, scheduler_service_pb2, status_pb2

from forebay.core.errors import ForebayError
from forebay.core.values import Instance, InstanceState
from forebay.gateway import refusals
from forebay.gateway.values import NO_PREDICTION, Ask, End, Renew, RequestRecord, Resume, Tell, ToScheduler, Withdraw
from forebay.wire import convert, convert_pressure
from forebay.wire.convert_scheduler import open_lease_to_proto

Traced: TypeAlias = Callable[[str], str]
"""Gives the traceparent of a request by its id; empty where it is not traced."""


def to_schedule_all(
    actions: Sequence[ToScheduler], gateway_id: str, traced: Traced | None = None
) -> scheduler_service_pb2.ScheduleRequest:
    """Actions as one message of the Schedule stream; there must be one."""
    events = [to_schedule(action, gateway_id, traced) for action in actions]
    if len(events) == 1:
        return events[0]
    return scheduler_service_pb2.ScheduleRequest(batch=scheduler_service_pb2.ScheduleBatch(events=events))


def to_schedule(
    action: ToScheduler, gateway_id: str, traced: Traced | None = None
) -> scheduler_service_pb2.ScheduleRequest:
    """An action as a message of the Schedule stream."""
    make = scheduler_service_pb2.ScheduleRequest
    match action:
        case Ask(request):
            arrive = convert.request_to_proto(request)
            if traced is not None and (traceparent := traced(request.request_id)):
                arrive.traceparent = traceparent
            return make(arrive=arrive)
        case Renew(lease_id, generated_tokens):
            return make(progress=request_pb2.Progress(lease_id=lease_id, generated_tokens=generated_tokens))
        case End():
            return make(finish=_finish(action))
        case Withdraw(request_id):
            return make(cancel=request_pb2.Cancel(request_id=request_id))
        case Resume(leases):
            opened = [open_lease_to_proto(one) for one in leases]
            return make(resume=scheduler_service_pb2.Resume(gateway_id=gateway_id, open_leases=opened))
        case Tell(jobs):
            waiting = [convert_pressure.waiting_job_to_proto(one) for one in jobs]
            return make(backlog=pressure_pb2.Backlog(jobs=waiting))
    assert_never(action)


def rejection(message: scheduler_service_pb2.Rejected) -> ForebayError:
    """The error of a final no."""
    return refusals.rejection(message.reason, message.message)


def retry(message: scheduler_service_pb2.Retry) -> ForebayError:
    """The error of a no for now."""
    return refusals.retry(message.reason, message.message, message.retry_delay.ToMicroseconds())


def instances(message: scheduler_service_pb2.WatchInstancesResponse) -> tuple[Instance, ...]:
    """The fleet; an instance that the scheduler drains is draining."""
    return tuple(_instance(one) for one in message.instances)


def event(record: RequestRecord) -> event_pb2.Event:
    """A request's record as an event; its id is the request's."""
    request, placed = record.request, record.placement
    is_predicted = placed is not None and placed.predicted != NO_PREDICTION
    message = event_pb2.RequestRecord(
        request_id=request.request_id,
        model=request.model,
        arrival_time=convert.timestamp(record.arrival_us),
        status=f"REQUEST_STATUS_{record.status.name}",
        slo_class=convert.slo_class_to_proto(request.slo_class),
        tenant=request.tenant,
        application=request.application,
        region=request.region,
        instance_id=placed.instance_id if placed else "",
        decision_id=placed.decision_id if placed else "",
        prompt_tokens=record.prompt_tokens,
        response_tokens=record.response_tokens,
        predicted_length=convert.quantiles_to_proto(placed.predicted) if placed and is_predicted else None,
        predicted_by=placed.predicted_by if placed else "",
        held=convert.duration(record.placed_us - record.arrival_us) if record.placed_us else None,
        time_to_first_token=(
            convert.duration(record.first_token_us - record.arrival_us) if record.first_token_us else None
        ),
        end_to_end=convert.duration(record.end_us - record.arrival_us),
        error_reason=record.error_reason,
        attempt_count=record.attempt_count,
        censored=record.censored,
    )
    return event_pb2.Event(event_id=request.request_id, request=message)


def _finish(action: End) -> request_pb2.Finish:
    return request_pb2.Finish(
        lease_id=action.lease_id,
        outcome=f"OUTCOME_{action.outcome.name}",
        generated_tokens=action.generated_tokens,
        prompt_tokens=action.prompt_tokens,
    )


def _instance(message: status_pb2.ScheduledInstance) -> Instance:
    instance = convert.instance_from_proto(message.instance)
    return replace(instance, state=InstanceState.DRAINING) if message.draining else instance
