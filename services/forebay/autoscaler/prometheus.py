"""The fleet and its decisions on the Prometheus page."""

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

from forebay.core.fleet import ModelFleet, ScalingDecision

_POOL = ("model", "pool")
_LIMITS = (
    ("budget", "budget"),
    ("no GPU", "stock"),
    ("no server", "servers"),
    ("after failures", "failures"),
    ("the bounds", "bounds"),
    ("those that drain", "bounds"),
    ("a step", "step"),
)


class FleetStats(Collector):
    """Instances by model, pool and state, the wish for a pool with the limit in its way, and decisions taken.

    The page is served by another thread, so that what is shown is replaced and never changed.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._shown: tuple[ModelFleet, ...] = ()
        self._decisions = Counter(
            "forebay_autoscaler_decisions", "Decisions recorded.", ("model", "mode"), registry=registry
        )
        self._alarms = Counter("forebay_autoscaler_alarms", "Starts and instances that failed.", registry=registry)
        registry.register(self)

    def show(self, models: Iterable[ModelFleet]) -> None:
        """Shows these from now on."""
        self._shown = tuple(models)

    def count(self, decision: ScalingDecision) -> None:
        """Counts a decision."""
        self._decisions.labels(decision.model, decision.mode).inc()

    def alarm(self) -> None:
        """Counts a failure."""
        self._alarms.inc()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The gauges of all pools."""
        states = GaugeMetricFamily("forebay_autoscaler_instances", "Instances of the fleet.", labels=(*_POOL, "state"))
        wanted = GaugeMetricFamily(
            "forebay_autoscaler_instances_wanted", "Instances wanted within the bounds.", labels=_POOL
        )
        limited = GaugeMetricFamily(
            "forebay_autoscaler_pool_limited", "1 while a limit keeps a pool from its wish.", labels=(*_POOL, "limit")
        )
        for one in self._shown:
            wanted.add_metric((one.model, one.pool), one.instances_wanted)
            counts = {"ready": one.ready_count, "starting": one.starting_count, "draining": one.draining_count}
            for state, count in counts.items():
                states.add_metric((one.model, one.pool, state), count)
            if one.bound_by:
                limited.add_metric((one.model, one.pool, limit_of(one.bound_by)), 1)
        yield from (states, wanted, limited)


def limit_of(text: str) -> str:
    """The limit that a text of the safety kernel speaks of, as one word: few enough for a label."""
    return next((word for part, word in _LIMITS if part in text), "other")
