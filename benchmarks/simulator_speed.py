"""How many requests a second of CPU time the simulator gets through, in every way that it runs.

Lengths are resampled from the Azure 2023 conversation trace (made up where that is absent), arrivals are Poisson, the
engines A100-80G/Llama-3-8B/tp1 with 256 seats and 2,048 tokens an iteration. Compiling is measured apart. The peer is
NVIDIA's ai-dynamo, which replays the trace's first 10,000 requests at 20 times the speed on 20 workers, in turns with
us: its timing differs, so speed is compared, not results.

Goals: >= 300,000/s with the router compiled in, >= 50,000/s with a router in Python at each arrival; cost a request
independent of their number.
Run: PYTHONPATH=services:clients/python python -m benchmarks.simulator_speed [--quick] [--full] [--json FILE]
     [--peer-python PYTHON], a Python with: pip install --no-deps ai-dynamo==1.6.1 ai-dynamo-runtime==1.6.1 and
     pip install pydantic uvloop msgspec typing-extensions tqdm (ai-dynamo needs a package that is on no public index)
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from benchmarks import common
from forebay.core.instance import EngineFlags, EngineProfile, compute_profile
from forebay.simulator.config import Group, PolicyConfig, World
from forebay.simulator.direct import simulate_direct
from forebay.simulator.kernel import make_kernel
from forebay.simulator.kernel.backend import Backend, Plain, best
from forebay.simulator.kernel.base import Kernel
from forebay.simulator.kernel.fast import ROUTES, FastKernel
from forebay.simulator.run import Scenario, simulate
from forebay.simulator.traces import read
from forebay.simulator.workload import Workload, make_workload

# One that learns nothing, its bounds neither.
PREDICTOR = {"length": "input_ratio", "calibration_window_count": 0, "drift_window_count": 0}
Ints = npt.NDArray[np.int64]
Timed = tuple[float, float]

ROOT = Path(__file__).parent.parent
TRACE = Path(os.environ.get("FOREBAY_DATA", ROOT.parent / "shared" / "data")) / "open" / "traces"
AZURE = TRACE / "AzureLLMInferenceTrace_conv.csv.gz"
PS_PER_US = 1_000_000
PS_PER_S = 10**12

PROFILE = "A100-80G/Llama-3-8B/tp1"
RATES = {20: 100.0, 200: 1_120.0}
"""Requests a second by number of instances: high load, as far from saturation in both."""
LIGHT_RATE = 5.0

PEER_COUNT = 10_000
PEER_SPEED_UP = 20
PEER_TOKENS_MAX = 4_096
PEER_BLOCK = 512

COLUMNS = ("way", "instances", "requests/s", "requests", "CPU s", "iterations", "x reference")


class Load:
    """Requests with lengths from the trace and Poisson arrivals."""

    def __init__(self, count: int, rate_per_s: float, seed: int = 1) -> None:
        draws = np.random.default_rng(seed)
        prompts, outputs = _lengths()
        picked = draws.integers(0, len(prompts), count)
        self.prompt_tokens, self.output_tokens = prompts[picked], outputs[picked]
        self.arrivals_us: Ints = np.cumsum(draws.exponential(1e6 / rate_per_s, count)).astype(np.int64)

    @property
    def arrivals_ps(self) -> Ints:
        return self.arrivals_us * PS_PER_US

    def workload(self) -> Workload:
        return make_workload(self.arrivals_us, self.prompt_tokens, self.output_tokens)


@cache
def _lengths() -> tuple[Ints, Ints]:
    if AZURE.exists():
        trace = read("azure", AZURE)
        return trace.prompt_tokens, np.maximum(trace.output_tokens, 1)
    draws = np.random.default_rng(0)
    prompts = draws.lognormal(6.7, 0.9, 20_000).clip(1, 14_000).astype(np.int64)
    return prompts, draws.lognormal(5.0, 0.9, 20_000).clip(1, 1_000).astype(np.int64)


def profile(**given: Any) -> EngineProfile:
    return compute_profile("A100-80G", "Llama-3-8B", **given)


def fleet(count: int, rows: int, backend: Backend | None = None, **given: Any) -> FastKernel:
    """A fast kernel with its instances."""
    kernel, engine = FastKernel(rows, backend), profile(**given)
    for _ in range(count):
        kernel.add(engine, EngineFlags())
    return kernel


# The ways to run; each gives its CPU seconds, without making the fleet, and the iterations a request


def compiled(load: Load, instances: int, router: str, backend: Backend | None = None) -> Timed:
    """The whole run in one call, the router compiled with it."""
    kernel = fleet(instances, len(load.prompt_tokens), backend)
    arrivals_ps, began = load.arrivals_ps, time.process_time()
    kernel.load(load.prompt_tokens, load.output_tokens, None, load.output_tokens)
    kernel.sweep(arrivals_ps, router)
    kernel.times()
    return time.process_time() - began, iterations(kernel, instances)


def each_arrival(load: Load, instances: int) -> Timed:
    """A call an arrival; the router is numpy's argmin over the requests in flight."""
    kernel = fleet(instances, len(load.prompt_tokens))
    began = time.process_time()
    kernel.load(load.prompt_tokens, load.output_tokens)
    times_ps = load.arrivals_ps.tolist()
    kernel.run(times_ps[0])
    for row, (now_ps, until_ps) in enumerate(zip(times_ps, [*times_ps[1:], times_ps[-1]], strict=True)):
        kernel.place(int(kernel.loads().in_flight_count.argmin()), row, now_ps, until_ps)
    kernel.drain()
    kernel.times()
    return time.process_time() - began, iterations(kernel, instances)


