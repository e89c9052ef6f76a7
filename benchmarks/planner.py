"""How long the integer program takes, and how far from the best its plan may be, on random fleets.

Models differ in speed by a factor of five, regions in need by a factor of five, GPUs in price by a factor of six and in
what they do for it by two; instances that are there fit another hour. With "GPUs for" each region has as many of each
kind as that share of what all models need on average, divided equally: models compete. Needs beyond that stay unmet,
at a thousand times the price of serving them, which is then what the gap is about.
Seconds are of processor time, as the machine may be shared.
Bar: p99 <= 1 s for 4 models x 3 regions x 1 GPU type (SageServe's 1.4 s) and for 20 x 20 x 5 (its 33 s).
Run: PYTHONPATH=services:clients/python python -m benchmarks.planner [--quick] [--json FILE]
"""

import time
from typing import NamedTuple

import click
import numpy as np

from benchmarks import common
from forebay.autoscaler.planning.linear import Effort, whole
from forebay.autoscaler.planning.program import Names, Program, needs_of
from forebay.autoscaler.planning.solve import solve

PAPER_S = {(4, 3, 1): 1.4, (20, 20, 5): 33.0}
COLUMNS = ("fleet", "local share", "GPUs for", "p50 s", "p99 s", "gap p50 %", "gap max %", "unmet %", "x")
BESIDE = ("fleet", "local share", "as one or by model", "s", "gap %", "dearer than ours %")
INSTANCE_GPUS = 8


class Case(NamedTuple):
    """A shape, the share of a region's load that it must serve itself, and the GPUs that there are (0: no limit)."""

    shape: tuple[int, int, int]
    local_share: float
    supply: float = 0.0

    @property
    def words(self) -> list[common.Cell]:
        return [" x ".join(map(str, self.shape)), self.local_share, f"{self.supply:.0%}" if self.supply else "all"]


CASES = [
    *(Case((4, 3, 1), share, supply) for share in (0.8, 1.0) for supply in (0.0, 1.3)),
    *(Case((20, 20, 5), share, supply) for share in (0.5, 0.8, 1.0) for supply in (0.0, 1.3, 1.0)),
]
SCARCE = [Case((20, 20, 5), 1.0, 0.9), Case((20, 20, 5), 0.8, 0.7)]


def random_program(case: Case, seed: int) -> Program:
    """A fleet in the middle of its day."""
    models, regions, gpus = case.shape
    chance = np.random.default_rng((seed, models, regions, gpus))
    prices = INSTANCE_GPUS * chance.uniform(1, 6, gpus)
    speed = chance.lognormal(7, 0.8, models)
    rates = speed[:, None] * prices[None, :] / 20 * chance.uniform(0.7, 1.4, (models, gpus))
    need = chance.lognormal(2, 0.8, (models, regions))
    demand = (need * rates.mean(axis=1)[:, None])[None] * chance.uniform(0.6, 1.2, (4, models, regions))
    there = need * chance.uniform(0.5, 1.3, (models, regions))
    instances = np.array([[chance.multinomial(int(count), np.ones(gpus) / gpus) for count in row] for row in there])
    start_hours = chance.uniform(60, 600, models) / 3_600
    each = (demand.max(axis=0) / rates.mean(axis=1)[:, None]).sum(axis=0)[:, None] / gpus
    stocks = np.floor(case.supply * INSTANCE_GPUS * each * np.ones(gpus)) if case.supply else np.inf
    local, total = needs_of(demand, case.local_share)
    letters = zip("mrg", case.shape, strict=True)
    return Program(
        Names(*(tuple(f"{letter}{number}" for number in range(count)) for letter, count in letters)),
        instances,
        np.broadcast_to(rates[:, None, :], case.shape),
        local,
        total,
        np.broadcast_to(prices, case.shape),
        np.broadcast_to(prices * start_hours[:, None, None], case.shape),
        np.full(case.shape, INSTANCE_GPUS),
        np.broadcast_to(stocks, (regions, gpus)),
        np.zeros(case.shape, dtype=np.int64),
        np.full(case.shape, 1_000),
    )


def timed(case: Case, count: int, effort: Effort) -> tuple[list[float], list[float], float]:
    """Seconds and gaps of that many cases, and the share of their load that stays unmet, at most."""
    seconds, gaps, unmet = [], [], 0.0
    for seed in range(count):
        program = random_program(case, seed)
        began = time.process_time()
        found = solve(program, effort)
        seconds.append(time.process_time() - began)
        gaps.append(found.gap)
        unmet = max(unmet, sum(one.tokens_per_s for one in found.shortages) / program.total.sum())
    return seconds, gaps, unmet


def measured(case: Case, count: int, effort: Effort = Effort()) -> list[common.Cell]:
    """A row of the table."""
    seconds, gaps, unmet = timed(case, count, effort)
    p50, p99 = common.percentiles(seconds, 1.0)
    gap = [round(100 * float(one), 4) for one in (np.median(gaps), max(gaps))]
    return [*case.words, p50, p99, *gap, 100 * unmet, PAPER_S[case.shape] / p50]


def beside(case: Case) -> list[list[common.Cell]]:
    """The same program given to HiGHS: as one for 40 seconds by the clock, and model by model for two each."""
    program = random_program(case, 0)
    ours = solve(program).cost
    models, regions, _ = case.shape
    parts = {
        "as one": ([np.arange(models)], Effort(gap=1e-3, nodes_max=10**6, seconds_max=40.0)),
        "by model": ([np.array([i]) for i in range(models)], Effort(gap=1e-3, nodes_max=10**6, seconds_max=2.0)),
    }
    rows: list[list[common.Cell]] = []
    for name, (groups, effort) in parts.items():
        began, plan, bound = time.process_time(), program.least.copy(), 0.0
        for group in groups:
            found = whole(program.part(group, np.arange(regions), program.total[group]), effort)
            assert found is not None
            plan[group], bound = found[0], bound + found[1]
        spent, cost = time.process_time() - began, program.value(plan)
        words = case.words[:2]
        rows.append([*words, name, spent, 100 * (cost - bound) / cost, 100 * (cost / ours - 1)])
    return rows


@click.command()
@common.options
def main(quick: bool, json_path: str | None) -> None:
    """Times the program and prints its gaps."""
    report = common.Report("planner", quick)
    count = 5 if quick else 50
    solve(random_program(Case((2, 2, 2), 0.8, 1.0), 0))
    rows: list[list[common.Cell]] = []
    for case in CASES:
        rows.append(row := measured(case, count))
        size = "x".join(map(str, case.shape))
        for key, value in ((f"p99_{size}_s", row[4]), (f"gap_max_{size}_percent", row[6])):
            report.figures[key] = max(report.figures.get(key, 0.0), float(value))
    title = f"Models x regions x GPU types, {count} random fleets each; x: SageServe's published time over p50"
    report.table(title, COLUMNS, rows)
    few = count // 5
    for mends in (Effort().mends_max, 20):
        scarce = [measured(case, few, Effort(mends_max=mends)) for case in SCARCE]
        report.table(f"The same with too few GPUs, {few} fleets; at most {mends} regions mended", COLUMNS, scarce)
    if not quick:
        told = [row for share in (0.8, 1.0) for row in beside(Case((20, 20, 5), share))]
        report.table("HiGHS alone on the same fleet, without a limit on GPUs", BESIDE, told)
    report.close(json_path)


if __name__ == "__main__":
    main()
