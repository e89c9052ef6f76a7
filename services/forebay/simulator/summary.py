"""The figures of one run, by class and over all, in the terms of a fair comparison."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from forebay.core.promises import Promise, Promises
from forebay.core.units import US_PER_MS, US_PER_S
from forebay.simulator.bursts import find_bursts, peak, recovery_s
from forebay.simulator.config import CLASS_NAMES, World
from forebay.simulator.distance import Distance, distance_of
from forebay.simulator.fairness import TenantSummary, summarize_tenants
from forebay.simulator.results import STATUSES, UNKNOWN, RequestColumns, RunResult
from forebay.simulator.usage import FleetUsage, fleet_usage
from forebay.simulator.workload.base import Workload

ALL = "all"
CURVE_SHARES = (*(index / 100 for index in range(100)), 0.995, 0.999, 1.0)
"""The shares of requests at which a `Spread` keeps its whole distribution."""

Ints: TypeAlias = npt.NDArray[np.int64]
Mask: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Spread:
    """A distribution: mean, three quantiles, and the quantiles at `CURVE_SHARES`; empty where nothing was measured."""

    mean: float | None = None
    p50: float | None = None
    p90: float | None = None
    p99: float | None = None
    curve: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class LengthError:
    """Predicted against actual answer length of finished requests, in tokens; shares at most as long as predicted."""

    count: int = 0
    mean_abs_error: float | None = None
    median_abs_error: float | None = None
    within_p50: float | None = None
    within_p90: float | None = None


@dataclass(frozen=True, slots=True)
class ClassSummary:
    """One class, or all of them.

    `attainment` is requests that met all limits of their class over requests that arrived: rejected, failed and
    unfinished ones are misses. The `*_miss_count` say which limits finished requests missed; one may miss several.
    `goodput_per_s` counts requests that met their limits, `throughput_per_s` those that finished, over the run.
    `quality_mean` is over finished requests: 1 where an instance answered, less where [student] did, whose answers
    count in everything but tokens and the time between them. `lost_tokens` were dropped by evictions, to be computed
    again. `gap_s` is of the longest time between two tokens of each answer, `normalized_s` of the end-to-end time over
    the tokens of the answer, and `normalized_peak_s` its highest mean over the arrivals of five seconds. `recovery_s`
    is the longest time from a burst until promises are kept again (`bursts`), None without one. `deadline_count` are
    the requests with a deadline of their own, of which `deadline_met_count` finished in time; those that did not finish
    are misses.
    """

    slo_class: str
    request_count: int
    finished_count: int
    rejected_count: int
    failed_count: int
    unfinished_count: int
    met_count: int
    ttft_miss_count: int
    tpot_miss_count: int
    e2e_miss_count: int
    attainment: float | None
    goodput_per_s: float
    throughput_per_s: float
    output_tokens_per_s: float
    ttft_s: Spread
    tpot_s: Spread
    e2e_s: Spread
    held_s: Spread
    length: LengthError
    preemption_count: int
    attempt_count: int
    prefix_hit_share: float | None
    quality_mean: float | None = None
    lost_tokens: int = 0
    gap_s: Spread = field(default_factory=Spread)
    normalized_s: Spread = field(default_factory=Spread)
    deadline_count: int = 0
    deadline_met_count: int = 0
    normalized_peak_s: float | None = None
    recovery_s: float | None = None


@dataclass(frozen=True, slots=True)
class ProgramSummary:
    """Programs, that is requests with the same `program`; spreads are over those all of whose requests finished.

    `e2e_s` is from the first arrival to the last token, the time of tools and thinking between the calls included.
    `s_per_token` is that over the tokens of all its answers: Autellix' measure (arXiv 2502.13965).
    """

    program_count: int = 0
    finished_count: int = 0
    e2e_s: Spread = field(default_factory=Spread)
    s_per_token: Spread = field(default_factory=Spread)


@dataclass(frozen=True, slots=True)
class Summary:
    """All figures of one run; `classes` begins with all of them together, and leaves out classes without requests.

    `distance` is empty where the summary was made without the workload.
    """

    name: str
    seed: int
    load: float
    end_s: float
    classes: tuple[ClassSummary, ...]
    fleet: FleetUsage
    counters: Mapping[str, float] = field(default_factory=dict)
    rejections: Mapping[str, int] = field(default_factory=dict)
    programs: ProgramSummary = field(default_factory=ProgramSummary)
    distance: Distance = field(default_factory=Distance)
    tenants: TenantSummary = field(default_factory=TenantSummary)

    def of_class(self, name: str) -> ClassSummary | None:
        """The figures of a class, or of `ALL`; None where it had no requests."""
        return next((one for one in self.classes if one.slo_class == name), None)


def summarize(
    result: RunResult, slo: Promises, world: World, workload: Workload | None = None, target: float | None = None
) -> Summary:
    """All figures of a run under the promises `slo`; `world` tells the prices of its GPUs.

    `workload` is what the run began with: with it the summary says how far the run is from the best possible, at the
    share of promises that it kept and at the share `target`.
    """
    checked = _Checked.of(result.requests, slo)
    quality = world.student.quality
    everyone = np.ones(len(result.requests.status), dtype=np.bool_)
    masks = {ALL: everyone, **{name: result.requests.slo_class == code for code, name in CLASS_NAMES.items()}}
    end_s = result.end_us / US_PER_S
    fleet = fleet_usage(result, world)
    bursts_us = find_bursts(np.sort(result.requests.arrival_us))
    shares = _shares(result, checked.met)
    promised = replace(world, slo=slo)
    return Summary(
        name=result.name,
        seed=result.seed,
        load=result.load,
        end_s=end_s,
        classes=tuple(
            _of_class(name, result, mask, checked, quality, bursts_us)
            for name, mask in masks.items()
            if name == ALL or mask.any()
        ),
        fleet=fleet,
        counters=dict(result.counters),
        rejections=dict(result.rejections),
        programs=summarize_programs(result.requests),
        distance=Distance() if workload is None else distance_of(workload, promised, shares, fleet.gpu_hours, target),
        tenants=summarize_tenants(result, checked.met),
    )


def _shares(result: RunResult, met: Mask) -> dict[str, float]:
    """Which share of each model's requests met their limits."""
    masks = {name: result.requests.model == index for index, name in enumerate(result.models)}
    return {name: float(met[mask].mean()) for name, mask in masks.items() if mask.any()}


