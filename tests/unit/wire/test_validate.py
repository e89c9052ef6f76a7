"""Rules beside the fields of the contract are enforced, with the path of each broken one."""

import math

import pytest
from google.protobuf import duration_pb2, timestamp_pb2
from lmaas.autoscaler.v1 import autoscaler_service_pb2
from lmaas.metrics.v1 import metrics_service_pb2
from lmaas.predictor.v1 import length_pb2, predictor_service_pb2
from lmaas.scheduler.v1 import request_pb2, scheduler_service_pb2

from forebay.core.errors import InvalidArgument
from forebay.wire.validate import check, violations_of


def good() -> request_pb2.InferenceRequest:
    return request_pb2.InferenceRequest(request_id="r", model="m", prompt_tokens=5, slo_class=1)  # type: ignore[arg-type]


def broken(change: dict[str, object]) -> dict[str, str]:
    message = good()
    message.MergeFrom(request_pb2.InferenceRequest(**change))  # type: ignore[arg-type]
    return dict(violations_of(message))


def test_a_message_that_keeps_all_rules_passes() -> None:
    check(good())


def test_every_missing_required_field_is_named() -> None:
    found = dict(violations_of(request_pb2.InferenceRequest()))
    assert set(found) == {"request_id", "model", "prompt_tokens", "slo_class"}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"prompt_tokens": 2_000_000}, "prompt_tokens"),
        ({"temperature": 2.5}, "temperature"),
        ({"temperature": math.nan}, "temperature"),
        ({"temperature": -1.0}, "temperature"),
        ({"model": "x" * 201}, "model"),
        ({"prompt_head": "ä" * 5000}, "prompt_head"),
        ({"slo_class": 99}, "slo_class"),
        ({"excluded_instance_ids": ["i"] * 4097}, "excluded_instance_ids"),
        ({"hold_timeout": duration_pb2.Duration(seconds=-1)}, "hold_timeout"),
        ({"hold_timeout": duration_pb2.Duration(seconds=90_000)}, "hold_timeout"),
    ],
)
def test_a_value_out_of_range_is_named(change: dict[str, object], field: str) -> None:
    assert set(broken(change)) == {field}


def test_the_path_leads_into_messages_and_lists() -> None:
    queries = [length_pb2.LengthQuery(query_id="a", model="m", prompt_tokens=1), length_pb2.LengthQuery(query_id="b")]
    found = dict(violations_of(predictor_service_pb2.PredictLengthRequest(queries=queries)))
    assert set(found) == {"queries[1].model", "queries[1].prompt_tokens"}


def test_a_required_message_must_be_there() -> None:
    with pytest.raises(InvalidArgument, match="request must be set"):
        check(scheduler_service_pb2.PlaceRequest())


def test_the_error_counts_what_it_does_not_say() -> None:
    with pytest.raises(InvalidArgument, match="and 1 more") as caught:
        check(autoscaler_service_pb2.DeregisterInstanceRequest())
    assert len(caught.value.violations) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"start_time": timestamp_pb2.Timestamp(seconds=-1)},
        {"start_time": timestamp_pb2.Timestamp(seconds=2**60)},
        {"end_time": timestamp_pb2.Timestamp(nanos=-1)},
        {"window": duration_pb2.Duration(seconds=60, nanos=-1)},
        {"window": duration_pb2.Duration(seconds=2**60)},
        {"slo_class": 77},
    ],
)
def test_what_has_no_value_to_become_is_named_though_no_rule_says_so(change: dict[str, object]) -> None:
    message = metrics_service_pb2.QueryWorkloadHistoryRequest(model="m", **change)  # type: ignore[arg-type]
    assert set(dict(violations_of(message))) == set(change)


def test_a_limit_is_told_to_the_last_digit() -> None:
    assert broken({"prompt_tokens": 1_048_577})["prompt_tokens"].startswith("is 1048577; it must be at most ")
