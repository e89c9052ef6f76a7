"""Scales a live fleet up and down 1,000 times under load: is any request lost or cut, and how long does a step take?

    python -m benchmarks.scale_events

The whole stack runs as processes of its own on this machine. Its instances are models that are loaded on and unloaded
from emulated Tritons over Triton's repository API; each one that goes is drained through the scheduler. A scale event
is one instance that becomes ready or one that is gone after its drain.
"""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import grpc
import numpy as np
from lmaas.autoscaler.v1 import autoscaler_service_pb2 as pb
from lmaas.autoscaler.v1 import fleet_pb2
from lmaas.autoscaler.v1.autoscaler_service_pb2_grpc import AutoscalerServiceStub

from benchmarks.common import Report, options
from forebay.cli.client import GatewayClient
from forebay.cli.loaders import Prompt
from forebay.cli.plan import Dealer
from forebay.cli.processes import is_free
from forebay.cli.replay import Replay
from forebay.cli.state import Run, read_run
from forebay.cli.stats import OK, Result

ROOT = Path(__file__).resolve().parents[1]
PROFILE = "A100-80G/Llama-3-8B/tp1"
MODELS = ("m1", "m2", "m3")
PATIENCE_S, POLL_S, TOKENS_MAX = 120.0, 0.05, 64
PROMPTS = [Prompt(f"A question, number {number}", "chat", 48) for number in range(50)]


@click.command()
@click.option("--events", "event_count", default=1_000, show_default=True, help="Scale events in all.")
@click.option("--servers", "server_count", default=5, show_default=True, help="Emulated Tritons.")
@click.option("--clients", "client_count", default=6, show_default=True, help="Closed-loop clients.")
@options
def main(event_count: int, server_count: int, client_count: int, quick: bool, json_path: str | None) -> None:
    """Loads a fleet while its bounds go up and down."""
    report = Report("scale_events", quick)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        run = stack.enter_context(_stack(folder, stack.enter_context(_tritons(server_count))))
        asyncio.run(_measure(report, run, server_count, 40 if quick else event_count, client_count))
    report.close(json_path)


@contextlib.contextmanager
def _tritons(count: int) -> Iterator[list[dict[str, int]]]:
    """So many emulated Tritons that have all models and none of them loaded; yields their ports."""
    available = [word for model in MODELS for word in ("--available", f"{model}={PROFILE}")]
    ports = ("--grpc-port=0", "--http-port=0", "--metrics-port=0")
    command = [sys.executable, "-m", "forebay.emulator", *ports, "--median-tokens", "48", *available]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=_environment()) for _ in range(count)]
    try:
        yield [json.loads(process.stdout.readline()) for process in running if process.stdout is not None]
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(30)


@contextlib.contextmanager
def _stack(folder: Path, servers: Sequence[dict[str, int]]) -> Iterator[Run]:
    """`forebay up` over the servers; yields what it says of itself once it is ready."""
    config = folder / "forebay.toml"
    config.write_text(_toml(folder, servers))
    base = next(base for base in range(21_000, 31_000, 500) if all(is_free(f"127.0.0.1:{base + n}") for n in range(9)))
    command = [sys.executable, "-m", "forebay.cli", "up", "--config", str(config), "--port-base", str(base)]
    with (folder / "up.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--state-dir", str(folder)], env=_environment(), stdout=log, stderr=subprocess.STDOUT
        )
    try:
        yield _ready(process, folder)
    finally:
        process.terminate()
        process.wait(60)


def _ready(process: "subprocess.Popen[bytes]", folder: Path) -> Run:
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s and process.poll() is None:
        run = read_run(folder)
        if run is not None and run.ready:
            return run
        time.sleep(0.1)
    raise click.ClickException(f"the stack did not come up:\n{(folder / 'up.log').read_text()[-3_000:]}")


