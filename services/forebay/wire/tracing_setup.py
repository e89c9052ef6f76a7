"""Reads the standard OTEL_* variables: whether traces and metrics are sent by OTLP, where to, and by which protocol."""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry

from forebay import __version__
from forebay.core.errors import ConfigError
from forebay.wire.tracing import OFF, Tracer

_PROTOCOLS = ("grpc", "http/protobuf")
CLOSE_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class Settings:
    """What of the environment we read ourselves; the rest (headers, sampler, certificates) the SDK reads."""

    traces: bool
    metrics: bool
    traces_protocol: str
    metrics_protocol: str
    queue_count_max: int
    batch_count_max: int
    interval_s: float
    metrics_interval_s: float

    @staticmethod
    def of(environment: Mapping[str, str]) -> "Settings":
        """The settings; signals are on where an endpoint or their exporter is named. Raises ConfigError."""
        return Settings(
            traces=_is_on(environment, "TRACES"),
            metrics=_is_on(environment, "METRICS"),
            traces_protocol=_protocol(environment, "TRACES"),
            metrics_protocol=_protocol(environment, "METRICS"),
            queue_count_max=_number(environment, "OTEL_BSP_MAX_QUEUE_SIZE", 2048),
            batch_count_max=_number(environment, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512),
            interval_s=_number(environment, "OTEL_BSP_SCHEDULE_DELAY", 5000) / 1000,
            metrics_interval_s=_number(environment, "OTEL_METRIC_EXPORT_INTERVAL", 60_000) / 1000,
        )


def open_tracer(
    part: str, instance: str, registry: CollectorRegistry, environment: Mapping[str, str] | None = None
) -> Tracer:
    """What records the spans of a service, and from then on sends its Prometheus metrics by OTLP too, if that is on.

    Off, nothing of OpenTelemetry is imported. Raises ConfigError for settings that make no sense.
    """
    settings = Settings.of(os.environ if environment is None else environment)  # noqa: TID251 - only roots call this
    if not (settings.traces or settings.metrics):
        return OFF
    # Its own logs say the same at every attempt; we say once when the collector goes and comes.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    from forebay.wire import tracing_metrics, tracing_sdk

    resource = tracing_sdk.resource_of(part, instance, __version__)
    sender = None
    if settings.metrics:
        exporter = _exporter(settings.metrics_protocol, "metric")
        sender = tracing_metrics.Sender(registry, exporter, resource, settings.metrics_interval_s)
    if not settings.traces:
        return tracing_metrics.MetricsOnly(sender) if sender else OFF
    batch_count = min(settings.batch_count_max, settings.queue_count_max)
    spans = _exporter(settings.traces_protocol, "trace")
    outbox = tracing_sdk.Outbox(spans, settings.queue_count_max, batch_count, settings.interval_s)
    tracing_sdk.OutboxMeters(outbox, registry)
    return tracing_sdk.SdkTracer(resource, outbox, sender)


def _exporter(protocol: str, signal: str) -> Any:
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcMetrics
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpans

        return GrpcSpans() if signal == "trace" else GrpcMetrics()
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpMetrics
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpans

    return HttpSpans() if signal == "trace" else HttpMetrics()


def _is_on(environment: Mapping[str, str], signal: str) -> bool:
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    name = f"OTEL_{signal}_EXPORTER"
    exporter = environment.get(name, "")
    if exporter not in ("", "otlp", "none"):
        text = "must be otlp or none"
        raise ConfigError(f"{name} {text}, not {exporter!r}", violations={name: text})
    endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
    return exporter == "otlp" or (not exporter and any(environment.get(one) for one in endpoints))


def _protocol(environment: Mapping[str, str], signal: str) -> str:
    common, own = "OTEL_EXPORTER_OTLP_PROTOCOL", f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL"
    protocol = environment.get(own) or environment.get(common) or _PROTOCOLS[0]
    if protocol not in _PROTOCOLS:
        text = f"must be one of {', '.join(_PROTOCOLS)}"
        raise ConfigError(f"{own} or {common} {text}, not {protocol!r}", violations={common: text})
    return protocol


def _number(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name, "")
    if text and not (text.isdecimal() and int(text) > 0):
        raise ConfigError(f"{name} must be a whole number above 0, not {text!r}", violations={name: "must be above 0"})
    return int(text or default)