def each_finish(load: Load, instances: int, name: str = "fast") -> Timed:
    """The port that the shells use: a call an arrival and one for each instant with finishes; requests in turn."""
    kernel, engine = make_kernel(len(load.prompt_tokens), name), profile()
    for _ in range(instances):
        kernel.add(engine, EngineFlags())
    began = time.process_time()
    lengths = zip(load.prompt_tokens.tolist(), load.output_tokens.tolist(), strict=True)
    for row, (now_ps, (prompt, output)) in enumerate(zip(load.arrivals_ps.tolist(), lengths, strict=True)):
        while kernel.advance(now_ps):
            pass
        kernel.arrive(row % instances, row, prompt, output, 0, 0, now_ps)
    while kernel.advance(2**61):
        pass
    return time.process_time() - began, iterations(kernel, instances)


def direct(load: Load, instances: int) -> Timed:
    """The scheduler's router on its own view, and the predictor."""
    return timed(lambda: simulate_direct(scenario(load, instances, "least_requests"))), 0.0


def all_services(load: Load, instances: int) -> Timed:
    """Gateway, scheduler, predictor, autoscaler and metrics."""
    return timed(lambda: simulate(scenario(load, instances, "least_requests"))), 0.0


def iterations(kernel: Kernel, instances: int) -> float:
    """Iterations a request."""
    total = sum(kernel.view(index).iteration_count for index in range(instances))
    return total / sum(kernel.view(index).arrived_count for index in range(instances))


def scenario(load: Load, instances: int, router: str) -> Scenario:
    """The same as a scenario of all services: nothing takes time but the engines."""
    group = Group("model", PROFILE, instances_initial=instances, instances_min=instances, instances_max=instances)
    scheduler = {"router": router, "puller": "unlimited"}
    return Scenario(load.workload(), World(groups=(group,)), PolicyConfig("bench", scheduler, predictor=PREDICTOR))


def timed(way: Callable[[], object]) -> float:
    """CPU seconds of all threads."""
    began = time.process_time()
    way()
    return time.process_time() - began


# Tables


def warm_up() -> None:
    """Compiles what the ways need, or reads it from the cache."""
    for router in ROUTES:
        compiled(Load(50, 10.0), 2, router)
    each_arrival(Load(50, 10.0), 2)
    each_finish(Load(50, 10.0), 2)
    direct(Load(50, 10.0), 2)
    all_services(Load(50, 10.0), 2)


