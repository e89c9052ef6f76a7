"""Spans recorded by OpenTelemetry's SDK and sent by OTLP; imported only by services that trace."""

import logging
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import Span as SdkSpanType
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace import Tracer as SdkTracerType
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from forebay.wire.tracing import NOTHING, TRACEPARENT, TRACESTATE, Attributes, Kind
from forebay.wire.tracing_metrics import Sender

log = logging.getLogger(__name__)

_KINDS = {"server": SpanKind.SERVER, "client": SpanKind.CLIENT, "internal": SpanKind.INTERNAL}
_NO_PARENT = Context()
_W3C = TraceContextTextMapPropagator()
_NS_PER_US = 1_000


class Outbox(SpanProcessor):
    """Spans on their way: at most `capacity` wait; more are dropped and counted, so that no request ever waits.

    One thread sends them in batches of `batch_count`, each `interval_s` and whenever a batch is full. A batch that the
    exporter gives up is dropped and counted too.
    """

    def __init__(self, exporter: SpanExporter, capacity: int, batch_count: int, interval_s: float) -> None:
        self.sent_count = 0
        self._overflow_count = 0
        self._refused_count = 0
        self._exporter = exporter
        self._capacity = capacity
        self._batch_count = batch_count
        self._interval_s = interval_s
        self._spans: deque[ReadableSpan] = deque()
        self._awake = threading.Event()
        self._stopping = False
        self._is_taken = True
        self._thread = threading.Thread(target=self._run, name="forebay-spans", daemon=True)
        self._thread.start()

    @property
    def pending_count(self) -> int:
        """Spans that wait."""
        return len(self._spans)

    @property
    def dropped_count(self) -> int:
        """Spans that were not delivered."""
        return self._overflow_count + self._refused_count

    def on_end(self, span: ReadableSpan) -> None:
        """Takes a span; never waits."""
        if len(self._spans) >= self._capacity:
            self._overflow_count += 1
            return
        self._spans.append(span)
        if len(self._spans) >= self._batch_count:
            self._awake.set()

    def close(self, timeout_s: float) -> None:
        """Sends what is there within the time; what is left then is dropped."""
        self._stopping = True
        self._awake.set()
        self._thread.join(timeout_s)
        self._exporter.shutdown()
        self._overflow_count += len(self._spans)

    def _run(self) -> None:
        while not self._stopping:
            self._awake.wait(self._interval_s)
            self._awake.clear()
            self._send_all()

    def _send_all(self) -> None:
        while self._spans:
            batch = [self._spans.popleft() for _ in range(min(self._batch_count, len(self._spans)))]
            self._count(len(batch), self._export(batch))

    def _export(self, batch: list[ReadableSpan]) -> bool:
        try:
            return self._exporter.export(batch) is SpanExportResult.SUCCESS
        except Exception:
            # Whatever goes wrong here must not end the thread. An exporter that is closed under it breaks off.
            if not self._stopping:
                log.exception("spans could not be sent")
            return False

    def _count(self, count: int, is_taken: bool) -> None:
        if is_taken:
            self.sent_count += count
        else:
            self._refused_count += count
        if is_taken != self._is_taken and not self._stopping:
            text = "the collector takes spans again" if is_taken else "the collector takes no spans; they are dropped"
            log.warning(text, extra={"fields": {"dropped": self.dropped_count}})
        self._is_taken = is_taken


class OutboxMeters(Collector):
    """Shows on the Prometheus page what became of the spans."""

    def __init__(self, outbox: Outbox, registry: CollectorRegistry) -> None:
        self._outbox = outbox
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """The counts as they are now."""
        spans = CounterMetricFamily("forebay_tracing_spans", "Spans recorded, by what became.", labels=("result",))
        spans.add_metric(("sent",), self._outbox.sent_count)
        spans.add_metric(("dropped",), self._outbox.dropped_count)
        yield spans
        pending = self._outbox.pending_count
        yield GaugeMetricFamily("forebay_tracing_pending_spans", "Spans that wait to be sent.", pending)


class SdkSpan:
    """A recorded span of the SDK."""

    __slots__ = ("_span", "_tracer")

    def __init__(self, span: SdkSpanType, tracer: SdkTracerType) -> None:
        self._span = span
        self._tracer = tracer

    @property
    def traceparent(self) -> str:
        """Version 00 of the format, sampled: another span is not made."""
        context = self._span.get_span_context()
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Trace and, where a vendor set one, its state."""
        state = self._span.get_span_context().trace_state
        parent = (TRACEPARENT, self.traceparent)
        return (parent, (TRACESTATE, state.to_header())) if state else (parent,)

    def child(self, name: str, kind: Kind, attributes: Attributes = NOTHING) -> "SdkSpan":
        """Begins a step of this one."""
        context = set_span_in_context(self._span, _NO_PARENT)
        return SdkSpan(self._tracer.start_span(name, context, _KINDS[kind], attributes), self._tracer)

    def note(self, event: str, attributes: Attributes = NOTHING, at_us: int = 0) -> None:
        """Adds an event."""
        self._span.add_event(event, attributes, at_us * _NS_PER_US or None)

    def set(self, attributes: Attributes) -> None:
        """Adds attributes."""
        self._span.set_attributes(attributes)

    def end(self, error: str = "") -> None:
        """Ends the span."""
        if error:
            self._span.set_attribute("error.type", error)
            self._span.set_status(Status(StatusCode.ERROR, error))
        self._span.end()


class SdkTracer:
    """Begins spans of the SDK. The sampler is the SDK's own, by OTEL_TRACES_SAMPLER; so are the limits of spans."""

    is_on = True

    def __init__(self, resource: Resource, outbox: Outbox, sender: Sender | None = None) -> None:
        self._outbox = outbox
        self._sender = sender
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(outbox)
        self._tracer = provider.get_tracer("forebay")

    def begin(
        self, name: str, kind: Kind, headers: Mapping[str, str], attributes: Attributes = NOTHING
    ) -> SdkSpan | None:
        """Begins a span if the sampler wants it."""
        context = _W3C.extract(headers, _NO_PARENT) if headers.get(TRACEPARENT) else _NO_PARENT
        span = self._tracer.start_span(name, context, _KINDS[kind], attributes)
        return SdkSpan(span, self._tracer) if span.is_recording() else None

    def close(self, timeout_s: float) -> None:
        """Sends what is there, metrics too."""
        self._outbox.close(timeout_s)
        if self._sender is not None:
            self._sender.close(timeout_s)


def resource_of(part: str, instance: str, version: str) -> Resource:
    """Who we are, unless OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES say otherwise."""
    said: Mapping[str, Any] = OTELResourceDetector().detect().attributes
    ours = {
        "service.name": f"forebay-{part}",
        "service.namespace": "forebay",
        "service.instance.id": instance,
        "service.version": version,
    }
    return Resource.create({name: value for name, value in ours.items() if name not in said})
