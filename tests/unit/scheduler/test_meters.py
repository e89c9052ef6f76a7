from prometheus_client import CollectorRegistry

from forebay.core.scheduling import Placement, QueueStatus, Rejected, Retry
from forebay.core.values import LengthQuantiles
from forebay.scheduler.meters import Meters

PLACEMENT = Placement("r1", "l1", "d1", "a/m", "a:1", LengthQuantiles(1, 2, 3, 4), "test@1", 60, 2_000_000)


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)


def test_answers_are_counted_by_verdict_and_reason() -> None:
    registry = CollectorRegistry()
    meters = Meters(registry)
    meters.answered(PLACEMENT)
    meters.answered(Rejected("r2", "MODEL_UNKNOWN", "", "d2"))
    meters.answered(Retry("r3", "QUEUE_FULL", "", 1, "d3"))
    for verdict, reason in (("placed", ""), ("rejected", "MODEL_UNKNOWN"), ("retry", "QUEUE_FULL")):
        assert value(registry, "forebay_scheduler_answers_total", verdict=verdict, reason=reason) == 1
    assert value(registry, "forebay_scheduler_held_seconds_sum") == 2
    assert value(registry, "forebay_scheduler_held_seconds_count") == 1
    assert value(registry, "forebay_scheduler_held_seconds_bucket", le="1.0") == 0
    assert value(registry, "forebay_scheduler_held_seconds_bucket", le="5.0") == 1


def test_fallbacks_are_counted() -> None:
    registry = CollectorRegistry()
    meters = Meters(registry)
    for in_time in (True, False, False):
        meters.predicted(in_time)
    assert value(registry, "forebay_scheduler_predictions_total", source="histogram") == 2


def test_queues_are_shown_as_last_sampled() -> None:
    registry = CollectorRegistry()
    meters = Meters(registry)
    for held in (5, 3):
        meters.sampled(QueueStatus("m", held, 0, 7))
    assert value(registry, "forebay_scheduler_held", model="m") == 3
    assert value(registry, "forebay_scheduler_leases", model="m") == 7
