"""Sends what stands on a service's Prometheus page by OTLP as well; imported only by services that do.

One source of figures for both ways: nothing is measured twice, and requests pay nothing. Ours keep their names; those
of the GenAI semantic conventions get the conventions' names back, which Prometheus cannot spell.
"""

import logging
import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExporter,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.samples import Sample

from forebay.wire.clock import now_us
from forebay.wire.tracing import NOTHING, Attributes, Kind

log = logging.getLogger(__name__)

_SCOPE = InstrumentationScope("forebay")
_CUMULATIVE = AggregationTemporality.CUMULATIVE
_NS_PER_US = 1_000
_GEN_AI = {
    "gen_ai_client_token_usage": ("gen_ai.client.token.usage", "{token}"),
    "gen_ai_server_request_duration_seconds": ("gen_ai.server.request.duration", "s"),
    "gen_ai_server_time_per_output_token_seconds": ("gen_ai.server.time_per_output_token", "s"),
    "gen_ai_server_time_to_first_token_seconds": ("gen_ai.server.time_to_first_token", "s"),
}
_GEN_AI_LABELS = {
    "gen_ai_operation_name": "gen_ai.operation.name",
    "gen_ai_provider_name": "gen_ai.provider.name",
    "gen_ai_request_model": "gen_ai.request.model",
    "gen_ai_token_type": "gen_ai.token.type",
    "error_type": "error.type",
}
Labels: TypeAlias = tuple[tuple[str, str], ...]


class Sender:
    """Sends the page each `interval_s` from a thread of its own; a page that is not taken is followed by the next."""

    def __init__(
        self, registry: CollectorRegistry, exporter: MetricExporter, resource: Resource, interval_s: float
    ) -> None:
        self._registry = registry
        self._exporter = exporter
        self._resource = resource
        self._interval_s = interval_s
        self._start_ns = now_us() * _NS_PER_US
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="forebay-metrics", daemon=True)
        self._thread.start()

    def close(self, timeout_s: float) -> None:
        """Sends the page for the last time, within the time."""
        self._stopping.set()
        self._thread.join(timeout_s)
        self._exporter.shutdown()

    def _run(self) -> None:
        is_stopping = False
        while not is_stopping:
            is_stopping = self._stopping.wait(self._interval_s)
            try:
                families = list(self._registry.collect())
                data = to_otlp(families, self._resource, self._start_ns, now_us() * _NS_PER_US)
                self._exporter.export(data)
            except Exception:
                # Whatever goes wrong here must not end the thread.
                log.exception("metrics could not be sent")


class MetricsOnly:
    """A tracer that records no spans, of a service that sends only metrics."""

    is_on = False

    def __init__(self, sender: Sender) -> None:
        self._sender = sender

    def begin(self, name: str, kind: Kind, headers: Mapping[str, str], attributes: Attributes = NOTHING) -> None:
        """None."""

    def close(self, timeout_s: float) -> None:
        """Sends the page for the last time."""
        self._sender.close(timeout_s)


def to_otlp(families: Iterable[Family], resource: Resource, start_ns: int, now_ns: int) -> MetricsData:
    """What the page shows as OTLP data; sums and histograms count from `start_ns` on."""
    metrics = [metric for family in families if (metric := _metric(family, start_ns, now_ns)) is not None]
    scope = ScopeMetrics(scope=_SCOPE, metrics=metrics, schema_url="")
    return MetricsData([ResourceMetrics(resource=resource, scope_metrics=[scope], schema_url="")])


def _metric(family: Family, start_ns: int, now_ns: int) -> Metric | None:
    name, unit = _GEN_AI.get(family.name, (family.name, family.unit or ""))
    if not family.samples:
        return None
    if family.type == "histogram":
        data: Sum | Gauge | Histogram = Histogram(_histogram_points(family.samples, start_ns, now_ns), _CUMULATIVE)
    elif family.type == "counter":
        totals = [one for one in family.samples if one.name.endswith("_total")]
        data = Sum(_points(totals, start_ns, now_ns), _CUMULATIVE, is_monotonic=True)
    else:
        data = Gauge(_points([one for one in family.samples if one.name == family.name], None, now_ns))
    return Metric(name=name, description=family.documentation, unit=unit, data=data)


def _points(samples: Iterable[Sample], start_ns: int | None, now_ns: int) -> Sequence[NumberDataPoint]:
    return [NumberDataPoint(_attributes(one.labels), start_ns or 0, now_ns, float(one.value)) for one in samples]


def _histogram_points(samples: Iterable[Sample], start_ns: int, now_ns: int) -> Sequence[HistogramDataPoint]:
    buckets: defaultdict[Labels, dict[float, float]] = defaultdict(dict)
    sums: dict[Labels, float] = {}
    for one in samples:
        key = tuple((name, value) for name, value in one.labels.items() if name != "le")
        if one.name.endswith("_bucket"):
            buckets[key][float(one.labels["le"])] = one.value
        elif one.name.endswith("_sum"):
            sums[key] = one.value
    return [_histogram(key, found, sums.get(key, 0.0), start_ns, now_ns) for key, found in buckets.items()]


def _histogram(
    key: Labels, found: Mapping[float, float], total: float, start_ns: int, now_ns: int
) -> HistogramDataPoint:
    edges = sorted(found)
    up_to = [int(found[edge]) for edge in edges]
    return HistogramDataPoint(
        attributes=_attributes(dict(key)),
        start_time_unix_nano=start_ns,
        time_unix_nano=now_ns,
        count=up_to[-1],
        sum=total,
        bucket_counts=[count - before for count, before in zip(up_to, [0, *up_to], strict=False)],
        explicit_bounds=[edge for edge in edges if edge != float("inf")],
        # Prometheus keeps neither, and in OTLP both are optional: None leaves them out.
        min=None,  # type: ignore[arg-type]
        max=None,  # type: ignore[arg-type]
    )


def _attributes(labels: Mapping[str, str]) -> dict[str, str]:
    return {_GEN_AI_LABELS.get(name, name): value for name, value in labels.items() if value}
