"""Translation between the metrics service's messages and our values, and the checks that no field rule can say."""

from collections.abc import Iterator

from google.protobuf import duration_pb2
from google.protobuf.message import Message
from lmaas.metrics.v1 import event_pb2, snapshot_pb2

from forebay.core.metrics import Event, InstanceChange, QueueSample, RequestRecord, RequestStatus, Snapshot
from forebay.wire import convert, validate


def event_violations(message: event_pb2.Event, prefix: str) -> Iterator[tuple[str, str]]:
    """Pairs of field path and what is wrong with it; empty for an event that can be converted and stored."""
    yield from validate.violations_of(message, prefix)
    if message.WhichOneof("kind") is None:
        yield f"{prefix}kind", "must be one of request, queue, instance"
    yield from _unstorable(message, prefix)


def _unstorable(message: Message, prefix: str) -> Iterator[tuple[str, str]]:
    for field, value in message.ListFields():
        if isinstance(value, str) and "\0" in value:
            yield prefix + field.name, "must not contain the NUL character"
        elif isinstance(value, Message):
            yield from _unstorable(value, f"{prefix}{field.name}.")


def event_from_proto(message: event_pb2.Event) -> Event:
    """An event from a message without violations."""
    if message.HasField("request"):
        return Event(message.event_id, request_from_proto(message.request))
    if message.HasField("queue"):
        return Event(message.event_id, _queue_from_proto(message.queue))
    return Event(message.event_id, InstanceChange(convert.instance_from_proto(message.instance.instance)))


def event_to_proto(value: Event) -> event_pb2.Event:
    """An event as a message."""
    kind = value.kind
    if isinstance(kind, RequestRecord):
        return event_pb2.Event(event_id=value.event_id, request=request_to_proto(kind))
    if isinstance(kind, QueueSample):
        return event_pb2.Event(event_id=value.event_id, queue=_queue_to_proto(kind))
    change = event_pb2.InstanceChange(instance=convert.instance_to_proto(kind.instance))
    return event_pb2.Event(event_id=value.event_id, instance=change)


def request_from_proto(message: event_pb2.RequestRecord) -> RequestRecord:
    """A request's record from a message; spans that a clock set back made negative become zero."""
    return RequestRecord(
        request_id=message.request_id,
        model=message.model,
        arrival_us=message.arrival_time.ToMicroseconds(),
        status=RequestStatus(message.status),
        slo_class=convert.slo_class_from_proto(message.slo_class),
        tenant=message.tenant,
        application=message.application,
        region=message.region,
        instance_id=message.instance_id,
        decision_id=message.decision_id,
        prompt_tokens=message.prompt_tokens,
        response_tokens=message.response_tokens,
        predicted_length=(
            convert.quantiles_from_proto(message.predicted_length) if message.HasField("predicted_length") else None
        ),
        predicted_by=message.predicted_by,
        held_us=_span_us(message.held),
        ttft_us=_span_us(message.time_to_first_token) if message.HasField("time_to_first_token") else None,
        end_to_end_us=_span_us(message.end_to_end),
        error_reason=message.error_reason,
        attempt_count=message.attempt_count,
        censored=message.censored,
    )


def request_to_proto(value: RequestRecord) -> event_pb2.RequestRecord:
    """A request's record as a message."""
    return event_pb2.RequestRecord(
        request_id=value.request_id,
        model=value.model,
        arrival_time=convert.timestamp(value.arrival_us),
        status=f"REQUEST_STATUS_{value.status.name}",
        slo_class=convert.slo_class_to_proto(value.slo_class),
        tenant=value.tenant,
        application=value.application,
        region=value.region,
        instance_id=value.instance_id,
        decision_id=value.decision_id,
        prompt_tokens=value.prompt_tokens,
        response_tokens=value.response_tokens,
        predicted_length=convert.quantiles_to_proto(value.predicted_length) if value.predicted_length else None,
        predicted_by=value.predicted_by,
        held=convert.duration(value.held_us),
        time_to_first_token=None if value.ttft_us is None else convert.duration(value.ttft_us),
        end_to_end=convert.duration(value.end_to_end_us),
        error_reason=value.error_reason,
        attempt_count=value.attempt_count,
        censored=value.censored,
    )


def snapshot_to_proto(value: Snapshot) -> snapshot_pb2.Snapshot:
    """A snapshot as a message."""
    return snapshot_pb2.Snapshot(
        snapshot_time=convert.timestamp(value.snapshot_us),
        instances=[convert.instance_load_to_proto(load) for load in value.instances],
        models=[convert.model_load_to_proto(load) for load in value.models],
    )


def snapshot_from_proto(message: snapshot_pb2.Snapshot) -> Snapshot:
    """A snapshot from a message."""
    return Snapshot(
        snapshot_us=message.snapshot_time.ToMicroseconds(),
        instances=tuple(convert.instance_load_from_proto(load) for load in message.instances),
        models=tuple(convert.model_load_from_proto(load) for load in message.models),
    )


def _queue_from_proto(message: event_pb2.QueueSample) -> QueueSample:
    return QueueSample(
        model=message.model,
        sample_us=message.sample_time.ToMicroseconds(),
        held_count=message.held_count,
        in_flight_count=message.in_flight_count,
        scheduler_id=message.scheduler_id,
    )


def _queue_to_proto(value: QueueSample) -> event_pb2.QueueSample:
    return event_pb2.QueueSample(
        model=value.model,
        sample_time=convert.timestamp(value.sample_us),
        held_count=value.held_count,
        in_flight_count=value.in_flight_count,
        scheduler_id=value.scheduler_id,
    )


def _span_us(message: duration_pb2.Duration) -> int:
    return max(message.ToMicroseconds(), 0)
