"""A compressed day on a live stack and in the simulator: is anything lost, and are the instance-hours what was said?

Every policy lives through the day with the services as processes of their own, the autoscaler starting and ending
instances; then the simulator runs the same requests with the same tables of forebay.toml and starts as they were
measured. Instance-hours count from the first second of the day to its last, in every state.

Run: PYTHONPATH=services:clients/python python -m benchmarks.live_day [--policy NAME] [--minutes M] [--json FILE]
"""

import asyncio
import contextlib
import json
import signal
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks import day_real
from benchmarks.common import Cell, Report, options
from benchmarks.day import (
    ANSWERS,
    DAY_S,
    POLICIES,
    SEEDS,
    STATES,
    WINDOW_COUNT,
    Lead,
    Served,
    Setup,
    Use,
    arms,
    attainment,
    emulated,
    live_toml,
    make_day,
    measured_lead,
    served,
    simulated,
    uses,
    with_lengths,
)
from forebay.cli.client import GatewayClient
from forebay.cli.loaders import Prompt
from forebay.cli.plan import PlannedRequest
from forebay.cli.processes import is_free
from forebay.cli.stack import Stack
from forebay.cli.state import Addresses, addresses_from
from forebay.cli.stats import OK, Result
from forebay.cli.up import check_real
from forebay.core.units import US_PER_S
from forebay.core.values import InstanceState
from forebay.simulator.config import PolicyConfig
from forebay.simulator.results import FleetChange
from forebay.simulator.workload.base import Workload

CHARACTERS_A_TOKEN = 4
ANSWER_S = 600.0
WORDS = "river stone wheel garden letter window market engine candle forest harbour signal winter ladder".split()  # noqa: SIM905


@dataclass(frozen=True, slots=True)
class Lived:
    """A live day: what its clients saw, what became of its fleet (from the day's first second), and real lengths."""

    results: Sequence[Result]
    changes: Sequence[FleetChange]
    lengths: dict[int, tuple[int, int]]
    last_us: dict[str, int]
    """When each instance gave its last answer."""


@click.command()
@click.option("--real", is_flag=True, help="Two language models on two real Tritons (needs: make triton).")
@click.option("--policy", "policies", multiple=True, type=click.Choice(POLICIES), help="Only these; default: all.")
@click.option("--minutes", type=click.FloatRange(1.0), default=10.0, show_default=True, help="A day lasts so long.")
@click.option("--seed", default=1, show_default=True, help="Of the requests.")
@click.option("--keep", type=click.Path(path_type=Path), help="Keep logs and databases of the stacks here.")
@options
def main(
    real: bool,
    policies: Sequence[str],
    minutes: float,
    seed: int,
    keep: Path | None,
    quick: bool,
    json_path: str | None,
) -> None:
    """Lives through a compressed day and simulates it."""
    live_s = 60.0 if quick else 60.0 * minutes
    report = Report("live_day", quick)
    with tempfile.TemporaryDirectory() as scratch:
        root = keep or Path(scratch)
        root.mkdir(parents=True, exist_ok=True)
        if any(root.iterdir()):
            raise click.ClickException(f"{root} holds something; give a folder that is empty or not there")
        site = Real(root) if real else Emulated()
        day = make_day(site.setup, live_s, seed)
        _tell_scale(report, site.setup, live_s, day)
        tables = Tables(report, site.setup, live_s)
        for name in policies or (list(arms(site.setup, live_s))[:1] if quick else arms(site.setup, live_s)):
            folder = root / name
            folder.mkdir(exist_ok=True)
            with site.ready(folder) as setup:
                arm = arms(setup, live_s)[name]
                lived = asyncio.run(_ended_by_sigterm(_live(setup, arm, day, live_s, folder)))
            _keep(lived.results, folder / "results.jsonl")
            tables.add(name, arm, with_lengths(day, lived.lengths), lived)
    tables.close()
    report.close(json_path)


