"""Intervals over seeds, paired differences between policies, and who wins where."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from forebay.core.errors import ConfigError
from forebay.simulator.summary import ALL, ClassSummary, Summary

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over `count` seeds with half the width of its 95 % interval; None where one seed gives none."""

    mean: float
    half: float | None
    count: int

    @property
    def holds_zero(self) -> bool:
        """Whether the interval includes 0; without an interval only where the mean is 0."""
        return abs(self.mean) <= (self.half or 0.0)


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure of a run: its name and unit, which way is better, and whether it is the whole fleet's.

    Where every policy has the value `plain`, there is nothing to see and the measure is left out.
    """

    key: str
    label: str
    unit: str
    higher_is_better: bool
    of_fleet: bool
    value: Callable[[Summary, ClassSummary], float | None]
    plain: float | None = None


def _of(path: str) -> Callable[[Summary, ClassSummary], float | None]:
    first, _, second = path.partition(".")

    def value(_: Summary, one: ClassSummary) -> float | None:
        found: float | None = getattr(getattr(one, first), second) if second else getattr(one, first)
        return found

    return value


def _fleet(name: str) -> Callable[[Summary, ClassSummary], float | None]:
    return lambda summary, _: float(getattr(summary.fleet, name))


def _tenants(name: str) -> Callable[[Summary, ClassSummary], float | None]:
    def value(summary: Summary, _: ClassSummary) -> float | None:
        found: float | None = getattr(summary.tenants, name)
        return found

    return value


def _deadlines(_: Summary, one: ClassSummary) -> float | None:
    return one.deadline_met_count / one.deadline_count if one.deadline_count else None


MEASURES: tuple[Measure, ...] = (
    Measure("attainment", "SLO attainment", "%", True, False, _of("attainment")),
    Measure("goodput", "goodput", "req/s", True, False, _of("goodput_per_s")),
    Measure("ttft_p50", "TTFT p50", "s", False, False, _of("ttft_s.p50")),
    Measure("ttft_p90", "TTFT p90", "s", False, False, _of("ttft_s.p90")),
    Measure("ttft_p99", "TTFT p99", "s", False, False, _of("ttft_s.p99")),
    Measure("tpot_mean", "TPOT mean", "s", False, False, _of("tpot_s.mean")),
    Measure("tpot_p99", "TPOT p99", "s", False, False, _of("tpot_s.p99")),
    Measure("e2e_mean", "E2E mean", "s", False, False, _of("e2e_s.mean")),
    Measure("e2e_p99", "E2E p99", "s", False, False, _of("e2e_s.p99")),
    Measure("normalized_mean", "normalised latency mean", "s/token", False, False, _of("normalized_s.mean")),
    Measure("normalized_p99", "normalised latency p99", "s/token", False, False, _of("normalized_s.p99")),
    Measure("normalized_peak", "normalised latency peak", "s/token", False, False, _of("normalized_peak_s")),
    Measure("recovery", "recovery", "s", False, False, _of("recovery_s"), plain=0.0),
    Measure("deadline", "deadlines met", "%", True, False, _deadlines),
    Measure("quality", "answer quality", "%", True, False, _of("quality_mean"), plain=1.0),
    Measure("program_p50", "program E2E p50", "s", False, True, lambda summary, _: summary.programs.e2e_s.p50),
    Measure("program_p99", "program E2E p99", "s", False, True, lambda summary, _: summary.programs.e2e_s.p99),
    Measure("worst_tenant", "worst tenant's attainment", "%", True, True, _tenants("worst_attainment")),
    Measure("light_tenants", "light tenants' attainment", "%", True, True, _tenants("light_attainment")),
    Measure("jain", "Jain's index", "", True, True, _tenants("jain")),
    Measure("gpu_hours", "GPU-hours", "", False, True, _fleet("gpu_hours")),
    Measure("cost", "cost", "", False, True, _fleet("cost")),
    Measure("energy", "energy", "kWh", False, True, _fleet("energy_kwh"), plain=0.0),
    Measure("wasted", "wasted GPU-hours", "", False, True, _fleet("wasted_gpu_hours")),
    Measure("scaling", "scaling actions", "", False, True, _fleet("scaling_count")),
    Measure("reversals", "reversals", "", False, True, _fleet("reversal_count"), plain=0.0),
)
STATES: tuple[Measure, ...] = (
    Measure("provisioning", "GPU-hours provisioning", "", False, True, _fleet("provisioning_gpu_hours")),
    Measure("loading", "GPU-hours starting", "", False, True, _fleet("loading_gpu_hours")),
    Measure("serving", "GPU-hours serving", "", False, True, _fleet("serving_gpu_hours")),
    Measure("idle", "GPU-hours idle", "", False, True, _fleet("idle_gpu_hours")),
    Measure("draining", "GPU-hours draining", "", False, True, _fleet("draining_gpu_hours")),
    Measure("spot", "GPU-hours lent", "", True, True, _fleet("spot_gpu_hours")),
    Measure("undone", "undone starts", "", False, True, _fleet("undone_count")),
    Measure("instances", "instances, mean", "", False, True, _fleet("instances_mean")),
    Measure("instances_peak", "instances, peak", "", False, True, _fleet("instances_peak")),
    Measure("instance_hours", "instance-hours", "", False, True, _fleet("instance_hours")),
)
"""What columns may show and nobody competes by: parts of GPU-hours, and the same in other units."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Who is best by one measure at one load in one class: more than one name is a tie.

    `estimates` holds each policy's mean with its interval. `margin` is how much better the best is than the best of
    those it beats, as a share of the latter; None where all tie. `decided` is False where a single seed gives no
    intervals.
    """

    load: float
    slo_class: str
    measure: Measure
    winners: tuple[str, ...]
    estimates: Mapping[str, Interval]
    margin: float | None
    decided: bool


class Runs:
    """Summaries by policy, load and seed."""

    def __init__(self, summaries: Sequence[Summary], policies: Sequence[str] = ()) -> None:
        self._found = {(one.name, one.load, one.seed): one for one in summaries}
        known = {one.name for one in summaries}
        self.policies = [name for name in policies if name in known] or sorted(known)
        self.loads = sorted({one.load for one in summaries})
        self.seeds = sorted({one.seed for one in summaries})
        names = {one.slo_class for summary in summaries for one in summary.classes}
        self.classes = [name for name in (ALL, "interactive-fast", "interactive-normal", "deferred") if name in names]

    def get(self, policy: str, load: float, seed: int) -> Summary | None:
        """One run; None where it is missing."""
        return self._found.get((policy, load, seed))

    def values(self, policy: str, load: float, slo_class: str, measure: Measure) -> dict[int, float]:
        """The measure by seed, where it exists."""
        found: dict[int, float] = {}
        for seed in self.seeds:
            summary = self.get(policy, load, seed)
            one = summary.of_class(slo_class) if summary else None
            value = measure.value(summary, one) if summary and one else None
            if value is not None:
                found[seed] = value
        return found

    def estimate(self, policy: str, load: float, slo_class: str, measure: Measure) -> Interval | None:
        """The measure's mean over the seeds with its interval; None where no run has it."""
        return interval(list(self.values(policy, load, slo_class, measure).values()))

    def difference(self, one: str, other: str, load: float, slo_class: str, measure: Measure) -> Interval | None:
        """`one` minus `other`, paired on the seeds that both ran."""
        return paired(self.values(one, load, slo_class, measure), self.values(other, load, slo_class, measure))


