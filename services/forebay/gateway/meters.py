"""The gateway's own Prometheus metrics."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from forebay.core.units import US_PER_S
from forebay.gateway.genai import GenAi
from forebay.gateway.values import RequestRecord

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Meters:
    """Counts requests as they end. Nothing here runs once a token."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.genai = GenAi(registry)
        self.requests = Counter("forebay_gateway_requests", "Requests ended.", ("model", "status"), registry=registry)
        self.attempts = Counter("forebay_gateway_attempts", "Instances tried.", ("model",), registry=registry)
        self.tokens = Counter("forebay_gateway_tokens", "Tokens moved.", ("model", "kind"), registry=registry)
        self.first_token = Histogram(
            "forebay_gateway_time_to_first_token_seconds",
            "Arrival to first token.",
            ("model",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.in_flight = Gauge("forebay_gateway_in_flight_requests", "Requests not ended.", registry=registry)
        self.linked = Gauge("forebay_gateway_scheduler_linked", "1 while the stream is open.", registry=registry)
        self.self_placed = Counter(
            "forebay_gateway_self_placed", "Placed without the scheduler.", ("model",), registry=registry
        )

    def ended(self, record: RequestRecord, model: str) -> None:
        """Counts a request under `model`; one that does not exist must not become a label."""
        self.requests.labels(model, record.status.name).inc()
        self.attempts.labels(model).inc(record.attempt_count)
        self.tokens.labels(model, "response").inc(record.response_tokens)
        if record.response_tokens:
            self.tokens.labels(model, "prompt").inc(record.prompt_tokens)
        if record.first_token_us:
            self.first_token.labels(model).observe((record.first_token_us - record.arrival_us) / US_PER_S)
        if record.placement is not None and not record.placement.decision_id:
            self.self_placed.labels(model).inc()