def _toml(folder: Path, servers: Sequence[dict[str, int]]) -> str:
    names = [f"triton-{number}" for number in range(len(servers))]
    lines = [
        "[autoscaler]",
        'policy = "static"',
        f'state_dir = "{folder}/instances"',
        "tick_s = 0.5\nprobe_s = 0.5\nprobe_starting_s = 0.1\ndrain_quiet_s = 1.0\nstep_instances_max = 32",
    ]
    for name, ports in zip(names, servers, strict=True):
        lines += [
            "[[autoscaler.servers]]",
            f'server_id = "{name}"\ngrpc_address = "127.0.0.1:{ports["grpc"]}"',
            f'metrics_url = "http://127.0.0.1:{ports["metrics"]}/metrics"\nmodels_max = {len(MODELS)}',
        ]
    for model in MODELS:
        lines += [
            "[[autoscaler.models]]",
            f'name = "{model}"\nlauncher = "repository"\nprofile = "{PROFILE}"\nservers = {json.dumps(names)}',
            f"instances_min = 1\ninstances_initial = 1\ninstances_max = {len(names)}",
        ]
    return "\n".join(lines) + "\n"


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FOREBAY_")}
    return {**kept, "PYTHONPATH": f"{ROOT / 'services'}:{ROOT / 'clients' / 'python'}", "OMP_NUM_THREADS": "1"}


async def _measure(report: Report, run: Run, most: int, event_count: int, client_count: int) -> None:
    results: list[Result] = []
    spans_s: dict[str, list[float]] = {"up": [], "down": []}
    channel = grpc.aio.insecure_channel(run.addresses.grpc["autoscaler"])
    api, done = AutoscalerServiceStub(channel), 0
    begun_s = time.monotonic()
    async with GatewayClient(run.addresses.http_url, 60.0) as client:
        replay = Replay(client, Dealer(PROMPTS, list(MODELS), ["interactive-normal"], TOKENS_MAX, seed=1))
        is_over = asyncio.Event()
        loading = asyncio.create_task(_load(replay, client_count, is_over))
        while done < event_count:
            for way, count in (("up", most), ("down", 1)):
                spans_s[way].append(await _scale(api, count))
                done += len(MODELS) * (most - 1)
        is_over.set()
        await loading
        results = replay.results
    await channel.close()
    _tell(report, done, time.monotonic() - begun_s, spans_s, results)


async def _load(replay: Replay, client_count: int, is_over: asyncio.Event) -> None:
    """Rounds of a closed loop, each of which waits for its last answer, until it is over."""
    while not is_over.is_set():
        await replay.closed_loop(client_count, duration_s=5.0, limit=None)


async def _scale(api: Any, count: int) -> float:
    """Brings every model to so many ready instances and no other; how long that took, in seconds."""
    begun_s = time.monotonic()
    for model in MODELS:
        bounds = fleet_pb2.Bounds(model=model, instances_min=count, instances_max=count)
        await api.SetBounds(pb.SetBoundsRequest(bounds=bounds, request_id=uuid.uuid4().hex), timeout=5.0)
    while time.monotonic() - begun_s < PATIENCE_S:
        fleet = await api.GetFleet(pb.GetFleetRequest(), timeout=5.0)
        numbers = [(one.ready_count, one.starting_count, one.draining_count) for one in fleet.models]
        if numbers == [(count, 0, 0)] * len(MODELS):
            return time.monotonic() - begun_s
        await asyncio.sleep(POLL_S)
    raise click.ClickException(f"the fleet did not come to {count} instances a model: {numbers}")


def _tell(
    report: Report, event_count: int, took_s: float, spans_s: dict[str, list[float]], results: Sequence[Result]
) -> None:
    outcomes = Counter(result.outcome for result in results)
    waits_s = [result.ttft_s for result in results if result.ttft_s is not None]
    rows = [(outcome, count) for outcome, count in sorted(outcomes.items())]
    report.table("Requests by what became of them", ("outcome", "requests"), rows)
    report.table(
        "Seconds until the whole fleet is as asked for",
        ("way", "steps", "p50", "most"),
        [(way, len(spans), round(float(np.median(spans)), 2), round(max(spans), 2)) for way, spans in spans_s.items()],
    )
    report.figures |= {
        "scale_event_count": event_count,
        "request_count": len(results),
        "lost_count": len(results) - outcomes[OK],
        "event_s": took_s / event_count,
        "ttft_p50_s": float(np.median(waits_s)),
        "ttft_p99_s": float(np.quantile(waits_s, 0.99)),
    }


if __name__ == "__main__":
    main()
