"""Every rule of the contract that a good request can break is broken once, alone."""

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from lmaas.autoscaler.v1 import autoscaler_service_pb2 as autoscaler
from lmaas.predictor.v1 import predictor_service_pb2 as predictor
from lmaas.predictor.v1.length_pb2 import LengthQuery

from forebay.conformance.autoscaler import AUTOSCALER
from forebay.conformance.autoscaler import SAMPLES as AUTOSCALER_SAMPLES
from forebay.conformance.checks import Suite
from forebay.conformance.metrics import METRICS
from forebay.conformance.metrics import SAMPLES as METRICS_SAMPLES
from forebay.conformance.predictor import PREDICTOR
from forebay.conformance.predictor import SAMPLES as PREDICTOR_SAMPLES
from forebay.conformance.rules import UNKNOWN_FIELD, add_rules, broken_ones
from forebay.conformance.scheduler import SAMPLES as SCHEDULER_SAMPLES
from forebay.conformance.scheduler import SCHEDULER
from forebay.wire.validate import violations_of

QUERY = LengthQuery(query_id="q", model="m", prompt_tokens=6)
SUITES = {
    "predictor": (PREDICTOR, PREDICTOR_SAMPLES),
    "scheduler": (SCHEDULER, SCHEDULER_SAMPLES),
    "autoscaler": (AUTOSCALER, AUTOSCALER_SAMPLES),
    "metrics": (METRICS, METRICS_SAMPLES),
}
NO_MODE_TO_SET = {"mode"}
"""The sample of SetMode breaks this one by itself, so that it does nothing even where it is not refused."""


def broken(sample: Message) -> list[tuple[str, str]]:
    return [(path, dict(violations_of(one))[path]) for path, one in broken_ones(sample)]


def test_a_text_is_left_out_and_too_long_and_a_span_too_short_and_too_long() -> None:
    sample = predictor.ForecastWorkloadRequest(model="m", horizon_count=1, window=Duration(seconds=60))
    assert broken(sample) == [
        ("model", "must not be empty"),
        ("model", "has 201 bytes; at most 200 are allowed"),
        ("region", "has 65 bytes; at most 64 are allowed"),
        ("window", "is 3601; it must be at most 3600"),
        ("window", "is 0; it must be at least 1"),
        ("horizon_count", "is 1441; it must be at most 1440"),
        ("horizon_count", "is 0; it must be at least 1"),
    ]


def test_a_list_is_emptied_and_overfilled_and_its_first_item_is_broken_by_its_path() -> None:
    found = broken(predictor.PredictLengthRequest(queries=[QUERY]))
    assert found[:4] == [
        ("queries", "must not be empty"),
        ("queries", "has 1025 items; at most 1024 are allowed"),
        ("queries[0].query_id", "must not be empty"),
        ("queries[0].query_id", "has 129 bytes; at most 128 are allowed"),
    ]


def test_a_message_inside_is_left_out_and_broken_where_it_is_set() -> None:
    sample = autoscaler.SetBoundsRequest(bounds={"model": "m"}, request_id="r")
    assert broken(sample)[:3] == [
        ("bounds", "must be set"),
        ("bounds.model", "must not be empty"),
        ("bounds.model", "has 201 bytes; at most 200 are allowed"),
    ]


def test_a_message_without_rules_breaks_none() -> None:
    assert broken(autoscaler.DeregisterInstanceResponse()) == []


def test_the_good_request_stays_as_it_was() -> None:
    sample = predictor.PredictLengthRequest(queries=[QUERY])
    list(broken_ones(sample))
    assert sample == predictor.PredictLengthRequest(queries=[QUERY])


@pytest.mark.parametrize("name", SUITES)
def test_samples_keep_every_rule_and_each_broken_one_breaks_one_alone(name: str) -> None:
    for rpc, sample in SUITES[name][1].items():
        anyway = set(dict(violations_of(sample)))
        assert anyway <= (NO_MODE_TO_SET if rpc == "SetMode" else set())
        for path, one in broken_ones(sample):
            assert set(dict(violations_of(one))) == {path} | anyway


@pytest.mark.parametrize("name", SUITES)
def test_samples_are_requests_of_the_service_and_every_check_is_of_one_of_its_rpcs(name: str) -> None:
    suite, samples = SUITES[name]
    request = next(iter(samples.values()))
    methods = request.DESCRIPTOR.file.services_by_name[suite.service.rpartition(".")[2]].methods_by_name
    assert {rpc: sample.DESCRIPTOR for rpc, sample in samples.items()} == {
        rpc: methods[rpc].input_type for rpc in samples
    }
    assert {one.area for one in suite.checks} <= set(methods)
    assert len({(one.area, one.name) for one in suite.checks}) == len(suite.checks)


def test_a_check_is_added_for_every_broken_request_and_says_what_is_broken() -> None:
    suite = Suite("s")
    add_rules(suite, {"ListModels": predictor.ListModelsRequest()})
    names = [one.name for one in suite.checks]
    assert "a request whose page_size is 1001; it must be at most 1000 is refused by that field's name" in names
    assert {one.area for one in suite.checks} == {"ListModels"}


def test_the_unknown_field_can_be_read_and_is_unknown() -> None:
    read = predictor.PredictLengthRequest.FromString(UNKNOWN_FIELD)
    assert not read.ListFields()
    assert read.SerializeToString() == UNKNOWN_FIELD