def summarize_programs(rows: RequestColumns) -> ProgramSummary:
    """The figures of all programs."""
    of_programs = np.flatnonzero(rows.program >= 0)
    if not len(of_programs):
        return ProgramSummary()
    _, number = np.unique(rows.program[of_programs], return_inverse=True)
    count = int(number.max()) + 1
    finished = np.ones(count, dtype=np.bool_)
    np.logical_and.at(finished, number, rows.status[of_programs] == STATUSES.index("finished"))
    start, end = np.full(count, np.iinfo(np.int64).max), np.zeros(count, dtype=np.int64)
    np.minimum.at(start, number, rows.arrival_us[of_programs])
    np.maximum.at(end, number, rows.finish_us[of_programs])
    tokens = np.bincount(number, rows.output_tokens[of_programs], count)
    e2e_s = (end - start)[finished] / US_PER_S
    return ProgramSummary(count, int(finished.sum()), spread(e2e_s), spread(e2e_s / tokens[finished]))


def met(requests: RequestColumns, slo: Promises) -> Mask:
    """Which requests finished within all limits of their class and their own deadline."""
    return _Checked.of(requests, slo).met


@dataclass(frozen=True, slots=True, eq=False)
class _Checked:
    """Which requests finished, and which limits those broke; latencies in seconds, of finished requests only."""

    finished: Mask
    late_first: Mask
    slow_tokens: Mask
    late_end: Mask
    past_deadline: Mask
    ttft_s: npt.NDArray[np.float64]
    tpot_s: npt.NDArray[np.float64]
    e2e_s: npt.NDArray[np.float64]

    @property
    def met(self) -> Mask:
        return self.finished & ~self.late_first & ~self.slow_tokens & ~self.late_end

    @staticmethod
    def of(rows: RequestColumns, slo: Promises) -> "_Checked":
        finished = rows.status == STATUSES.index("finished")
        ttft_us, e2e_us = rows.first_us - rows.arrival_us, rows.finish_us - rows.arrival_us
        gaps = np.maximum(rows.output_tokens - 1, 1)
        tpot_us = np.where(rows.output_tokens > 1, (rows.finish_us - rows.first_us) / gaps, 0.0)
        limits = {name: _limits(rows.slo_class, slo, name) for name in ("ttft_us", "tpot_us", "e2e_us")}
        own_deadline = (rows.deadline_us > 0) & (e2e_us > rows.deadline_us)
        late_end = (e2e_us > limits["e2e_us"]) | own_deadline
        return _Checked(
            finished=finished,
            late_first=finished & (ttft_us > limits["ttft_us"]),
            slow_tokens=finished & (tpot_us > limits["tpot_us"]),
            late_end=finished & late_end,
            past_deadline=finished & own_deadline,
            ttft_s=ttft_us / US_PER_S,
            tpot_s=tpot_us / US_PER_S,
            e2e_s=e2e_us / US_PER_S,
        )