class Emulated:
    """Instances are processes that the autoscaler starts."""

    def __init__(self) -> None:
        self.setup = emulated()

    @contextlib.contextmanager
    def ready(self, folder: Path) -> Iterator[Setup]:
        """The setup of one day."""
        yield self.setup


class Real:
    """Instances are models that the autoscaler loads on real Tritons, fresh ones for each day."""

    def __init__(self, folder: Path) -> None:
        check_real()
        self._profile = day_real.measure(folder)
        self.setup = day_real.setup_of(self._profile, [])

    @contextlib.contextmanager
    def ready(self, folder: Path) -> Iterator[Setup]:
        """The setup of one day."""
        with day_real.servers(folder) as tritons:
            yield day_real.setup_of(self._profile, tritons)


# The live day


async def _ended_by_sigterm(work: Coroutine[Any, Any, Lived]) -> Lived:
    """As with Ctrl-C, nothing that was started stays behind."""
    task = asyncio.create_task(work)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task


async def _live(setup: Setup, arm: PolicyConfig, day: Workload, live_s: float, folder: Path) -> Lived:
    asks = _requests(setup, day)
    config, answers = folder / "forebay.toml", folder / ANSWERS
    answers.write_text("".join(_known(ask, day, row) for row, ask in enumerate(asks)))
    config.write_text(live_toml(setup, arm, folder))
    async with Stack(folder, _free_addresses(), config, say=lambda _: None) as stack:
        await stack.wait_fleet()
        start_s = _next_window_s(live_s / WINDOW_COUNT)
        async with GatewayClient(stack.run.addresses.http_url, ANSWER_S, connect_timeout_s=ANSWER_S) as client:
            results = await asyncio.gather(*(_send(client, ask, start_s) for ask in asks))
        await asyncio.sleep(max(0.0, start_s + live_s + 2.0 - time.time()))
    database = folder / "forebay.db"
    return Lived(results, _changes(database, start_s), _lengths(database, results), _last(database, start_s))


