"""Whether deferred work keeps out of the peaks of interactive traffic and still meets its deadlines.

Two days of a diurnal demand in windows of 5 minutes, noisy and up to a tenth off its forecast; forty jobs of the first
day, due after 2, 8 or 24 hours, which together bring about a quarter of a day's interactive work. The fleet can do 1.5
times the forecast's peak; interactive work comes first, then the earliest deadline. Fluid: no queues, no instances.
Peak hours are windows above 80 % of the forecast's peak. Five seeds, mean and half the 95 % interval.
Run: PYTHONPATH=services:clients/python python -m benchmarks.deferred_pacing [--quick] [--json FILE]
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

import click
import numpy as np
from scipy import stats

from benchmarks import common
from forebay.core.units import US_PER_S
from forebay.gateway.deferred.config import DeferredConfig
from forebay.gateway.deferred.pacing import Backlog, Demand, plan

CONFIG = DeferredConfig()
WINDOW_S = 300
DAY_COUNT = 288
WINDOW_US = WINDOW_S * US_PER_S
MEAN_RATE, SWING, NOISE, BIAS = 1_000.0, 0.7, 0.1, 0.1
JOB_COUNT, WORK_SHARE, CAPACITY = 40, 0.25, 1.5
HOURS = (2, 8, 24)
COLUMNS = (
    "pace",
    "highest load / interactive peak",
    "deferred work in peak hours %",
    "jobs in time %",
    "hours to the end",
)
Pace = Callable[[list[Backlog], Demand, int], float]


@dataclass(slots=True)
class Job:
    """Work left of a job, in tokens; times in microseconds."""

    start_us: int
    deadline_us: int
    tokens: float
    end_us: int = 0


def at_once(backlogs: list[Backlog], forecast: Demand, now_us: int) -> float:
    """Everything that the fleet has room for."""
    return float("inf")


def steady(backlogs: list[Backlog], forecast: Demand, now_us: int) -> float:
    """The pace that meets the tightest deadline, without a forecast."""
    return plan(backlogs, None, now_us, CONFIG.margin, CONFIG.calm_share).rate


def filling(backlogs: list[Backlog], forecast: Demand, now_us: int) -> float:
    """Forebay's: valleys first, deadlines always."""
    return plan(backlogs, forecast, now_us, CONFIG.margin, CONFIG.calm_share).rate


PACES: dict[str, Pace] = {"at once": at_once, "steady": steady, "forebay": filling}


def traffic(rng: random.Random) -> tuple[np.ndarray, np.ndarray]:
    """What comes and what was forecast, in tokens a second, for two days and a third that deadlines may reach into."""
    hours = np.arange(3 * DAY_COUNT) * WINDOW_S / 3_600
    expected = MEAN_RATE * (1 - SWING * np.cos(2 * np.pi * (hours - 3) / 24))
    noise = np.array([rng.lognormvariate(0.0, NOISE) for _ in hours])
    return expected * noise, expected * (1 + rng.uniform(-BIAS, BIAS))


def jobs_of(rng: random.Random) -> list[Job]:
    """The first day's jobs."""
    weights = [rng.expovariate(1.0) for _ in range(JOB_COUNT)]
    total = WORK_SHARE * MEAN_RATE * DAY_COUNT * WINDOW_S
    found = []
    for weight in weights:
        start_us = rng.randrange(DAY_COUNT) * WINDOW_US
        hours = rng.choice(HOURS)
        # A job of two hours that brought a day's work could not be met by anyone.
        tokens = total * weight / sum(weights) * hours * len(HOURS) / sum(HOURS)
        found.append(Job(start_us, start_us + hours * 3_600 * US_PER_S, tokens))
    return sorted(found, key=lambda job: job.deadline_us)


def run(pace: Pace, seed: int) -> tuple[float, float, float, float]:
    """The figures of one run, in the order of the columns."""
    rng = random.Random(seed)
    demand, expected = traffic(rng)
    jobs, capacity = jobs_of(rng), CAPACITY * expected.max()
    loads, done = np.zeros(2 * DAY_COUNT), np.zeros(2 * DAY_COUNT)
    for number in range(2 * DAY_COUNT):
        now_us = number * WINDOW_US
        known = [job for job in jobs if job.start_us <= now_us and job.tokens > 0]
        horizon = tuple(float(rate) * WINDOW_S for rate in expected[number : number + DAY_COUNT])
        asked = pace(
            [Backlog(job.deadline_us, job.tokens) for job in known], Demand(now_us, WINDOW_US, horizon), now_us
        )
        room = max(0.0, min(asked, capacity - demand[number])) * WINDOW_S
        done[number] = _serve(known, room, now_us + WINDOW_US)
        loads[number] = demand[number] + done[number] / WINDOW_S
    peak_hours = demand[: len(done)] > 0.8 * expected.max()
    in_time = sum(bool(job.end_us) and job.end_us <= job.deadline_us for job in jobs) / len(jobs)
    last_us = max(job.end_us or 3 * DAY_COUNT * WINDOW_US for job in jobs)
    share = done[peak_hours].sum() / done.sum()
    return loads.max() / demand[: len(loads)].max(), 100 * share, 100 * in_time, last_us / US_PER_S / 3_600


def _serve(known: list[Job], room: float, end_us: int) -> float:
    """Gives the room to the earliest deadlines; says how much was used."""
    used = 0.0
    for job in known:
        part = min(job.tokens, room - used)
        job.tokens -= part
        used += part
        if job.tokens <= 1e-6:
            job.tokens, job.end_us = 0.0, end_us
    return used


def interval(values: list[float]) -> str:
    """Mean and half the 95 % interval."""
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return f"{common.text(float(np.mean(values)))} ± {common.text(float(half))}"


@click.command()
@common.options
def main(quick: bool, json_path: str | None) -> None:
    """Compares paces of deferred work on a fluid fleet."""
    report, rows = common.Report("deferred_pacing", quick), []
    for name, pace in PACES.items():
        runs = [run(pace, seed) for seed in range(1, 4 if quick else 6)]
        columns = [list(values) for values in zip(*runs, strict=True)]
        rows.append([name, *(interval(values) for values in columns)])
        key = name.replace(" ", "_")
        report.figures[f"{key}_peak_ratio"] = float(np.mean(columns[0]))
        report.figures[f"{key}_in_time_percent"] = float(np.mean(columns[2]))
    report.table("Deferred work beside interactive traffic", COLUMNS, rows)
    report.close(json_path)


if __name__ == "__main__":
    main()