def interval(values: Sequence[float]) -> Interval | None:
    """Mean and 95 % interval by Student's t with n - 1 degrees of freedom."""
    if not values:
        return None
    count = len(values)
    mean = float(np.mean(values))
    if count == 1:
        return Interval(mean, None, 1)
    error = float(np.std(values, ddof=1)) / math.sqrt(count)
    return Interval(mean, _student(count - 1) * error, count)


def paired(one: Mapping[int, float], other: Mapping[int, float]) -> Interval | None:
    """Mean and interval of the differences on the seeds that both have."""
    return interval([one[seed] - other[seed] for seed in sorted(one.keys() & other.keys())])


def verdicts(runs: Runs, measures: Sequence[Measure] = MEASURES, leave_out: Sequence[str] = ()) -> list[Verdict]:
    """The verdict of every load, class and measure that at least two policies have; oracles are left out by name.

    A policy ties with the best one where the interval of their paired difference includes 0. Intervals hold one pair
    at a time: over many cells some differences appear by chance.
    """
    found = []
    for load in runs.loads:
        for slo_class in runs.classes:
            for measure in measures:
                if measure.of_fleet and slo_class != ALL:
                    continue
                names = [name for name in runs.policies if name not in leave_out]
                verdict = _verdict(runs, names, load, slo_class, measure)
                if verdict is not None:
                    found.append(verdict)
    return found


def is_plain(measure: Measure, estimates: Iterable[Interval | None]) -> bool:
    """Whether the measure has nothing to show."""
    return measure.plain is not None and all(one is None or one.mean == measure.plain for one in estimates)


def _verdict(runs: Runs, names: Sequence[str], load: float, slo_class: str, measure: Measure) -> Verdict | None:
    estimates = {name: runs.estimate(name, load, slo_class, measure) for name in names}
    known = {name: one for name, one in estimates.items() if one is not None}
    if len(known) < 2 or is_plain(measure, known.values()):
        return None
    sign = -1.0 if measure.higher_is_better else 1.0
    ranked = sorted(known, key=lambda name: (sign * known[name].mean, list(names).index(name)))
    best, *others = ranked
    winners: list[str] = [best]
    beaten: list[str] = []
    for name in others:
        gap = runs.difference(name, best, load, slo_class, measure)
        (winners if gap is None or gap.holds_zero else beaten).append(name)
    return Verdict(load, slo_class, measure, tuple(winners), known, _margin(known, best, beaten), len(runs.seeds) > 1)


def _margin(known: Mapping[str, Interval], best: str, beaten: Sequence[str]) -> float | None:
    if not beaten or not known[beaten[0]].mean:
        return None
    return abs(known[best].mean - known[beaten[0]].mean) / abs(known[beaten[0]].mean)


def _student(freedom: int) -> float:
    try:
        from scipy.stats import t
    except ImportError as error:
        raise ConfigError("intervals need scipy; install it with: pip install 'forebay[simulate]'") from error
    return float(t.ppf((1 + CONFIDENCE) / 2, freedom))