def speed_table(report: common.Report, count: int) -> None:
    """Every way on the fleets of RATES."""
    ways: list[tuple[str, str, int, Callable[[Load, int], Timed]]] = [
        *((f"compiled, {name}", f"compiled_{name}", count, _routed(name)) for name in sorted(ROUTES)),
        ("argmin in Python at each arrival", "python_router", count // 2, each_arrival),
        ("each finish heard", "each_finish", count // 2, each_finish),
        ("direct, least_requests", "direct", count // 10, direct),
        ("all services, least_requests", "simulate", count // 50, all_services),
        ("plain Python, least_requests", "plain", count // 20, _routed("least_requests", Plain())),
        ("reference", "reference", count // 250, lambda load, n: each_finish(load, n, "reference")),
    ]
    rows: list[list[common.Cell]] = []
    for instances, rate in RATES.items():
        first = len(rows)
        for title, key, requests, way in ways:
            cpu_s, per_request = way(Load(requests, rate), instances)
            report.figures[f"{key}_{instances}_per_s"] = requests / cpu_s
            rows.append([title, instances, requests / cpu_s, requests, cpu_s, per_request or ""])
        for row in rows[first:]:
            row.append(float(row[2]) / float(rows[-1][2]))
    report.table(f"Requests per CPU-second; {_source()}", COLUMNS, rows)


def load_table(report: common.Report, count: int) -> None:
    """The compiled way and plain Python by load: stretches are longest where few requests run."""
    rows: list[list[common.Cell]] = []
    for rate in (LIGHT_RATE, 20.0, 60.0, 100.0):
        fast_s, per_request = compiled(Load(count, rate), 20, "round_robin")
        plain_s, _ = compiled(Load(count // 10, rate), 20, "round_robin", Plain())
        rows.append([rate, per_request, count / fast_s, count // 10 / plain_s])
    report.table("By load, 20 instances", ("requests/s of load", "iterations", "compiled/s", "plain/s"), rows)


def _routed(router: str, backend: Backend | None = None) -> Callable[[Load, int], Timed]:
    return lambda load, instances: compiled(load, instances, router, backend)


def _source() -> str:
    return "lengths of the Azure 2023 conversation trace" if AZURE.exists() else "lengths made up (no trace here)"


# What needs a process of its own


def size_table(report: common.Report, counts: list[int]) -> None:
    """Cost and memory of a request by their number, each in a fresh process."""
    rows: list[list[common.Cell]] = []
    for count in counts:
        one = child("size", str(count))
        rows.append([count, one["cpu_s"] / count * 1e6, one["rss_mb"]])
        report.figures[f"cost_{count}_us"] = one["cpu_s"] / count * 1e6
    grown_mb = float(rows[-1][2]) - float(rows[0][2])
    report.figures["memory_per_request_bytes"] = grown_mb * 2**20 / (counts[-1] - counts[0])
    report.table("Cost by size, 20 instances", ("requests", "CPU us each", "peak MB"), rows)


def start_table(report: common.Report) -> None:
    """CPU seconds from nothing to the first answer, with and without numba's cache."""
    with tempfile.TemporaryDirectory() as cache:
        environment = {"NUMBA_CACHE_DIR": cache}
        cold, cached = child("start", environment=environment), child("start", environment=environment)
    plain = child("start", environment={"NUMBA_DISABLE_JIT": "1"})
    rows: list[list[common.Cell]] = []
    for name, one in (("cold", cold), ("cached", cached), ("plain Python", plain)):
        rows.append([name, one["import_s"], one["run_s"]])
        report.figures[f"start_{name.split()[0]}_s"] = one["import_s"] + one["run_s"]
    report.table("Start-up, CPU s", ("numba's cache", "imports", "first run"), rows)


def child(task: str, *arguments: str, environment: dict[str, str] | None = None) -> dict[str, float]:
    """Runs a task of this module in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.simulator_speed", "--task", " ".join((task, *arguments))]
    answer = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **(environment or {})}, capture_output=True, text=True, check=True
    )
    figures: dict[str, float] = json.loads(answer.stdout.splitlines()[-1])
    return figures


def run_task(task: str) -> None:
    """What `child` asked for."""
    kind, *arguments = task.split()
    print(json.dumps(size_task(int(arguments[0])) if kind == "size" else start_task()))


def size_task(count: int) -> dict[str, float]:
    """One compiled run; the memory is that of the whole process, trace and workload included."""
    compiled(Load(50, 10.0), 2, "round_robin")
    cpu_s, _ = compiled(Load(count, RATES[20]), 20, "round_robin")
    return {"cpu_s": cpu_s, "rss_mb": peak_mb()}


def peak_mb() -> float:
    """The most memory that this process has held; what getrusage says counts its parent's too."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    found = [int(line.split()[1]) for line in lines if line.startswith("VmHWM")]
    return (found or [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss])[0] / 1_024


def start_task() -> dict[str, float]:
    """Imports were done before; their time is what the process has used so far."""
    import_s = time.process_time()
    run_s = timed(lambda: compiled(Load(50, 10.0), 2, "round_robin"))
    return {"import_s": import_s, "run_s": run_s}


# The peer


def peer_table(report: common.Report, python: str, rounds: int) -> None:
    """Both programs in turns on the same trace."""
    if not AZURE.exists() or subprocess.run([python, "-c", "import dynamo.replay"], capture_output=True).returncode:
        print(f"peer skipped: it needs {AZURE.name} and a Python with ai-dynamo==1.6.1 (--peer-python {python})\n")
        return
    load = peer_load()
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.jsonl"
        write_mooncake(load, path)
        for _ in range(rounds):
            for name, way in peer_ways(load, python, path).items():
                seconds.setdefault(name, []).append(way())
    rows: list[list[common.Cell]] = []
    theirs = PEER_COUNT / median(seconds["ai-dynamo, round_robin"])
    for name, measured in seconds.items():
        per_s = PEER_COUNT / median(measured)
        rows.append([name, per_s, PEER_COUNT / max(measured), PEER_COUNT / min(measured), per_s / theirs])
        report.figures[f"peer_{name.replace(', ', '_').replace(' ', '_').replace('-', '_')}_per_s"] = per_s
    title = f"Beside ai-dynamo 1.6.1, {PEER_COUNT:,} requests on 20 instances, {rounds} rounds"
    report.table(title, ("way", "requests/s", "slowest", "fastest", "x ai-dynamo"), rows)


def peer_load() -> Load:
    """The first requests of the trace, prompts shortened and arrivals brought closer."""
    trace, load = read("azure", AZURE), Load(1, 1.0)
    load.output_tokens = np.maximum(trace.output_tokens[:PEER_COUNT], 1)
    load.prompt_tokens = np.minimum(trace.prompt_tokens[:PEER_COUNT], PEER_TOKENS_MAX - load.output_tokens)
    load.arrivals_us = trace.arrival_us[:PEER_COUNT] // PEER_SPEED_UP
    return load


def write_mooncake(load: Load, path: Path) -> None:
    """The peer's format; every block of a prompt is new."""
    ends = np.cumsum(-(-load.prompt_tokens // PEER_BLOCK)).tolist()
    columns = (load.arrivals_us.tolist(), load.prompt_tokens.tolist(), load.output_tokens.tolist())
    with path.open("w") as file:
        for start, end, arrival_us, prompt, output in zip([0, *ends], ends, *columns, strict=False):
            row = {"timestamp": arrival_us / 1e3, "input_length": prompt, "output_length": output}
            file.write(json.dumps({**row, "hash_ids": list(range(start, end))}) + "\n")


def peer_ways(load: Load, python: str, path: Path) -> dict[str, Callable[[], float]]:
    """CPU seconds of each program."""

    def peer(mode: str) -> float:
        command = [python, str(ROOT / "benchmarks" / "peer_replay.py"), str(path), mode]
        answer = subprocess.run(command, env={**os.environ, "DYN_LOG": "error"}, capture_output=True, check=True)
        figures = json.loads(answer.stdout.splitlines()[-1])
        assert figures["completed"] == PEER_COUNT
        return float(figures["cpu_s"])

    return {
        "ai-dynamo, round_robin": lambda: peer("round_robin"),
        "ai-dynamo, kv_router": lambda: peer("kv_router"),
        "compiled, round_robin": lambda: compiled(load, 20, "round_robin")[0],
        "argmin in Python at each arrival": lambda: each_arrival(load, 20)[0],
        "direct, least_requests": lambda: direct(load, 20)[0],
        "plain Python, round_robin": lambda: compiled(load, 20, "round_robin", Plain())[0],
    }


@click.command()
@common.options
@click.option("--full", is_flag=True, help="Up to ten million requests; needs 3 GB.")
@click.option("--peer-python", default=sys.executable, show_default=True, help="A Python with ai-dynamo.")
@click.option("--task", hidden=True)
def main(quick: bool, json_path: str | None, full: bool, peer_python: str, task: str | None) -> None:
    """Times the simulator."""
    if task:
        run_task(task)
        return
    report = common.Report("simulator_speed", quick)
    if isinstance(best(), Plain):
        print("numba is not installed or switched off: what is called compiled runs in plain Python\n")
    warm_up()
    count = 50_000 if quick else 1_000_000
    speed_table(report, count)
    load_table(report, count // 5)
    sizes = [10_000, 100_000] if quick else [10_000, 100_000, 1_000_000]
    size_table(report, [*sizes, 10_000_000] if full else sizes)
    if not quick:
        start_table(report)
    peer_table(report, peer_python, 1 if quick else 5)
    report.close(json_path)


if __name__ == "__main__":
    main()
