"""The fleet and its decisions on the Prometheus page."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge

from forebay.core.fleet import ModelFleet, ScalingDecision


class FleetStats:
    """Instances by model and state, the wish a model, and decisions taken."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._instances = Gauge(
            "forebay_autoscaler_instances", "Instances of the fleet.", ("model", "state"), registry=registry
        )
        self._wanted = Gauge(
            "forebay_autoscaler_instances_wanted", "Instances wanted within the bounds.", ("model",), registry=registry
        )
        self._decisions = Counter(
            "forebay_autoscaler_decisions", "Decisions recorded.", ("model", "mode"), registry=registry
        )
        self._alarms = Counter("forebay_autoscaler_alarms", "Starts and instances that failed.", registry=registry)

    def show(self, models: Iterable[ModelFleet]) -> None:
        """Sets the gauges."""
        for model in models:
            self._wanted.labels(model.model).set(model.instances_wanted)
            self._instances.labels(model.model, "ready").set(model.ready_count)
            self._instances.labels(model.model, "starting").set(model.starting_count)
            self._instances.labels(model.model, "draining").set(model.draining_count)

    def count(self, decision: ScalingDecision) -> None:
        """Counts a decision."""
        self._decisions.labels(decision.model, decision.mode).inc()

    def alarm(self) -> None:
        """Counts a failure."""
        self._alarms.inc()
