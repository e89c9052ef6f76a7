"""What the predictor counts, for Prometheus."""

from collections import Counter as Tally
from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from forebay.core.prediction import PredictorAccuracy
from forebay.core.values import LengthPrediction
from forebay.predictor.engine import PredictorEngine

ROWS_MAX = 100
"""Series of accuracy at most: those with the most outcomes."""
LABELS = ("predictor", "model", "application")
GAUGES = (
    ("accuracy_outcomes", "Outcomes that the figures of a predictor, model and application rest on.", "outcome_count"),
    ("accuracy_mae_tokens", "Mean absolute error of the newest 500 medians.", "mae_tokens"),
    ("accuracy_coverage_p90", "Share of the newest 500 answers within p90.", "coverage_p90"),
    ("accuracy_reserve_ratio", "Sum of the newest 500 bounds over that of the lengths.", "reserve_ratio"),
    ("accuracy_drifting", "Whether the bounds fail more often than chance allows.", "is_drifting"),
)


class Meters:
    """Counters and gauges of one predictor."""

    def __init__(self, registry: CollectorRegistry, engine: PredictorEngine) -> None:
        self._predictions = Counter("forebay_predictor_predictions", "Lengths predicted.", ("by",), registry=registry)
        self.outcomes = Counter("forebay_predictor_outcomes", "Outcomes learned from.", registry=registry)
        overall = engine.accuracy.overall
        for name, text, value in (
            ("failures", "Times a predictor could not answer or learn.", lambda: engine.failure_count),
            ("mae_tokens", "Mean absolute error of the last 500 medians.", lambda: overall.mae_tokens),
            ("coverage_p90", "Share of the last 500 answers within p90.", lambda: overall.coverage_p90 or 0.0),
        ):
            Gauge(f"forebay_predictor_{name}", text, registry=registry).set_function(value)
        registry.register(AccuracyGauges(engine))

    def count(self, predictions: Sequence[LengthPrediction]) -> None:
        """Counts what was answered, by who did."""
        for by, count in Tally(one.predicted_by for one in predictions).items():
            self._predictions.labels(by).inc(count)


class AccuracyGauges(Collector):
    """The figures of every predictor, model and application, `ROWS_MAX` at most, read when somebody asks."""

    def __init__(self, engine: PredictorEngine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One family a figure; what is not known is left out."""
        rows = sorted(self._engine.accuracy.rows(), key=lambda row: -row.outcome_count)[:ROWS_MAX]
        for name, text, field in GAUGES:
            family = GaugeMetricFamily(f"forebay_predictor_{name}", text, labels=LABELS)
            for labels, value in _values(rows, field):
                family.add_metric(labels, value)
            yield family


def _values(rows: Iterable[PredictorAccuracy], field: str) -> Iterator[tuple[list[str], float]]:
    for row in rows:
        value: float | None = getattr(row, field)
        if value is not None:
            yield [row.predictor, row.model, row.application], float(value)