def _requests(setup: Setup, day: Workload) -> list[PlannedRequest]:
    """What the live clients send: prompts of about as many tokens, no two alike."""
    generator = np.random.default_rng(7)
    most = {model.name: model.output_max for model in setup.models}
    found = []
    for row, arrival_us in enumerate(day.arrival_us.tolist()):
        model = day.models[int(day.model[row])]
        words = " ".join(generator.choice(WORDS, size=1 + int(day.prompt_tokens[row]) // 2).tolist())
        text = f"{row} {words}"[: CHARACTERS_A_TOKEN * int(day.prompt_tokens[row])].ljust(1)
        prompt = Prompt(f"{row} {text}", "", int(day.output_tokens[row]))
        found.append(PlannedRequest(row, arrival_us / US_PER_S, prompt, model, "interactive-normal", most[model]))
    return found


def _known(ask: PlannedRequest, day: Workload, row: int) -> str:
    entry = {
        "prompt": ask.prompt.text,
        "input_tokens": int(day.prompt_tokens[row]),
        "output_tokens": int(day.output_tokens[row]),
    }
    return json.dumps(entry) + "\n"


def _keep(results: Sequence[Result], path: Path) -> None:
    path.write_text("".join(json.dumps(asdict(result)) + "\n" for result in results))


async def _send(client: GatewayClient, ask: PlannedRequest, start_s: float) -> Result:
    await asyncio.sleep(max(0.0, start_s + ask.at_s - time.time()))
    return await client.complete(ask)


def _next_window_s(window_s: float) -> float:
    """When the day begins: with a window of the forecasts, which lie on a grid of the wall clock."""
    window_us = round(window_s * US_PER_S)
    return (int((time.time() + 1.0) * US_PER_S) // window_us + 1) * window_us / US_PER_S


def _changes(database: Path, start_s: float) -> list[FleetChange]:
    query = "SELECT state_us, instance_id, model, region, state FROM metrics_instance_changes ORDER BY state_us, id"
    start_us = round(start_s * US_PER_S)
    with contextlib.closing(sqlite3.connect(database)) as connection:
        return [
            FleetChange(at_us - start_us, instance_id, model, region, "", 1, InstanceState(state).name)
            for at_us, instance_id, model, region, state in connection.execute(query)
        ]


def _lengths(database: Path, results: Sequence[Result]) -> dict[int, tuple[int, int]]:
    rows = {result.decision_id: result.index for result in results if result.outcome == OK}
    query = "SELECT decision_id, prompt_tokens, response_tokens FROM metrics_requests"
    with contextlib.closing(sqlite3.connect(database)) as connection:
        return {rows[one]: (prompt, output) for one, prompt, output in connection.execute(query) if one in rows}


def _last(database: Path, start_s: float) -> dict[str, int]:
    query = "SELECT instance_id, max(arrival_us + end_to_end_us) FROM metrics_requests GROUP BY instance_id"
    with contextlib.closing(sqlite3.connect(database)) as connection:
        return {name: at_us - round(start_s * US_PER_S) for name, at_us in connection.execute(query)}


def _free_addresses() -> Addresses:
    for base in range(21_000, 31_000, 500):
        addresses = addresses_from(base)
        if all(map(is_free, [addresses.http, *addresses.grpc.values(), *addresses.prometheus.values()])):
            return addresses
    raise click.ClickException("no range of free ports found")


def seen(result: Result) -> Served:
    """What a live client saw."""
    never = float("inf")
    ttft_s = never if result.ttft_s is None else result.ttft_s
    return Served(result.outcome == OK, ttft_s, result.tpot_s or 0.0)


# What is told


class Tables:
    """Gathers the rows of all policies."""

    def __init__(self, report: Report, setup: Setup, live_s: float) -> None:
        self._report, self._setup, self._live_s = report, setup, live_s
        self._hours: list[list[Cell]] = []
        self._states: list[list[Cell]] = []
        self._requests: list[list[Cell]] = []
        self._leads: list[list[Cell]] = []

    def add(self, name: str, arm: PolicyConfig, day: Workload, lived: Lived) -> None:
        """One policy's day: simulates it with what was measured, and keeps the rows."""
        lead = measured_lead(lived.changes, lived.last_us)
        runs = [simulated(self._setup, arm, day, lead, seed) for seed in SEEDS]
        live, theirs = uses(lived.changes, self._live_s), [uses(run.changes, self._live_s) for run in runs]
        for model in [*live, ""]:
            self._add_hours(name, model or "all", _of(live, model), [_of(one, model) for one in theirs])
        self._add_requests(name, lived, [served(run) for run in runs])
        self._leads.append([name, lead.start_count, *_texts(lead)])
        self._report.figures[f"{name}_lead_s"] = lead.provision_s + lead.load_s
        for one in ("requests", "hours", "states", "leads"):
            print(name, one, [row for row in getattr(self, f"_{one}") if row[0] == name], flush=True)

    def _add_hours(self, name: str, model: str, live: Use, runs: Sequence[Use]) -> None:
        totals = [one.total for one in runs]
        said = float(np.mean(totals))
        starts, drains = (float(np.mean([getattr(one, key) for one in runs])) for key in ("start_count", "drain_count"))
        ratio = live.total / said
        self._hours.append(
            [
                name,
                model,
                f"{live.total:.4f}",
                f"{said:.4f}",
                f"{min(totals):.4f}-{max(totals):.4f}",
                f"{ratio:.3f}",
                f"{live.start_count}+{live.drain_count}",
                f"{starts:.1f}+{drains:.1f}",
            ]
        )
        parts = [(live.hours[state], float(np.mean([one.hours[state] for one in runs]))) for state in STATES]
        self._states.append([name, model, *(f"{60 * value:.2f}" for pair in parts for value in pair)])
        key = f"{name}_{model}".replace("-", "_")
        self._report.figures |= {f"{key}_live_instance_h": live.total, f"{key}_simulated_instance_h": said}
        self._report.figures[f"{key}_live_to_simulated_ratio"] = ratio

    def _add_requests(self, name: str, lived: Lived, runs: Sequence[Sequence[Served]]) -> None:
        promise = self._setup.promise
        live = [seen(result) for result in lived.results]
        cut = sum(one.outcome != OK and one.ttft_s is not None for one in lived.results)
        lost = sum(one.outcome != OK and one.ttft_s is None for one in lived.results)
        met, said = attainment(live, promise), float(np.mean([attainment(one, promise) for one in runs]))
        theirs = [one.ttft_s for run in runs for one in run if one.ok]
        ours = [one.ttft_s for one in live if one.ok]
        quantiles = [_quantile(values, q) for q in (0.5, 0.99) for values in (ours, theirs)]
        answered = len(live) - cut - lost
        failures = Counter(f"{one.outcome}: {one.message}" for one in lived.results if one.outcome != OK)
        for reason, count in failures.items():
            print(f"{name}: {count} requests failed by {reason}", flush=True)
        self._requests.append(
            [name, len(live), answered, lost, cut, f"{100 * met:.1f}", f"{100 * said:.1f}", *quantiles]
        )
        self._report.figures |= {
            f"{name}_request_count": len(live),
            f"{name}_lost_count": lost,
            f"{name}_cut_count": cut,
            f"{name}_live_attainment_pct": 100 * met,
            f"{name}_simulated_attainment_pct": 100 * said,
        }

    def close(self) -> None:
        """Prints the tables."""
        columns = ["policy", "model", "live", "simulated", "of seeds", "ratio", "starts+drains live", "sim."]
        self._report.table("Instance-hours of the day", columns, self._hours)
        what = [f"{state} {side}" for state in STATES for side in ("live", "sim.")]
        self._report.table("Instance-minutes by state", ["policy", "model", *what], self._states)
        columns = ["policy", "sent", "answered", "lost", "cut", "SLO % live", "SLO % sim."]
        columns += [f"TTFT {q} s {side}" for q in ("p50", "p99") for side in ("live", "sim.")]
        self._report.table("Requests", columns, self._requests)
        columns = ["policy", "starts", "until it answers s", "until it is ready s", "variation", "end s"]
        self._report.table("Starts and ends as measured, which the simulator takes", columns, self._leads)


def _quantile(values: Sequence[float], share: float) -> str:
    return f"{float(np.quantile(values, share)):.2f}" if values else "-"


def _texts(lead: Lead) -> list[str]:
    return [
        f"{lead.provision_s:.2f}",
        f"{lead.provision_s + lead.load_s:.2f}",
        f"{lead.variation:.2f}",
        f"{lead.stop_s:.2f}",
    ]


def _of(found: dict[str, Use], model: str) -> Use:
    """One model's use, or that of all."""
    mine = [use for name, use in found.items() if model in ("", name)]
    hours = {state: sum(use.hours[state] for use in mine) for state in STATES}
    return Use(hours, sum(use.start_count for use in mine), sum(use.drain_count for use in mine))


def _tell_scale(report: Report, setup: Setup, live_s: float, day: Workload) -> None:
    speed = DAY_S / live_s
    for note in dict.fromkeys(day.notes):
        print(note)
    print(f"{setup.title}: a day in {live_s:g} s, {speed:g} times its speed; {len(day)} requests")
    spans: list[tuple[str, float]] = [
        ("window of forecasts, PreServe's and Forebay's", live_s / WINDOW_COUNT),
        ("KPA's stable window", live_s / 24),
        ("KPA's panic window", live_s / 96),
        ("until a start is said to be ready", setup.start_s),
        ("tick of the autoscaler", 1.0),
    ]
    rows: list[list[Cell]] = [[what, f"{span_s:.2f}", f"{span_s * speed / 60:.1f}"] for what, span_s in spans]
    report.table("Spans", ["what", "live s", "minutes of the day"], rows)


if __name__ == "__main__":
    main()
