"""Load reports are read in every form that servers send, and what is no report is none."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lmaas.orca.orca_pb2 import OrcaLoadReport

from forebay.wire import orca

REPORT = OrcaLoadReport(
    cpu_utilization=0.5,
    named_metrics={"kv_cache_utilization": 0.25, "max_token_capacity": 1024, "num_requests_waiting": 3},
)


@pytest.mark.parametrize("form", ["text", "TEXT", "json", "JSON", "bin", "BIN"])
def test_what_is_written_is_read(form: str) -> None:
    header = orca.header_of(REPORT, form)
    assert header is not None
    assert orca.read([("content-type", "x"), header]) == REPORT


@pytest.mark.parametrize(
    "value",
    [
        # As Triton writes them, and as early servers did, without the form's name.
        "TEXT named_metrics.kv_cache_utilization=0.25, named_metrics.max_token_capacity=1024",
        "named_metrics.kv_cache_utilization=0.25,named_metrics.max_token_capacity=1024",
        'JSON {"named_metrics": {"kv_cache_utilization": 0.25, "max_token_capacity": 1024}}',
        '{"named_metrics": {"kv_cache_utilization": 0.25, "max_token_capacity": 1024}, "of_tomorrow": 1}',
        "TEXT named_metrics.kv_cache_utilization=0.25, named_metrics.max_token_capacity=1024, of_tomorrow=1",
    ],
)
def test_the_headers_of_triton_are_read(value: str) -> None:
    report = orca.read([("Endpoint-Load-Metrics", value)])
    assert report is not None
    assert orca.kv_utilization(report) == 0.25
    assert orca.count(report, orca.TOKENS_MAX) == 1024


@pytest.mark.parametrize("form", ["text", "json", "bin"])
def test_what_is_written_as_a_trailer_is_read(form: str) -> None:
    trailer = orca.trailer_of(REPORT, form)
    assert trailer is not None
    assert orca.read([trailer]) == REPORT


def test_the_trailer_of_grpc_is_the_message_itself() -> None:
    assert orca.read([(orca.BINARY_HEADER, REPORT.SerializeToString())]) == REPORT
    unpadded = base64.b64encode(REPORT.SerializeToString()).decode().rstrip("=")
    assert orca.read([(orca.BINARY_HEADER, unpadded)]) == REPORT


@pytest.mark.parametrize(
    "value",
    ["TEXT a", "TEXT cpu_utilization=x", "JSON [1]", "JSON {", 'JSON {"eps": null}', "BIN %%", "JSON " + "[" * 9999],
)
def test_what_does_not_parse_is_no_report(value: str) -> None:
    assert orca.read([(orca.HEADER, value)]) is None


@given(st.text(max_size=200) | st.binary(max_size=200), st.sampled_from([orca.HEADER, orca.BINARY_HEADER]))
def test_nothing_that_a_server_sends_breaks_anything(value: str | bytes, name: str) -> None:
    report = orca.read([(name, value)])
    if report is not None:
        share = orca.kv_utilization(report)
        assert share is None or 0 <= share <= 1
        orca.count(report, orca.RUNNING)


def test_a_form_that_nobody_knows_is_not_answered() -> None:
    assert orca.header_of(REPORT, "xml") is None
    assert orca.header_of(REPORT, "") is None


def test_vllms_name_of_the_cache_is_known_and_a_share_beyond_all_is_all() -> None:
    assert orca.kv_utilization(OrcaLoadReport(named_metrics={"kv_cache_usage_perc": 1.5})) == 1.0
    assert orca.kv_utilization(OrcaLoadReport(named_metrics={"kv_cache_usage_perc": float("nan")})) is None
    assert orca.kv_utilization(OrcaLoadReport()) is None
