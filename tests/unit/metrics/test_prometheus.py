"""The page has every series with its unit, and a bounded number of them."""

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from forebay.core.metrics import RequestRecord, RequestStatus, Snapshot
from forebay.core.values import Instance, InstanceLoad, InstanceState, LengthQuantiles, ModelLoad, SloClass
from forebay.metrics import prometheus as module
from forebay.metrics.prometheus import RequestStats, SnapshotGauges

S = 1_000_000


def page(registry: CollectorRegistry) -> dict[str, float]:
    text = generate_latest(registry).decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {one.name + str(sorted(one.labels.items())): one.value for one in samples}


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)


def record(**changes: object) -> RequestRecord:
    values = {
        "prompt_tokens": 10,
        "response_tokens": 11,
        "ttft_us": 1 * S,
        "end_to_end_us": 2 * S,
        "predicted_length": LengthQuantiles(1, 22, 30, 40),
        **changes,
    }
    return RequestRecord("r", "m", 0, values.pop("status", RequestStatus.OK), **values)  # type: ignore[arg-type]


def test_an_answer_is_counted_with_its_times_and_its_prediction() -> None:
    registry = CollectorRegistry()
    RequestStats(registry).observe(record(slo_class=SloClass.INTERACTIVE_FAST))
    assert value(registry, "forebay_requests_total", model="m", status="ok", slo_class="interactive_fast") == 1
    assert value(registry, "forebay_prompt_tokens_total", model="m") == 10
    assert value(registry, "forebay_response_tokens_total", model="m") == 11
    assert value(registry, "forebay_time_to_first_token_seconds_sum", model="m") == 1
    assert value(registry, "forebay_end_to_end_seconds_sum", model="m") == 2
    assert value(registry, "forebay_time_per_output_token_seconds_sum", model="m") == 0.1
    assert value(registry, "forebay_length_actual_to_predicted_ratio_sum", model="m") == 0.5


def test_a_promise_is_kept_or_broken_and_a_client_that_left_says_nothing() -> None:
    registry = CollectorRegistry()
    stats = RequestStats(registry)
    for one in (record(), record(ttft_us=61 * S, end_to_end_us=62 * S), record(status=RequestStatus.REJECTED)):
        stats.observe(one)
    stats.observe(record(status=RequestStatus.CANCELLED))
    labels = {"model": "m", "slo_class": "interactive_normal"}
    assert value(registry, "forebay_slo_requests_total", kept="yes", **labels) == 1
    assert value(registry, "forebay_slo_requests_total", kept="no", **labels) == 2


def test_what_failed_is_counted_and_has_no_times() -> None:
    registry = CollectorRegistry()
    RequestStats(registry).observe(record(status=RequestStatus.FAILED))
    assert value(registry, "forebay_requests_total", model="m", status="failed", slo_class="interactive_normal") == 1
    assert value(registry, "forebay_end_to_end_seconds_count", model="m") is None


def test_what_was_not_measured_is_not_guessed() -> None:
    registry = CollectorRegistry()
    stats = RequestStats(registry)
    stats.observe(record(response_tokens=1))
    stats.observe(record(ttft_us=None, predicted_length=None))
    stats.observe(record(censored=True))
    assert value(registry, "forebay_end_to_end_seconds_count", model="m") == 3
    assert value(registry, "forebay_time_to_first_token_seconds_count", model="m") == 2
    assert value(registry, "forebay_time_per_output_token_seconds_count", model="m") == 1
    assert value(registry, "forebay_length_actual_to_predicted_ratio_count", model="m") == 1


def test_a_predicted_length_of_zero_is_no_division_by_zero() -> None:
    registry = CollectorRegistry()
    RequestStats(registry).observe(record(predicted_length=LengthQuantiles(0, 0, 0, 0)))
    assert value(registry, "forebay_length_actual_to_predicted_ratio_sum", model="m") == 11


def test_names_of_models_cannot_fill_the_memory() -> None:
    registry = CollectorRegistry()
    stats = RequestStats(registry)
    for number in range(module.MODELS_MAX + 5):
        stats.observe(RequestRecord("r", f"m{number}", 0, RequestStatus.REJECTED))
    stats.observe(RequestRecord("r", "m0", 0, RequestStatus.REJECTED))
    rejected = {"status": "rejected", "slo_class": "interactive_normal"}
    assert value(registry, "forebay_requests_total", model="other", **rejected) == 5
    assert value(registry, "forebay_requests_total", model="m0", **rejected) == 2


def test_gauges_show_the_snapshot_that_was_published_last() -> None:
    registry = CollectorRegistry()
    gauges = SnapshotGauges(registry)
    assert page(registry) == {}
    loads = (InstanceLoad("a/m", "m", True, 1, 3, None, 0.5), InstanceLoad("b/m", "m", False))
    instances = [
        Instance("a/m", "m", "127.0.0.1:1", "a", state=InstanceState.READY),
        Instance("b/m", "m", "127.0.0.1:2", "b", state=InstanceState.LOST),
    ]
    gauges.publish(Snapshot(1, loads, (ModelLoad("m", 7, 8),)), instances)
    assert page(registry) == {
        "forebay_requests_held[('model', 'm')]": 7,
        "forebay_requests_in_flight[('model', 'm')]": 8,
        "forebay_instances[('model', 'm'), ('state', 'ready')]": 1,
        "forebay_instances[('model', 'm'), ('state', 'lost')]": 1,
        "forebay_instance_reachable[('instance_id', 'a/m'), ('model', 'm')]": 1,
        "forebay_instance_reachable[('instance_id', 'b/m'), ('model', 'm')]": 0,
        "forebay_instance_requests_running[('instance_id', 'a/m'), ('model', 'm')]": 3,
        "forebay_instance_kv_utilization_ratio[('instance_id', 'a/m'), ('model', 'm')]": 0.5,
    }


def test_every_series_has_a_help_text_and_a_name_by_prometheus_rules() -> None:
    registry = CollectorRegistry()
    RequestStats(registry).observe(record())
    SnapshotGauges(registry)
    for family in registry.collect():
        assert family.documentation.endswith(".")
        assert family.name.startswith("forebay_")
        assert not family.name.endswith(("_total", "_ms", "_us", "_count"))
