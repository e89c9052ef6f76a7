"""What the scheduler counts on its Prometheus page."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from forebay.core.scheduling import Answer, Placement, QueueStatus, Rejected
from forebay.core.units import US_PER_S

_HELD_BUCKETS_S = (0.0, 0.001, 0.01, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0)
_HELD_BUCKETS_US = [round(US_PER_S * edge_s) for edge_s in _HELD_BUCKETS_S]


class Meters(Collector):
    """Counts answers, times holds, and shows the queues as they were last sampled.

    What is counted for each request is a plain number until somebody reads the page: counters of the library lock.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._answer_counts: Counter[tuple[str, str]] = Counter()
        self._prediction_counts = [0, 0]
        self._held_counts = [0] * (len(_HELD_BUCKETS_US) + 1)
        self._held_us = 0
        self._held = Gauge("forebay_scheduler_held", "Requests held.", ("model",), registry=registry)
        self._leases = Gauge("forebay_scheduler_leases", "Requests in flight.", ("model",), registry=registry)
        registry.register(self)

    def answered(self, answer: Answer) -> None:
        """Takes one answer."""
        if isinstance(answer, Placement):
            self._held_counts[bisect_left(_HELD_BUCKETS_US, answer.held_us)] += 1
            self._held_us += answer.held_us
        else:
            verdict = "rejected" if isinstance(answer, Rejected) else "retry"
            self._answer_counts[verdict, answer.reason] += 1

    def predicted(self, in_time: bool) -> None:
        """Takes whether the predictor answered in time."""
        self._prediction_counts[in_time] += 1

    def sampled(self, queue: QueueStatus) -> None:
        """Takes the state of one model's queue."""
        self._held.labels(queue.model).set(queue.held_count)
        self._leases.labels(queue.model).set(queue.lease_count)

    def collect(self) -> Iterator[Metric]:
        """What was counted by now."""
        answers = CounterMetricFamily("forebay_scheduler_answers", "Arrivals answered.", labels=("verdict", "reason"))
        sums = list(accumulate(self._held_counts))
        for labels, count in {("placed", ""): sums[-1], **self._answer_counts}.items():
            answers.add_metric(labels, count)
        predictions = CounterMetricFamily(
            "forebay_scheduler_predictions", "Lengths asked for, by who answered.", labels=("source",)
        )
        for source, count in zip(("histogram", "predictor"), self._prediction_counts, strict=True):
            predictions.add_metric((source,), count)
        edges = [*map(str, _HELD_BUCKETS_S), "+Inf"]
        buckets = list(zip(edges, sums, strict=True))
        text = "Arrival to placement, in seconds."
        held = HistogramMetricFamily("forebay_scheduler_held_seconds", text, buckets, self._held_us / US_PER_S)
        yield from (answers, predictions, held)