def _limits(slo_class: Ints, slo: Promises, name: str) -> npt.NDArray[np.float64]:
    """The limit of each request in microseconds; infinite where its class is promised nothing."""
    table = np.full(max(CLASS_NAMES) + 1, np.inf)
    for code, class_name in CLASS_NAMES.items():
        promise: Promise = getattr(slo, class_name.replace("-", "_"))
        found = {
            "ttft_us": promise.ttft_s * US_PER_S,
            "tpot_us": promise.tpot_ms * US_PER_MS,
            "e2e_us": promise.e2e_s * US_PER_S,
        }
        table[code] = found[name] or np.inf
    return table[slo_class]


def _of_class(
    name: str, result: RunResult, mask: Mask, checked: _Checked, quality: float, bursts_us: list[int]
) -> ClassSummary:
    rows, end_s = result.requests, result.end_us / US_PER_S
    finished, met = checked.finished & mask, checked.met & mask
    served = finished & (rows.instance != UNKNOWN)
    count = int(mask.sum())
    by_status = dict(_by_status(rows.status[mask]))
    due = mask & (rows.deadline_us > 0)
    normalized_s = checked.e2e_s[finished] / np.maximum(rows.output_tokens[finished], 1)
    return ClassSummary(
        slo_class=name,
        request_count=count,
        **by_status,
        met_count=int(met.sum()),
        ttft_miss_count=int((checked.late_first & mask).sum()),
        tpot_miss_count=int((checked.slow_tokens & mask).sum()),
        e2e_miss_count=int((checked.late_end & mask).sum()),
        attainment=float(met.sum() / count) if count else None,
        goodput_per_s=_rate(met.sum(), end_s),
        throughput_per_s=_rate(finished.sum(), end_s),
        output_tokens_per_s=_rate(rows.output_tokens[served].sum(), end_s),
        ttft_s=spread(checked.ttft_s[finished]),
        tpot_s=spread(checked.tpot_s[served & (rows.output_tokens > 1)]),
        e2e_s=spread(checked.e2e_s[finished]),
        held_s=spread(np.maximum(rows.held_us[finished], 0) / US_PER_S),
        length=length_error(rows, finished),
        preemption_count=int(np.maximum(rows.preemption_count[mask], 0).sum()),
        attempt_count=int(np.maximum(rows.attempt_count[mask], 0).sum()),
        prefix_hit_share=_hit_share(rows, mask & (rows.instance != UNKNOWN)),
        quality_mean=float(np.where(served, 1.0, quality)[finished].mean()) if finished.any() else None,
        lost_tokens=int(np.maximum(rows.lost_tokens[mask], 0).sum()),
        gap_s=spread(rows.gap_us[served & (rows.output_tokens > 1) & (rows.gap_us >= 0)] / US_PER_S),
        normalized_s=spread(normalized_s),
        deadline_count=int(due.sum()),
        deadline_met_count=int((due & checked.finished & ~checked.past_deadline).sum()),
        normalized_peak_s=peak(rows.arrival_us[finished], normalized_s),
        recovery_s=recovery_s(rows.arrival_us[mask], met[mask], bursts_us, result.end_us),
    )


def _by_status(status: Ints) -> Iterator[tuple[str, int]]:
    for index, name in enumerate(STATUSES):
        yield f"{name}_count", int((status == index).sum())


def _rate(count: float, end_s: float) -> float:
    return float(count / end_s) if end_s > 0 else 0.0


def spread(values: npt.NDArray[np.float64]) -> Spread:
    """The distribution of the values; quantiles by linear interpolation."""
    if not len(values):
        return Spread()
    curve = np.quantile(values, CURVE_SHARES)
    p50, p90, p99 = (float(curve[CURVE_SHARES.index(share)]) for share in (0.5, 0.9, 0.99))
    return Spread(float(values.mean()), p50, p90, p99, tuple(float(f"{value:.6g}") for value in curve))


def length_error(rows: RequestColumns, mask: Mask) -> LengthError:
    """How far the predictions that the scheduler acted on were off, over the requests of the mask that had one."""
    chosen = mask & (rows.predicted_p50 >= 0)
    if not chosen.any():
        return LengthError()
    actual, p50, p90 = rows.output_tokens[chosen], rows.predicted_p50[chosen], rows.predicted_p90[chosen]
    errors = np.abs(actual - p50)
    return LengthError(
        count=int(chosen.sum()),
        mean_abs_error=float(errors.mean()),
        median_abs_error=float(np.median(errors)),
        within_p50=float((actual <= p50).mean()),
        within_p90=float((actual <= p90).mean()),
    )


def _hit_share(rows: RequestColumns, mask: Mask) -> float | None:
    prompt = int(rows.prompt_tokens[mask].sum())
    return float(np.maximum(rows.hit_tokens[mask], 0).sum() / prompt) if prompt else None
