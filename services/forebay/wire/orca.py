"""Load reports of Open Request Cost Aggregation as they stand in headers and trailers: text, JSON and binary.

A client asks by the header `endpoint-load-metrics-format` (text, json or bin). The answer's `endpoint-load-metrics`
names its form first, as Triton and vLLM send it; `endpoint-load-metrics-bin` is the message itself, as in gRPC's
trailers.
Sources: gRPC proposals A51 and A64, https://github.com/cncf/xds, Triton's user guide on metrics.
"""

import base64
import binascii
import json
from collections.abc import Iterable, Mapping

from google.protobuf.message import DecodeError
from lmaas.orca.orca_pb2 import OrcaLoadReport

FORMAT, HEADER, BINARY_HEADER = "endpoint-load-metrics-format", "endpoint-load-metrics", "endpoint-load-metrics-bin"
SERVICE = "xds.service.orca.v3.OpenRcaService"
KV_UTILIZATION, TOKENS_MAX = "kv_cache_utilization", "max_token_capacity"
"""Triton's names."""
RUNNING, WAITING = "num_requests_running", "num_requests_waiting"
"""vLLM's."""
_KV_NAMES = (KV_UTILIZATION, "kv_cache_usage_perc", "gpu_cache_usage_perc")
_NUMBERS = ("cpu_utilization", "mem_utilization", "rps_fractional", "eps", "application_utilization")
_MAPS = ("request_cost", "utilization", "named_metrics")
_BYTES_MAX = 64 * 1024


def header_of(report: OrcaLoadReport, form: str) -> tuple[str, str] | None:
    """The header of a report in the form that a client asks for; None for a form that nobody knows."""
    match form.lower():
        case "text":
            return HEADER, f"TEXT {', '.join(f'{name}={value:g}' for name, value in _flat(report))}"
        case "json":
            return HEADER, f"JSON {json.dumps(_nested(report))}"
        case "bin":
            return BINARY_HEADER, base64.b64encode(report.SerializeToString()).decode()
    return None


def trailer_of(report: OrcaLoadReport, form: str) -> tuple[str, str | bytes] | None:
    """The same as a trailer of gRPC, whose binary form is no base64."""
    return (BINARY_HEADER, report.SerializeToString()) if form.lower() == "bin" else header_of(report, form)


def read(headers: Iterable[tuple[str, str | bytes]]) -> OrcaLoadReport | None:
    """The report that headers or trailers hold; None where there is none, or one that does not parse."""
    for name, value in headers:
        if name.lower() in (HEADER, BINARY_HEADER) and len(value) <= _BYTES_MAX:
            try:
                return _parse(name.lower(), value)
            except (ValueError, TypeError, DecodeError, binascii.Error, RecursionError):
                return None
    return None


def kv_utilization(report: OrcaLoadReport) -> float | None:
    """The share of the KV cache in use, by whichever name the server has for it."""
    for name in _KV_NAMES:
        for values in (report.named_metrics, report.utilization):
            if name in values and values[name] >= 0:
                return min(values[name], 1.0)
    return None


def count(report: OrcaLoadReport, name: str) -> int | None:
    """A count among the named metrics."""
    value = report.named_metrics.get(name)
    # What is no number compares as neither.
    return int(value) if value is not None and 0 <= value < 2**32 else None


def _parse(name: str, value: str | bytes) -> OrcaLoadReport:
    if name == BINARY_HEADER:
        # gRPC hands trailers of this kind over as bytes; over HTTP they are base64.
        return OrcaLoadReport.FromString(value if isinstance(value, bytes) else _decoded(value))
    text = value.decode() if isinstance(value, bytes) else value
    form, _, rest = text.strip().partition(" ")
    match form.upper():
        case "BIN":
            return OrcaLoadReport.FromString(_decoded(rest))
        case "JSON":
            return _of_json(rest)
        case "TEXT":
            return _of_text(rest)
    return _of_json(text) if text.lstrip().startswith("{") else _of_text(text)


def _decoded(text: str) -> bytes:
    """Base64 with or without its padding."""
    bare = text.strip().rstrip("=")
    return base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)


def _of_text(text: str) -> OrcaLoadReport:
    report = OrcaLoadReport()
    for pair in filter(None, (one.strip() for one in text.split(","))):
        path, _, value = pair.partition("=")
        _set(report, path.strip(), float(value))
    return report


def _of_json(text: str) -> OrcaLoadReport:
    report = OrcaLoadReport()
    values = json.loads(text)
    if not isinstance(values, dict):
        raise ValueError("a report must be an object")
    for name, value in values.items():
        for path, number in _paths(name, value):
            _set(report, path, number)
    return report


def _paths(name: str, value: object) -> Iterable[tuple[str, float]]:
    if isinstance(value, dict):
        return [(f"{name}.{key}", float(number)) for key, number in value.items()]
    return [(name, float(str(value)))]


def _set(report: OrcaLoadReport, path: str, value: float) -> None:
    """Sets a field; of what is unknown nothing is kept, since reports may grow."""
    outer, _, inner = path.partition(".")
    if outer in _MAPS and inner:
        getattr(report, outer)[inner] = value
    elif outer in _NUMBERS and not inner:
        setattr(report, outer, value)


def _flat(report: OrcaLoadReport) -> Iterable[tuple[str, float]]:
    for name, value in _nested(report).items():
        if isinstance(value, Mapping):
            yield from ((f"{name}.{key}", number) for key, number in value.items())
        else:
            yield name, value


def _nested(report: OrcaLoadReport) -> dict[str, float | dict[str, float]]:
    numbers = {name: getattr(report, name) for name in _NUMBERS if getattr(report, name)}
    maps = {name: dict(sorted(getattr(report, name).items())) for name in _MAPS if getattr(report, name)}
    return {**numbers, **maps}
