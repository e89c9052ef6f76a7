"""What the page shows over time: traffic beside its forecasts, promises kept, answers beside their predictions."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lmaas.autoscaler.v1.fleet_pb2 import ForecastBand
from lmaas.predictor.v1.workload_pb2 import Quantiles

from forebay.core.metrics import RequestRecord
from forebay.core.units import US_PER_S
from forebay.core.values import SloClass, WorkloadPoint
from forebay.metrics.page.recent import Numbered, Recent
from forebay.metrics.page.view import Section, ms

TRAFFIC_WINDOW_US = 10 * US_PER_S
TRAFFIC_SPAN_US = 1_200 * US_PER_S
AHEAD_SPAN_US = 900 * US_PER_S
DECISION_COUNT_MAX = 40
LENGTH_COUNT_MAX = 300

Band = tuple[float, list[float], list[float]]


class Bands:
    """The forecasts of each model by window: of a window that has begun, what was last said before it did."""

    def __init__(self) -> None:
        self._bands: dict[tuple[str, int], Band] = {}

    def tell(self, bands: Iterable[ForecastBand], now_us: int) -> None:
        """Takes what is forecast now, and forgets what is too old to be shown."""
        for one in bands:
            start_us = one.start_time.ToMicroseconds()
            window_s = one.window.ToMicroseconds() / US_PER_S
            if window_s > 0 and (start_us > now_us or (one.model, start_us) not in self._bands):
                self._bands[one.model, start_us] = (
                    window_s,
                    _rates(one.requests, window_s),
                    _rates(one.response_tokens, window_s),
                )
        for key in [key for key in self._bands if not now_us - TRAFFIC_SPAN_US <= key[1] <= now_us + AHEAD_SPAN_US]:
            del self._bands[key]

    def section(self) -> Section:
        """By model and start: seconds of the window, requests a second and tokens a second (p10, p50, p90)."""
        return {
            f"{name}|{start_us // US_PER_S}": [window_s, requests, tokens]
            for (name, start_us), (window_s, requests, tokens) in self._bands.items()
        }


def _rates(quantiles: Quantiles, window_s: float) -> list[float]:
    return [round(value / window_s, 4) for value in (quantiles.p10, quantiles.p50, quantiles.p90)]


def traffic(points: Mapping[str, Sequence[WorkloadPoint]]) -> Section:
    """What arrived, by model and start of a window: requests a second and tokens a second generated for them."""
    window_s = TRAFFIC_WINDOW_US / US_PER_S
    return {
        f"{name}|{one.start_us // US_PER_S}": [
            round(one.request_count / window_s, 3),
            round(one.response_tokens / window_s, 2),
        ]
        for name, series in points.items()
        for one in series
    }


def slo(recent: Recent, now_us: int) -> Section:
    """By class and start of a bucket in seconds: requests whose promise was kept, and all that ended."""
    found = recent.attainment(now_us)
    return {f"{name.name.lower()}|{start_us // US_PER_S}": list(counts) for (name, start_us), counts in found.items()}


def lengths(records: Sequence[Numbered]) -> Section:
    """Answers that were not cut, by number: model, predicted p10, p50 and p90, tokens generated."""
    known = [each for each in records if each.record.predicted_length and not each.record.censored]
    answered = [each for each in known if each.record.response_tokens][-LENGTH_COUNT_MAX:]
    return {str(each.number): _length(each.record) for each in answered}


def _length(one: RequestRecord) -> list[Any]:
    predicted = one.predicted_length
    assert predicted is not None, "only such are shown"
    return [one.model, predicted.p10, predicted.p50, predicted.p90, one.response_tokens]


def decisions(records: Sequence[Numbered]) -> Section:
    """The newest placements and refusals with what came of them, by number; no text and nobody's name."""
    return {str(each.number): _decision(each.record) for each in records[-DECISION_COUNT_MAX:]}


def _decision(one: RequestRecord) -> Section:
    predicted = one.predicted_length
    return {
        "id": one.decision_id,
        "at": ms(one.arrival_us + one.held_us),
        "model": one.model,
        "instance": one.instance_id,
        "class": SloClass(one.slo_class).name.lower(),
        "status": one.status.name.lower(),
        "why": one.error_reason,
        "held_ms": round(one.held_us / 1_000, 1),
        "ttft_ms": None if one.ttft_us is None else round(one.ttft_us / 1_000, 1),
        "whole_ms": round(one.end_to_end_us / 1_000, 1),
        "predicted": [predicted.p10, predicted.p50, predicted.p90] if predicted else None,
        "tokens": one.response_tokens,
        "tries": one.attempt_count,
    }


def series_sections(
    recent: Recent, bands: Bands, points: Mapping[str, Sequence[WorkloadPoint]], now_us: int
) -> dict[str, Section]:
    """All sections that grow with time."""
    records = recent.records()
    return {
        "traffic": traffic(points),
        "bands": bands.section(),
        "slo": slo(recent, now_us),
        "lengths": lengths(records),
        "decisions": decisions(records),
    }
