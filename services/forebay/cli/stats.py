"""Figures of a load run: latency quantiles, promises kept, predicted against actual length, failures by reason."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from forebay.core.values import LengthQuantiles

OK = "ok"
CANCELLED = "CANCELLED"
TTFT_LIMIT_S: Mapping[str, float | None] = {"interactive-fast": 1.0, "interactive-normal": 60.0, "deferred": None}
"""What each class promises: its first token within so many seconds; None promises nothing about the first token."""
SLOWEST_COUNT = 5


@dataclass(frozen=True, slots=True)
class Result:
    """What a client saw of one request. Seconds; None where it never came."""

    index: int
    model: str
    application: str
    slo_class: str
    sent_s: float
    outcome: str = OK
    """OK, or the stable reason of the failure."""
    message: str = ""
    ttft_s: float | None = None
    e2e_s: float | None = None
    output_tokens: int = 0
    finish_reason: str = ""
    decision_id: str = ""
    instance_id: str = ""
    predicted: LengthQuantiles | None = None

    @property
    def tpot_s(self) -> float | None:
        """Mean time of an output token after the first."""
        if self.ttft_s is None or self.e2e_s is None or self.output_tokens < 2:
            return None
        return (self.e2e_s - self.ttft_s) / (self.output_tokens - 1)


@dataclass(frozen=True, slots=True)
class Spread:
    """Three quantiles of a latency in seconds; None where nothing was measured."""

    p50: float | None = None
    p90: float | None = None
    p99: float | None = None


@dataclass(frozen=True, slots=True)
class Attainment:
    """How many requests of one class had their first token in time; a failed request had not."""

    slo_class: str
    ttft_limit_s: float
    met_count: int
    total_count: int


@dataclass(frozen=True, slots=True)
class LengthAccuracy:
    """Predicted against actual answer length, in tokens; shares of answers at most as long as each quantile.

    Answers that were cut at their limit tell nothing about a prediction, which knew the limit: they are only counted.
    """

    count: int = 0
    cut_count: int = 0
    median_abs_error: float | None = None
    within_p50: float | None = None
    within_p90: float | None = None
    within_p97: float | None = None


@dataclass(frozen=True, slots=True)
class Slow:
    """One slow request and the decision that placed it."""

    decision_id: str
    model: str
    instance_id: str
    ttft_s: float
    e2e_s: float


@dataclass(frozen=True, slots=True)
class Summary:
    """All figures of one run."""

    wall_s: float
    request_count: int
    ok_count: int
    cancelled_count: int
    failures: Mapping[str, int]
    ttft_s: Spread
    tpot_s: Spread
    e2e_s: Spread
    attainment: tuple[Attainment, ...]
    length: LengthAccuracy
    output_tokens: int
    output_tokens_per_s: float
    slowest: tuple[Slow, ...]

    @property
    def failed_count(self) -> int:
        """Requests that ended with an error."""
        return sum(self.failures.values())


def spread(values: Iterable[float | None]) -> Spread:
    """Quantiles by linear interpolation; None among the values is left out."""
    known = [value for value in values if value is not None]
    if not known:
        return Spread()
    p50, p90, p99 = (float(q) for q in np.quantile(known, (0.5, 0.9, 0.99)))
    return Spread(p50, p90, p99)


def attainment(results: Sequence[Result]) -> tuple[Attainment, ...]:
    """Promises kept, a class each, for classes that promise a first token; cancelled requests do not count."""
    found = []
    for slo_class, limit_s in TTFT_LIMIT_S.items():
        counted = [one for one in results if one.slo_class == slo_class and one.outcome != CANCELLED]
        if limit_s is None or not counted:
            continue
        met = sum(one.outcome == OK and one.ttft_s is not None and one.ttft_s <= limit_s for one in counted)
        found.append(Attainment(slo_class, limit_s, met, len(counted)))
    return tuple(found)


def length_accuracy(results: Sequence[Result]) -> LengthAccuracy:
    """Predicted against actual length of the answers that came with a prediction."""
    known = [(one, one.predicted) for one in results if one.outcome == OK and one.predicted is not None]
    pairs = [(predicted, one.output_tokens) for one, predicted in known if one.finish_reason != "length"]
    cut_count = len(known) - len(pairs)
    if not pairs:
        return LengthAccuracy(cut_count=cut_count)
    return LengthAccuracy(
        count=len(pairs),
        cut_count=cut_count,
        median_abs_error=float(np.median([abs(actual - predicted.p50) for predicted, actual in pairs])),
        within_p50=float(np.mean([actual <= predicted.p50 for predicted, actual in pairs])),
        within_p90=float(np.mean([actual <= predicted.p90 for predicted, actual in pairs])),
        within_p97=float(np.mean([actual <= predicted.p97 for predicted, actual in pairs])),
    )


def slowest(results: Sequence[Result], count: int = SLOWEST_COUNT) -> tuple[Slow, ...]:
    """The requests that waited longest for their first token, with the decisions that explain why."""
    answered = [one for one in results if one.ttft_s is not None and one.e2e_s is not None and one.decision_id]
    answered.sort(key=lambda one: (-(one.ttft_s or 0.0), one.index))
    return tuple(
        Slow(one.decision_id, one.model, one.instance_id, one.ttft_s or 0.0, one.e2e_s or 0.0)
        for one in answered[:count]
    )


def summarise(results: Sequence[Result], wall_s: float) -> Summary:
    """All figures of one run that took `wall_s`."""
    ok = [one for one in results if one.outcome == OK]
    failures = Counter(one.outcome for one in results if one.outcome not in (OK, CANCELLED))
    tokens = sum(one.output_tokens for one in results)
    return Summary(
        wall_s=wall_s,
        request_count=len(results),
        ok_count=len(ok),
        cancelled_count=sum(one.outcome == CANCELLED for one in results),
        failures=dict(failures.most_common()),
        ttft_s=spread(one.ttft_s for one in ok),
        tpot_s=spread(one.tpot_s for one in ok),
        e2e_s=spread(one.e2e_s for one in ok),
        attainment=attainment(results),
        length=length_accuracy(results),
        output_tokens=tokens,
        output_tokens_per_s=tokens / wall_s if wall_s > 0 else 0.0,
        slowest=slowest(ok),
    )
