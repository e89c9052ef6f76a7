"""The service's own Prometheus page: requests as counters and histograms, the newest snapshot as gauges."""

from collections import Counter as Tally
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from forebay.core.metrics import RequestRecord, RequestStatus, Snapshot
from forebay.core.promises import Promise
from forebay.core.units import US_PER_S
from forebay.core.values import Instance, SloClass
from forebay.metrics.page.config import PageConfig
from forebay.metrics.page.recent import keeps

MODELS_MAX = 1_000
"""Models with series of their own; those that come later share the label "other", so that names cannot fill memory."""

_LATENCIES_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_TOKEN_TIMES_S = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1)
_RATIOS = (0.1, 0.25, 0.5, 0.67, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2, 4, 10)


class RequestStats:
    """Counts requests as they end, beside what their class is promised."""

    def __init__(
        self, registry: CollectorRegistry, promises: Mapping[SloClass, Promise] = PageConfig().promises()
    ) -> None:
        self._models: set[str] = set()
        self._promises = promises
        self._requests = Counter(
            "forebay_requests", "Requests that ended.", ("model", "status", "slo_class"), registry=registry
        )
        self._slo = Counter(
            "forebay_slo_requests",
            "Requests that ended, by whether they got what their class is promised; cancelled ones say nothing.",
            ("model", "slo_class", "kept"),
            registry=registry,
        )
        self._prompt = Counter(
            "forebay_prompt_tokens", "Prompt tokens of requests that ended.", ("model",), registry=registry
        )
        self._response = Counter(
            "forebay_response_tokens", "Tokens generated for requests that ended.", ("model",), registry=registry
        )
        self._ttft = Histogram(
            "forebay_time_to_first_token_seconds",
            "Arrival to first token of requests that succeeded, in seconds.",
            ("model",),
            buckets=_LATENCIES_S,
            registry=registry,
        )
        self._end_to_end = Histogram(
            "forebay_end_to_end_seconds",
            "Arrival to last token of requests that succeeded, in seconds.",
            ("model",),
            buckets=_LATENCIES_S,
            registry=registry,
        )
        self._token_time = Histogram(
            "forebay_time_per_output_token_seconds",
            "Time between tokens after the first, the mean of each request that succeeded, in seconds.",
            ("model",),
            buckets=_TOKEN_TIMES_S,
            registry=registry,
        )
        self._ratio = Histogram(
            "forebay_length_actual_to_predicted_ratio",
            "Tokens generated over the predicted median, of answers that were not cut.",
            ("model",),
            buckets=_RATIOS,
            registry=registry,
        )

    def observe(self, record: RequestRecord) -> None:
        """Counts one request."""
        model = self._label(record.model)
        self._requests.labels(model, record.status.name.lower(), record.slo_class.name.lower()).inc()
        self._prompt.labels(model).inc(record.prompt_tokens)
        self._response.labels(model).inc(record.response_tokens)
        self._observe_promise(model, record)
        if record.status is RequestStatus.OK:
            self._observe_answer(model, record)

    def _observe_promise(self, model: str, record: RequestRecord) -> None:
        kept = keeps(record, self._promises[record.slo_class])
        if kept is not None:
            # Both series begin at once: a rate needs a value from before the first broken promise.
            for word, count in (("yes", kept), ("no", not kept)):
                self._slo.labels(model, record.slo_class.name.lower(), word).inc(count)

    def _observe_answer(self, model: str, record: RequestRecord) -> None:
        self._end_to_end.labels(model).observe(record.end_to_end_us / US_PER_S)
        if record.ttft_us is not None:
            self._ttft.labels(model).observe(record.ttft_us / US_PER_S)
            if record.response_tokens > 1:
                gap_us = (record.end_to_end_us - record.ttft_us) / (record.response_tokens - 1)
                self._token_time.labels(model).observe(gap_us / US_PER_S)
        if record.predicted_length is not None and not record.censored:
            self._ratio.labels(model).observe(record.response_tokens / max(record.predicted_length.p50, 1))

    def _label(self, model: str) -> str:
        if model not in self._models and len(self._models) >= MODELS_MAX:
            return "other"
        self._models.add(model)
        return model


class SnapshotGauges(Collector):
    """Shows the snapshot that was published last; the page is served by another thread, so values are immutable."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._shown: tuple[Snapshot, Sequence[Instance]] = (Snapshot(0, (), ()), ())
        registry.register(self)

    def publish(self, snapshot: Snapshot, instances: Sequence[Instance]) -> None:
        """Shows these from now on."""
        self._shown = (snapshot, instances)

    def collect(self) -> Iterator[Metric]:
        """All gauges of the snapshot."""
        snapshot, instances = self._shown
        yield from _model_gauges(snapshot)
        yield from _instance_gauges(snapshot)
        states = Tally((one.model, one.state.name.lower()) for one in instances)
        yield _gauge("forebay_instances", "Instances in a state.", ("model", "state"), states)


def _model_gauges(snapshot: Snapshot) -> Iterator[Metric]:
    held = {(load.model,): load.held_count for load in snapshot.models}
    yield _gauge("forebay_requests_held", "Requests that schedulers hold.", ("model",), held)
    in_flight = {(load.model,): load.in_flight_count for load in snapshot.models}
    yield _gauge("forebay_requests_in_flight", "Requests in flight by schedulers' leases.", ("model",), in_flight)


_INSTANCE_GAUGES = {
    "reachable": ("forebay_instance_reachable", "1 if the server answered the last probes, 0 if not."),
    "running_count": ("forebay_instance_requests_running", "Requests that the engine runs."),
    "waiting_count": ("forebay_instance_requests_waiting", "Requests that wait in the server."),
    "kv_utilization": ("forebay_instance_kv_utilization_ratio", "Share of the KV cache in use, 0 to 1."),
}


def _instance_gauges(snapshot: Snapshot) -> Iterator[Metric]:
    for field, (name, text) in _INSTANCE_GAUGES.items():
        values = {(load.instance_id, load.model): getattr(load, field) for load in snapshot.instances}
        known = {labels: value for labels, value in values.items() if value is not None}
        yield _gauge(name, text, ("instance_id", "model"), known)


def _gauge(name: str, text: str, labels: Sequence[str], values: Mapping[Any, float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family
