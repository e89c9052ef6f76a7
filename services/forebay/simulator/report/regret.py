"""What each policy paid beyond an oracle that knows every arrival and length: its regret, at the same target."""

import dataclasses
from collections.abc import Sequence
from itertools import product
from typing import Any

from forebay.simulator.oracles.search import BEST_FLEET
from forebay.simulator.report.tables import BY_KEY, Table, named
from forebay.simulator.report.values import NOTHING, estimate, figure
from forebay.simulator.statistics import Interval, Measure, Runs, interval
from forebay.simulator.summary import ALL, Summary

REGRET = Measure("regret", "regret", "GPU-h", False, True, lambda *_: None)
OF_ORACLE = Measure("of_oracle", "of oracle", "%", False, True, lambda *_: None)
OF_BOUND = Measure("of_bound", "of bound", "%", False, True, lambda *_: None)
RELAXED = "relaxation"
TEXT = (
    "Regret is the GPU-hours beyond those of the oracle, a fleet that was found by somebody who knows every arrival "
    "and length and has the same cold starts; “of bound” is against the fewest that can be proven to be needed for the "
    "target, where pools of a model may share its requests freely (a relaxation). Who misses the target in a class "
    "needs fewer GPU-hours for that reason: such a row is not better."
)


def regret_table(runs: Runs, oracles: Sequence[str] = ()) -> Table | None:
    """A row a policy and load; None where neither an oracle was run nor a bound is known.

    Ratios are paired by seed. The lowest class is that with the smallest mean attainment.
    """
    rows = []
    for one in regrets(runs, oracles):
        if one["of_oracle"] is None and one["of_bound"] is None:
            continue
        target = one["target"]
        lowest = figure(one["lowest_attainment"], "%")
        missed = target is not None and one["lowest_attainment"] < target - 5e-4
        rows.append(
            (
                f"{one['load']:g}",
                named(one["policy"], oracles),
                f"{lowest} (misses {figure(target, '%')})" if missed else lowest,
                figure(one["gpu_hours"]),
                *(_cell(one[measure.key], measure) for measure in (REGRET, OF_ORACLE, OF_BOUND)),
            )
        )
    columns = ("load", "policy", "SLO met, lowest class", "GPU-hours", REGRET.label, OF_ORACLE.label, OF_BOUND.label)
    return Table("Regret", columns, tuple(rows)) if rows else None


def regrets(runs: Runs, oracles: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The same for programs: means over the seeds with intervals, null where nothing is known."""
    best = next((name for name in (BEST_FLEET, *oracles) if name in runs.policies), None)
    found = []
    for load, policy in product(runs.loads, runs.policies):
        hours = runs.estimate(policy, load, ALL, BY_KEY["gpu_hours"])
        shares = [
            one.mean
            for slo_class in runs.classes
            if (one := runs.estimate(policy, load, slo_class, BY_KEY["attainment"])) is not None
        ]
        if hours is None or not shares:
            continue
        pairs = list(_pairs(runs, policy, best, load)) if best is not None and policy != best else []
        own = [run for seed in runs.seeds if (run := runs.get(policy, load, seed))]
        bounds = [run.fleet.gpu_hours / run.distance.target_gpu_hours for run in own if run.distance.target_gpu_hours]
        found.append(
            {
                "policy": policy,
                "load": load,
                "oracle": best,
                "target": next((run.distance.target_share for run in own), None),
                "bound": RELAXED if any(run.distance.relaxed for run in own) else "proven",
                "lowest_attainment": min(shares),
                "gpu_hours": hours.mean,
                "regret": _plain([mine.fleet.gpu_hours - other.fleet.gpu_hours for mine, other in pairs]),
                "of_oracle": _plain([mine.fleet.gpu_hours / other.fleet.gpu_hours for mine, other in pairs]),
                "of_bound": _plain(bounds),
            }
        )
    return found


def _pairs(runs: Runs, policy: str, best: str, load: float) -> list[tuple[Summary, Summary]]:
    pairs = [(runs.get(policy, load, seed), runs.get(best, load, seed)) for seed in runs.seeds]
    return [(mine, other) for mine, other in pairs if mine and other and other.fleet.gpu_hours > 0]


def _plain(values: Sequence[float]) -> dict[str, Any] | None:
    found = interval(values)
    return None if found is None else dataclasses.asdict(found)


def _cell(value: dict[str, Any] | None, measure: Measure) -> str:
    return NOTHING if value is None else estimate(Interval(**value), measure)
