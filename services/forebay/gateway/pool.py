"""The gateway as a model server for others' pickers: what waits, what runs and how full the caches are, a model each.

Names and meanings are those of the model-server protocol of the Gateway API inference extension (docs/proposals/003),
which takes vLLM's by default. The figures are this gateway's own: of the fleet's caches, what its requests hold.
"""

from collections.abc import Iterator, Sequence

from lmaas.orca.orca_pb2 import OrcaLoadReport
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from forebay.core.values import Instance
from forebay.gateway.engine import Engine
from forebay.gateway.flights import Flight, Phase
from forebay.wire import orca

_LABELS = ("model_name",)
_REPORTS_MAX = 10_000


class PoolGauges(Collector):
    """Shows the engine's requests; the page is served by another thread, which only reads.

    Beside them, of instances that take requests, how full they say that their caches are.
    """

    def __init__(self, engine: Engine, registry: CollectorRegistry) -> None:
        self._engine = engine
        self._reported: dict[str, float] = {}
        registry.register(self)

    def reported(self, instance_id: str, report: OrcaLoadReport) -> None:
        """Takes what an instance told of itself with an answer."""
        share = orca.kv_utilization(report)
        if share is not None:
            if len(self._reported) >= _REPORTS_MAX:
                self._reported = {}
            self._reported[instance_id] = share

    def collect(self) -> Iterator[Metric]:
        """The gauges as they are now."""
        waiting = GaugeMetricFamily("vllm:num_requests_waiting", "Requests without an instance.", labels=_LABELS)
        running = GaugeMetricFamily("vllm:num_requests_running", "Requests on an instance.", labels=_LABELS)
        usage = GaugeMetricFamily("vllm:kv_cache_usage_perc", "Share of the caches in use, 1 is all.", labels=_LABELS)
        told = GaugeMetricFamily(
            "forebay_gateway_instance_kv_utilization_ratio",
            "Share of the KV cache in use, as instances report it with their answers.",
            labels=("instance_id",),
        )
        flights, fleet = self._engine.flights(), self._engine.fleet
        for model in fleet.models():
            own = [one for one in flights if one.request.model == model]
            on = [one for one in own if one.phase is Phase.RUNNING]
            waiting.add_metric((model,), len(own) - len(on))
            running.add_metric((model,), len(on))
            share = kv_share(on, fleet.ready(model))
            if share is not None:
                usage.add_metric((model,), share)
            for one in fleet.ready(model):
                if one.instance_id in self._reported:
                    told.add_metric((one.instance_id,), self._reported[one.instance_id])
        yield from (waiting, running, usage, told)


def kv_share(running: Sequence[Flight], instances: Sequence[Instance]) -> float | None:
    """Tokens of the running requests over what the caches hold; None where any instance does not tell its size."""
    if not instances or any(not one.kv_tokens_max for one in instances):
        return None
    held = sum((one.prompt_tokens or one.request.prompt_tokens) + one.generated_tokens for one in running)
    return min(1.0, held / sum(one.kv_tokens_max for one in instances))
