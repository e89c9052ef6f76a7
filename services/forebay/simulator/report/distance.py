"""How far each policy is from the fewest GPU-hours that can be proven to be needed, as a table and as plain data."""

import dataclasses
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

from forebay.simulator.report.tables import BY_KEY, Table, named
from forebay.simulator.report.values import estimate, figure
from forebay.simulator.statistics import Measure, Runs
from forebay.simulator.summary import ALL, ClassSummary, Summary


def _of(name: str) -> Callable[[Summary, ClassSummary], float | None]:
    def value(summary: Summary, _: ClassSummary) -> float | None:
        found: float | None = getattr(summary.distance, name)
        return found

    return value


AT_LEAST = Measure("lower_gpu_hours", "at least", "", False, True, _of("lower_gpu_hours"))
COMPUTING = Measure("busy_gpu_hours", "computing", "", False, True, _of("busy_gpu_hours"))
RATIO = Measure("ratio", "used", "×", False, True, _of("ratio"))
"""Figures of `Distance`; they do not compete in verdicts, since each bound is for what its own run kept."""
TEXT = (
    "No scheduler and no autoscaler meets the SLO of as many of these requests with fewer GPU-hours than stand under "
    "“at least”: the bound is for the share that each policy itself kept, and is proven, not found by trying. What of "
    "it is not computing are instances that the fleet's bounds make stand, or that a peak makes start. How much of the "
    "distance can be closed is not known: the best fleet that was found, where one was searched, lies between."
)


def distance_table(runs: Runs, oracles: Sequence[str] = ()) -> Table | None:
    """GPU-hours, the least, and their ratio, a row a policy and load; None where nothing is proven of any run.

    Only the ratio has its interval: there is no room for all of them on a terminal.
    """
    measures = (BY_KEY["attainment"], BY_KEY["gpu_hours"], AT_LEAST, COMPUTING)
    rows = []
    for load, policy in product(runs.loads, runs.policies):
        known = [(one, measure) for measure in measures if (one := runs.estimate(policy, load, ALL, measure))]
        if len(known) == len(measures):
            cells = [figure(one.mean, measure.unit) for one, measure in known]
            ratio = estimate(runs.estimate(policy, load, ALL, RATIO), RATIO)
            rows.append((f"{load:g}", named(policy, oracles), *cells, ratio))
    columns = ("load", "policy", "SLO met", *(one.label for one in measures[1:]), RATIO.label)
    return Table("Distance to the best possible", columns, tuple(rows)) if rows else None


def distances(runs: Runs) -> list[dict[str, Any]]:
    """The same for programs, means over the seeds with intervals; figures are null where `refusal` says why."""
    return [
        {
            "policy": policy,
            "load": load,
            **{one.key: _plain(runs, policy, load, one) for one in (AT_LEAST, COMPUTING, RATIO)},
            "refusal": next((one.distance.refusal for seed in runs.seeds if (one := runs.get(policy, load, seed))), ""),
        }
        for load in runs.loads
        for policy in runs.policies
    ]


def _plain(runs: Runs, policy: str, load: float, measure: Measure) -> dict[str, Any] | None:
    found = runs.estimate(policy, load, ALL, measure)
    return dataclasses.asdict(found) if found else None
