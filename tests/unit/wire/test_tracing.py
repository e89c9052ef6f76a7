"""Spans are recorded by the environment's word, wait in a bounded place, and never hold a request."""

import threading
from collections.abc import Mapping, Sequence

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from forebay.core.errors import ConfigError, NotFound
from forebay.wire import tracing
from forebay.wire.tracing import OFF, answering, current, server_of
from forebay.wire.tracing_metrics import to_otlp
from forebay.wire.tracing_sdk import Outbox, OutboxMeters, SdkTracer
from forebay.wire.tracing_setup import Settings, open_tracer

WAIT_S = 30.0


class Collector(SpanExporter):
    """Takes spans, refuses them, or does not answer until it is let."""

    def __init__(self, answer: SpanExportResult = SpanExportResult.SUCCESS, is_slow: bool = False) -> None:
        self.taken: list[ReadableSpan] = []
        self.asked = threading.Event()
        self.let = threading.Event()
        self._answer = answer
        if not is_slow:
            self.let.set()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.asked.set()
        assert self.let.wait(WAIT_S)
        if self._answer is SpanExportResult.SUCCESS:
            self.taken += spans
        return self._answer

    def shutdown(self) -> None:
        self.let.set()


@pytest.fixture
def collector() -> Collector:
    return Collector()


def tracer_to(collector: Collector, capacity: int = 100, batch_count: int = 1) -> tuple[SdkTracer, Outbox]:
    outbox = Outbox(collector, capacity, batch_count, interval_s=WAIT_S)
    return SdkTracer(Resource({}), outbox), outbox


def test_spans_arrive_with_their_parents_attributes_and_events(collector: Collector) -> None:
    tracer, outbox = tracer_to(collector)
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    whole = tracer.begin("whole", "server", {"traceparent": parent, "tracestate": "a=b"}, {"model": "m"})
    assert whole is not None
    step = whole.child("step", "client")
    assert step.traceparent.startswith("00-4bf92f3577b34da6a3ce929d0e0e4736-")
    assert dict(step.metadata()) == {"traceparent": step.traceparent, "tracestate": "a=b"}
    step.end("UNAVAILABLE")
    whole.note("placed", at_us=5)
    whole.end()
    tracer.close(WAIT_S)
    first, second = collector.taken
    assert first.parent is not None
    assert second.context is not None
    assert first.parent.span_id == second.context.span_id
    assert (first.name, first.status.description) == ("step", "UNAVAILABLE")
    assert second.parent is not None
    assert f"{second.parent.span_id:016x}" == "00f067aa0ba902b7"
    assert [(event.name, event.timestamp) for event in second.events] == [("placed", 5_000)]
    assert outbox.sent_count == 2


def test_a_collector_that_does_not_answer_holds_nobody_and_costs_spans_that_are_counted() -> None:
    collector = Collector(is_slow=True)
    tracer, outbox = tracer_to(collector, capacity=3)
    for _ in range(10):
        span = tracer.begin("one", "server", {})
        assert span is not None
        span.end()
        # From the second on the collector holds the thread that sends.
        assert collector.asked.wait(WAIT_S)
    assert outbox.pending_count == 3
    assert outbox.dropped_count == 6
    collector.let.set()
    tracer.close(WAIT_S)
    assert outbox.sent_count == 4


def test_a_collector_that_refuses_costs_spans_that_are_counted_and_shown() -> None:
    tracer, outbox = tracer_to(Collector(SpanExportResult.FAILURE))
    registry = CollectorRegistry()
    OutboxMeters(outbox, registry)
    span = tracer.begin("one", "server", {})
    assert span is not None
    span.end()
    tracer.close(WAIT_S)
    assert 'forebay_tracing_spans_total{result="dropped"} 1.0' in generate_latest(registry).decode()


def test_closing_waits_for_a_silent_collector_no_longer_than_it_may() -> None:
    collector = Collector(is_slow=True)
    tracer, outbox = tracer_to(collector)
    for _ in range(3):
        span = tracer.begin("one", "server", {})
        assert span is not None
        span.end()
        assert collector.asked.wait(WAIT_S)
    tracer.close(0.01)
    assert outbox.dropped_count + outbox.pending_count + outbox.sent_count >= 2


def test_a_span_is_current_in_its_block_and_ends_with_the_reason_of_what_was_raised(collector: Collector) -> None:
    tracer, _ = tracer_to(collector)
    span = tracer.begin("one", "server", {})
    assert span is not None

    def fails() -> None:
        with answering(span):
            assert current() is span
            raise NotFound("no such lease")

    with pytest.raises(NotFound):
        fails()
    assert current() is None
    tracer.close(WAIT_S)
    assert collector.taken[0].status.description == "NOT_FOUND"


def test_off_records_nothing() -> None:
    assert not OFF.is_on
    assert OFF.begin("one", "server", {"traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01"}) is None
    OFF.close(0)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317", "OTEL_SDK_DISABLED": "true"},
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317",
            "OTEL_TRACES_EXPORTER": "none",
            "OTEL_METRICS_EXPORTER": "none",
        },
    ],
)
def test_without_an_endpoint_everything_is_off(environment: Mapping[str, str]) -> None:
    assert open_tracer("gateway", "here", CollectorRegistry(), environment) is OFF


def test_the_environment_says_what_is_sent_and_how() -> None:
    settings = Settings.of(
        {
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_BSP_SCHEDULE_DELAY": "250",
        }
    )
    assert (settings.traces, settings.metrics) == (True, False)
    assert settings.traces_protocol == "http/protobuf"
    assert settings.interval_s == 0.25


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_TRACES_EXPORTER", "zipkin"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "-1"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "often"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=name):
        Settings.of({name: value})


def test_the_server_of_an_address_is_its_host_and_port() -> None:
    assert server_of("10.0.0.1:8001") == {"server.address": "10.0.0.1", "server.port": 8001}
    assert server_of("unix:/run/triton") == {"server.address": "unix:/run/triton"}
    assert tracing.server_of("") == {"server.address": ""}


def test_a_page_becomes_otlp_with_the_counts_of_each_bucket() -> None:
    registry = CollectorRegistry()
    Counter("forebay_requests", "Requests.", ("model",), registry=registry).labels("m").inc(3)
    Gauge("forebay_held", "Held.", registry=registry).set(2)
    first = Histogram(
        "gen_ai_server_time_to_first_token_seconds",
        "First.",
        ("gen_ai_request_model",),
        buckets=(1, 2),
        registry=registry,
    )
    for value in (0.5, 1.5, 1.7, 9):
        first.labels("m").observe(value)
    (metrics,) = to_otlp(registry.collect(), Resource({}), 1, 2).resource_metrics[0].scope_metrics
    counter, gauge, histogram = metrics.metrics
    assert (counter.name, counter.data.data_points[0].value) == ("forebay_requests", 3)  # type: ignore[union-attr]
    assert gauge.data.data_points[0].value == 2  # type: ignore[union-attr]
    point = histogram.data.data_points[0]
    assert (histogram.name, histogram.unit) == ("gen_ai.server.time_to_first_token", "s")
    assert point.attributes == {"gen_ai.request.model": "m"}
    assert (point.bucket_counts, point.explicit_bounds, point.count) == ([1, 2, 1], [1.0, 2.0], 4)  # type: ignore[union-attr]
