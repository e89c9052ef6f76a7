"""The metrics of the GenAI semantic conventions for model servers, as Prometheus spells their names.

Names, units and bucket boundaries: https://github.com/open-telemetry/semantic-conventions-genai, metrics. The page is
also what OTLP sends, under the conventions' own names; see wire/tracing_metrics.py.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from forebay.core.units import US_PER_S
from forebay.gateway.values import RequestRecord, RequestStatus

PROVIDER = "triton"
"""gen_ai.provider.name: who answers."""
CHAT, TEXT_COMPLETION = "chat", "text_completion"
"""gen_ai.operation.name."""

_TOKENS = tuple(float(4**power) for power in range(14))
_SECONDS = tuple(0.01 * 2**power for power in range(14))
_FIRST_TOKEN_S = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_TOKEN_TIME_S = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
_LABELS = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")


class _Family:
    """A histogram in plain numbers: it is counted for each request, and read rarely."""

    def __init__(self, name: str, text: str, edges: Sequence[float], extra_label: str = "") -> None:
        self._name = name
        self._text = text
        self._edges = edges
        self._labels = (*_LABELS, extra_label) if extra_label else _LABELS
        self._series: dict[tuple[str, ...], tuple[list[int], list[float]]] = {}

    def observe(self, labels: tuple[str, ...], value: float) -> None:
        """Takes one value."""
        series = self._series.get(labels)
        if series is None:
            series = self._series[labels] = ([0] * (len(self._edges) + 1), [0.0])
        series[0][bisect_left(self._edges, value)] += 1
        series[1][0] += value

    def family(self) -> Metric:
        """What was counted by now."""
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        names = [*(f"{edge:.10g}" for edge in self._edges), "+Inf"]
        for labels, (counts, total) in list(self._series.items()):
            family.add_metric(labels, list(zip(names, accumulate(counts), strict=True)), total[0])
        return family


class GenAi(Collector):
    """Counts requests as they end."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._usage = _Family("gen_ai_client_token_usage", "Tokens of a request.", _TOKENS, "gen_ai_token_type")
        self._duration = _Family(
            "gen_ai_server_request_duration_seconds", "Arrival to last token.", _SECONDS, "error_type"
        )
        self._first = _Family(
            "gen_ai_server_time_to_first_token_seconds", "Arrival to first token, of good answers.", _FIRST_TOKEN_S
        )
        self._each = _Family(
            "gen_ai_server_time_per_output_token_seconds", "Mean time of the tokens after the first.", _TOKEN_TIME_S
        )
        registry.register(self)

    def ended(self, record: RequestRecord, operation: str, model: str) -> None:
        """Counts a request under `model`, which must be one of few."""
        labels = (operation, PROVIDER, model)
        total_us = record.end_us - record.arrival_us
        self._duration.observe((*labels, record.error_reason), total_us / US_PER_S)
        if record.status is not RequestStatus.OK or not record.first_token_us:
            return
        self._usage.observe((*labels, "input"), record.prompt_tokens)
        self._usage.observe((*labels, "output"), record.response_tokens)
        first_us = record.first_token_us - record.arrival_us
        self._first.observe(labels, first_us / US_PER_S)
        if record.response_tokens > 1:
            self._each.observe(labels, (total_us - first_us) / (record.response_tokens - 1) / US_PER_S)

    def collect(self) -> Iterator[Metric]:
        """All families."""
        yield from (one.family() for one in (self._usage, self._duration, self._first, self._each))
