"""Translation between the scheduler's messages and our values."""

from lmaas.scheduler.v1 import decision_pb2, request_pb2, scheduler_service_pb2, status_pb2

from forebay.core.scheduling import (
    Answer,
    Decision,
    Flip,
    LeaseStatus,
    OpenLease,
    Placement,
    QueueStatus,
    Rejected,
    Retry,
    ScheduledInstance,
    ShadowRow,
    ShadowStatus,
)
from forebay.wire.convert import (
    candidate_to_proto,
    duration,
    instance_to_proto,
    quantiles_from_proto,
    quantiles_to_proto,
    request_from_proto,
    request_to_proto,
    timestamp,
    write_duration,
    write_quantiles,
)


def placement_to_proto(value: Placement) -> request_pb2.Placement:
    """A placement as a message; its request_id travels beside it."""
    message = request_pb2.Placement()
    _write_placement(value, message)
    return message


def _write_placement(value: Placement, message: request_pb2.Placement) -> None:
    message.lease_id = value.lease_id
    message.decision_id = value.decision_id
    message.instance_id = value.instance_id
    message.grpc_address = value.grpc_address
    write_quantiles(value.predicted, message.predicted_length)
    write_duration(value.lease_ttl_us, message.lease_ttl)
    write_duration(value.held_us, message.held)
    message.triton_priority = value.triton_priority
    message.batch_id = value.batch_id
    message.batch_count = value.batch_count
    message.predicted_by = value.predicted_by
    message.openai_address = value.openai_address


def placement_from_proto(request_id: str, message: request_pb2.Placement) -> Placement:
    """A placement from a message."""
    return Placement(
        request_id=request_id,
        lease_id=message.lease_id,
        decision_id=message.decision_id,
        instance_id=message.instance_id,
        grpc_address=message.grpc_address,
        predicted=quantiles_from_proto(message.predicted_length),
        predicted_by=message.predicted_by,
        lease_ttl_us=message.lease_ttl.ToMicroseconds(),
        held_us=message.held.ToMicroseconds(),
        triton_priority=message.triton_priority,
        batch_id=message.batch_id,
        batch_count=message.batch_count,
        openai_address=message.openai_address,
    )


def answer_to_proto(value: Answer) -> scheduler_service_pb2.ScheduleResponse:
    """The answer to one arrival as a message."""
    answer = scheduler_service_pb2.ScheduleResponse()
    answer.request_id = value.request_id
    if isinstance(value, Placement):
        _write_placement(value, answer.placed)
    elif isinstance(value, Rejected):
        answer.rejected.reason = value.reason
        answer.rejected.message = value.message
        answer.rejected.decision_id = value.decision_id
    else:
        answer.retry.reason = value.reason
        answer.retry.message = value.message
        answer.retry.retry_delay.FromMicroseconds(value.retry_delay_us)
        answer.retry.decision_id = value.decision_id
    return answer


def answer_from_proto(message: scheduler_service_pb2.ScheduleResponse) -> Answer:
    """The answer to one arrival from a message; one without an answer is a Retry at once."""
    match message.WhichOneof("action"):
        case "placed":
            return placement_from_proto(message.request_id, message.placed)
        case "rejected":
            no = message.rejected
            return Rejected(message.request_id, no.reason, no.message, no.decision_id)
        case _:
            later = message.retry
            delay_us = later.retry_delay.ToMicroseconds()
            return Retry(message.request_id, later.reason, later.message, delay_us, later.decision_id)


def open_lease_to_proto(value: OpenLease) -> request_pb2.OpenLease:
    """An open lease as a message."""
    return request_pb2.OpenLease(
        request=request_to_proto(value.request),
        lease_id=value.lease_id,
        instance_id=value.instance_id,
        generated_tokens=value.generated_tokens,
        predicted_length=quantiles_to_proto(value.predicted) if value.predicted else None,
    )


def open_lease_from_proto(message: request_pb2.OpenLease) -> OpenLease:
    """An open lease from a message."""
    return OpenLease(
        request=request_from_proto(message.request),
        lease_id=message.lease_id,
        instance_id=message.instance_id,
        generated_tokens=message.generated_tokens,
        predicted=quantiles_from_proto(message.predicted_length) if message.HasField("predicted_length") else None,
    )


def scheduled_instance_to_proto(value: ScheduledInstance) -> status_pb2.ScheduledInstance:
    """An instance with its load as a message."""
    return status_pb2.ScheduledInstance(
        instance=instance_to_proto(value.instance),
        lease_count=value.lease_count,
        predicted_tokens=value.predicted_tokens,
        concurrency_cap=value.concurrency_cap,
        draining=value.draining,
    )


def queue_to_proto(value: QueueStatus) -> status_pb2.Queue:
    """A queue as a message."""
    return status_pb2.Queue(
        model=value.model,
        held_count=value.held_count,
        oldest_held=duration(value.oldest_held_us),
        lease_count=value.lease_count,
    )


def lease_to_proto(value: LeaseStatus) -> status_pb2.Lease:
    """A lease as a message."""
    return status_pb2.Lease(
        lease_id=value.lease_id,
        request_id=value.request_id,
        instance_id=value.instance_id,
        model=value.model,
        expire_time=timestamp(value.expire_us),
        generated_tokens=value.generated_tokens,
        predicted_length=quantiles_to_proto(value.predicted),
    )


def decision_to_proto(value: Decision) -> decision_pb2.Decision:
    """A decision as a message."""
    message = decision_pb2.Decision(
        decision_id=value.decision_id,
        request_id=value.request_id,
        decision_time=timestamp(value.decided_us),
        verdict=f"VERDICT_{value.verdict.name}",
        instance_id=value.instance_id,
        policies=dict(value.policies),
        inputs=dict(value.inputs),
        predicted_length=quantiles_to_proto(value.predicted),
        predicted_by=value.predicted_by,
        candidates=[candidate_to_proto(one) for one in value.candidates],
        reason=value.reason,
        shadows=dict(value.shadows),
        batch_id=value.batch_id,
    )
    if value.flip is not None:
        message.flip.CopyFrom(_flip_to_proto(value.flip))
    return message


def _flip_to_proto(value: Flip) -> decision_pb2.Flip:
    # "from" is a keyword of Python, so the field is set by name.
    message = decision_pb2.Flip(instance_id=value.instance_id, input=value.input, to=value.to_value)
    setattr(message, "from", value.from_value)
    return message


def shadow_to_proto(value: ShadowStatus) -> status_pb2.Shadow:
    """A shadow as a message."""
    return status_pb2.Shadow(
        name=value.name, policies=dict(value.policies), rows=[_shadow_row_to_proto(row) for row in value.rows]
    )


def _shadow_row_to_proto(value: ShadowRow) -> status_pb2.ShadowRow:
    costs = [status_pb2.ShadowCost(name=one.name, unit=one.unit, mean=one.mean) for one in value.costs]
    return status_pb2.ShadowRow(
        kind=value.kind,
        model=value.model,
        compared_count=value.compared_count,
        different_count=value.different_count,
        costs=costs,
    )
