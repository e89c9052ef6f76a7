"""What the scheduler counts on its Prometheus page."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from forebay.core.scheduling import Answer, Placement, QueueStatus, Rejected
from forebay.core.units import US_PER_S

_HELD_BUCKETS_S = (0.0, 0.001, 0.01, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0)


class Meters:
    """Counts answers, times holds, and shows the queues as they were last sampled."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._answers = Counter(
            "forebay_scheduler_answers", "Arrivals answered.", ("verdict", "reason"), registry=registry
        )
        self._predictions = Counter(
            "forebay_scheduler_predictions", "Lengths asked for, by who answered.", ("source",), registry=registry
        )
        self._held_s = Histogram(
            "forebay_scheduler_held_seconds",
            "Arrival to placement, in seconds.",
            buckets=_HELD_BUCKETS_S,
            registry=registry,
        )
        self._held = Gauge("forebay_scheduler_held", "Requests held.", ("model",), registry=registry)
        self._leases = Gauge("forebay_scheduler_leases", "Requests in flight.", ("model",), registry=registry)
        self._placed = self._answers.labels("placed", "")
        self._sources = {True: self._predictions.labels("predictor"), False: self._predictions.labels("histogram")}

    def answered(self, answer: Answer) -> None:
        """Takes one answer."""
        if isinstance(answer, Placement):
            self._placed.inc()
            self._held_s.observe(answer.held_us / US_PER_S)
        else:
            verdict = "rejected" if isinstance(answer, Rejected) else "retry"
            self._answers.labels(verdict, answer.reason).inc()

    def predicted(self, in_time: bool) -> None:
        """Takes whether the predictor answered in time."""
        self._sources[in_time].inc()

    def sampled(self, queue: QueueStatus) -> None:
        """Takes the state of one model's queue."""
        self._held.labels(queue.model).set(queue.held_count)
        self._leases.labels(queue.model).set(queue.lease_count)
