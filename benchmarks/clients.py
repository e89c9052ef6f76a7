"""Decisions a second for each language that a client is written in, on loopback, beside a server that only echoes.

Each client's own small program places requests and finishes them, over one connection, with so many calls in flight; a
decision is a placement and the end of its lease, two unary calls. The scheduler runs alone in a process of its own,
with 100 instances and without a predictor; the echo parses the same messages and answers with the same constants, so
that what is left is the client, gRPC and the way there. All share the machine's cores. Processor time for one decision
is that of the measured seconds, without a client's start; it says most where the machine has other work.

A language whose tool chain is absent is left out and named.

Bar: none; a client should not be what bounds a caller of one scheduler, so its x echo shows how far it is from that.
Run: PYTHONPATH=services:clients/python python -m benchmarks.clients [--quick] [--json FILE]
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from benchmarks import common
from benchmarks.schedule_rpc import processor_s, started

CLIENTS = Path(__file__).parents[1] / "clients"
TOOL_CHAIN_ABSENT = 3
WINDOWS = (1, 16)
POLL_S = 0.1
PROGRAMS: dict[str, list[Any]] = {
    "python": [sys.executable, CLIENTS / "python" / "examples" / "bench.py"],
    "python blocking": [sys.executable, CLIENTS / "python" / "examples" / "bench.py", "--blocking"],
    "typescript": ["node", CLIENTS / "typescript" / "dist" / "examples" / "bench.js"],
    "go": [CLIENTS / "go" / ".build" / "bin" / "bench"],
    "java": [CLIENTS / "java" / ".build" / "bench"],
}
COLUMNS = (
    "client",
    "in flight",
    "decisions/s",
    "p50 us",
    "p99 us",
    "client us",
    "server us",
    "echo/s",
    "client us",
    "x echo",
)
Sample = tuple[float, float, float]
"""Now, and the processor seconds of client and server so far."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What one program saw: decisions a second, latency of a placement, processor time of both ends for a decision."""

    per_s: float
    p50_us: float
    p99_us: float
    client_us: float
    server_us: float


def built() -> Iterator[str]:
    """The programs that can run here; builds them where needed."""
    for name in PROGRAMS:
        script = CLIENTS / name.split()[0] / "build.sh"
        done = subprocess.run([script], capture_output=True, text=True, check=False) if script.exists() else None
        if done is None or done.returncode == 0:
            yield name
        elif done.returncode == TOOL_CHAIN_ABSENT:
            print(f"{name} is left out: {done.stderr.strip()}", flush=True)
        else:
            raise SystemExit(f"{script} ended with {done.returncode}:\n{done.stderr}")


def measure(name: str, server: str, in_flight: int, seconds: float) -> Measured:
    """Runs one program against one server, started for it."""
    with started(server) as (address, server_pid):
        options = ["--scheduler", address, "--model", "m", "--in-flight", str(in_flight), "--seconds", str(seconds)]
        environment = {**os.environ, "PYTHONPATH": str(CLIENTS / "python")}
        with subprocess.Popen(
            [*PROGRAMS[name], *options], stdout=subprocess.PIPE, text=True, env=environment
        ) as process:
            samples: list[Sample] = []
            while process.poll() is None:
                samples.append((time.perf_counter(), processor_s(process.pid), processor_s(server_pid)))
                time.sleep(POLL_S)
            assert process.stdout is not None
            output = process.stdout.read()
    if process.returncode:
        raise SystemExit(f"the program of {name} ended with {process.returncode}:\n{output}")
    found = json.loads(output)
    if found["failed_count"]:
        raise SystemExit(f"{name}: {found['failed_count']} calls failed")
    client_s, server_s = _used(samples, found["seconds"])
    scale = 1e6 / found["decision_count"]
    return Measured(found["decisions_per_s"], found["p50_us"], found["p99_us"], scale * client_s, scale * server_s)


def _used(samples: list[Sample], seconds: float) -> tuple[float, float]:
    """Processor seconds of both in the last `seconds`, which are those that the program measured."""
    kept = [sample for sample in samples if sample[0] >= samples[-1][0] - seconds]
    return kept[-1][1] - kept[0][1], kept[-1][2] - kept[0][2]


def compare(report: common.Report, windows: tuple[int, ...], seconds: float) -> Iterator[list[common.Cell]]:
    """One row a program and number of calls in flight."""
    names = list(built())
    for in_flight in windows:
        for name in names:
            live = measure(name, "scheduler", in_flight, seconds)
            echo = measure(name, "echo", in_flight, seconds)
            print(
                f"{name}, {in_flight} in flight: {live.per_s:.0f} decisions/s, echo {echo.per_s:.0f}", file=sys.stderr
            )
            figure = f"{name.replace(' ', '_')}_{in_flight}"
            report.figures[f"{figure}_decisions_per_s"] = live.per_s
            report.figures[f"{figure}_p50_us"] = live.p50_us
            report.figures[f"{figure}_client_us"] = live.client_us
            report.figures[f"{figure}_x_echo"] = live.per_s / echo.per_s
            yield [
                *(name, in_flight, live.per_s, live.p50_us, live.p99_us, live.client_us, live.server_us),
                *(echo.per_s, echo.client_us, live.per_s / echo.per_s),
            ]


@click.command()
@common.options
def main(quick: bool, json_path: str | None) -> None:
    """Times every client against a scheduler and an echo."""
    report = common.Report("clients", quick)
    rows = list(compare(report, WINDOWS[1:] if quick else WINDOWS, 1.5 if quick else 6.0))
    report.table(f"Place and finish by the clients, over loopback, {os.cpu_count()} cores for both ends", COLUMNS, rows)
    report.close(json_path)


if __name__ == "__main__":
    main()
