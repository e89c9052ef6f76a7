"""Events and snapshots cross the wire unchanged, and what could not be stored is refused before."""

import pytest
from google.protobuf import duration_pb2, timestamp_pb2
from hypothesis import given
from hypothesis import strategies as st
from lmaas.common.v1 import instance_pb2
from lmaas.metrics.v1 import event_pb2

from forebay.core.metrics import Event, InstanceChange, QueueSample, RequestRecord, RequestStatus, Snapshot
from forebay.core.values import Instance, InstanceLoad, InstanceState, LengthQuantiles, ModelLoad, SloClass
from forebay.wire.convert_metrics import (
    event_from_proto,
    event_to_proto,
    event_violations,
    snapshot_from_proto,
    snapshot_to_proto,
)

text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=15)
names = text.filter(bool)
count = st.integers(0, 2**32 - 1)
span_us = st.integers(0, 2**45)
time_us = st.integers(0, 253_402_300_799_999_999)
quantiles = st.lists(st.integers(0, 2**20), min_size=4, max_size=4).map(lambda q: LengthQuantiles(*sorted(q)))
records = st.builds(
    RequestRecord,
    request_id=names,
    model=names,
    arrival_us=time_us,
    status=st.sampled_from(RequestStatus),
    slo_class=st.sampled_from(SloClass),
    tenant=text,
    application=text,
    region=text,
    instance_id=text,
    decision_id=text,
    prompt_tokens=count,
    response_tokens=count,
    predicted_length=st.none() | quantiles,
    predicted_by=text,
    held_us=span_us,
    ttft_us=st.none() | span_us,
    end_to_end_us=span_us,
    error_reason=text,
    attempt_count=st.integers(0, 64),
    censored=st.booleans(),
)
samples = st.builds(
    QueueSample, model=names, sample_us=time_us, held_count=count, in_flight_count=count, scheduler_id=text
)
instances = st.builds(
    Instance,
    instance_id=names,
    model=names,
    grpc_address=names,
    server_id=names,
    metrics_url=text,
    state=st.sampled_from(InstanceState),
    state_us=time_us,
    state_reason=text,
)


@given(event_id=names, kind=records | samples | instances.map(InstanceChange))
def test_every_event_crosses_the_wire_unchanged(event_id: str, kind: RequestRecord | QueueSample) -> None:
    event = Event(event_id, kind)
    message = event_pb2.Event.FromString(event_to_proto(event).SerializeToString())
    assert dict(event_violations(message, "")) == {}
    assert event_from_proto(message) == event


def test_a_snapshot_crosses_the_wire_unchanged() -> None:
    loads = (InstanceLoad("a", "m", True, 5, 0, None, 0.25, 2**40, 1), InstanceLoad("b", "m", False))
    snapshot = Snapshot(7, loads, (ModelLoad("m", 1, 2, 3, 4, 0.1, 0.2, 2**40, 6),))
    assert snapshot_from_proto(snapshot_to_proto(snapshot)) == snapshot


def record(**changes: object) -> event_pb2.RequestRecord:
    values = {"request_id": "r", "model": "m", "arrival_time": timestamp_pb2.Timestamp(seconds=1), "status": 1}
    return event_pb2.RequestRecord(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("event", "field"),
    [
        (event_pb2.Event(event_id="e"), "kind"),
        (event_pb2.Event(request=record()), "event_id"),
        (event_pb2.Event(event_id="e\0", request=record()), "event_id"),
        (event_pb2.Event(event_id="e", request=record(tenant="a\0b")), "request.tenant"),
        (event_pb2.Event(event_id="e", request=record(status=9)), "request.status"),
        (event_pb2.Event(event_id="e", request=record(slo_class=9)), "request.slo_class"),
        (
            event_pb2.Event(event_id="e", request=record(arrival_time=timestamp_pb2.Timestamp(seconds=2**60))),
            "request.arrival_time",
        ),
        (
            event_pb2.Event(event_id="e", request=record(arrival_time=timestamp_pb2.Timestamp(seconds=-1))),
            "request.arrival_time",
        ),
        (
            event_pb2.Event(
                event_id="e",
                instance=event_pb2.InstanceChange(
                    instance=instance_pb2.Instance(
                        instance_id="i",
                        model="m",
                        grpc_address="a",
                        server_id="s",
                        state=77,  # type: ignore[arg-type]
                    )
                ),
            ),
            "instance.instance.state",
        ),
    ],
)
def test_what_cannot_be_stored_is_named(event: event_pb2.Event, field: str) -> None:
    assert set(dict(event_violations(event, "events[3]."))) == {f"events[3].{field}"}


def test_a_span_that_a_clock_set_back_made_negative_becomes_zero() -> None:
    back = duration_pb2.Duration(seconds=-5)
    message = record(held=back, time_to_first_token=back, end_to_end=back)
    value = event_from_proto(event_pb2.Event(event_id="e", request=message)).kind
    assert isinstance(value, RequestRecord)
    assert (value.held_us, value.ttft_us, value.end_us) == (0, 0, value.arrival_us)
