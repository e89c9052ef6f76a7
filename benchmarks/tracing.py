"""What traces cost: the gateway's processor time for a request with traces off, at 1 %, at 100 %, and undeliverable.

One gateway for each mode stands before the same fake instance and the same fake scheduler (those of the gateway's own
benchmark), and they take turns under the same load; the collector is a process of its own, or is not there. Beside
that: the processor time of all calls that one request makes to the trace of a gateway and of a scheduler.

Run: PYTHONPATH=services:clients/python python -m benchmarks.tracing [--quick] [--json FILE]
"""

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import grpc
import uvloop
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from prometheus_client import CollectorRegistry

from benchmarks import common
from benchmarks.gateway_overhead import free_ports, http_client, wait_for
from forebay.core.scheduling import Placement
from forebay.core.values import InferenceRequest, LengthQuantiles
from forebay.gateway.genai import CHAT, GenAi
from forebay.gateway.traces import Traces as GatewayTraces
from forebay.gateway.values import RequestRecord, RequestStatus
from forebay.scheduler.traces import Traces as SchedulerTraces
from forebay.wire.tracing import OFF
from forebay.wire.tracing_setup import open_tracer

ROOT = Path(__file__).resolve().parents[1]
TOKENS = 20
CLIENTS = 4
AWAY = "127.0.0.1:1"


def modes(collector: str) -> dict[str, dict[str, str]]:
    """What the environment of each gateway says."""
    sent = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{collector}", "OTEL_METRICS_EXPORTER": "none"}
    rare = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.01"}
    return {
        "off": {},
        "1 %": {**sent, **rare},
        "100 %": sent,
        "100 %, collector away": {**sent, "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{AWAY}"},
    }


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Takes all spans and keeps none."""

    async def Export(self, request: Any, context: Any) -> Any:
        return trace_service_pb2.ExportTraceServiceResponse()


async def serve_collector(port: int) -> None:
    server = grpc.aio.server()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Collector(), server)  # type: ignore[no-untyped-call]
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


@contextlib.contextmanager
def running() -> Iterator[dict[str, tuple[int, int]]]:
    """Everything started; gives the process id and the HTTP port of each mode's gateway."""
    instance, scheduler, collector, *ports = free_ports(11)
    fake = [sys.executable, "-m", "benchmarks.gateway_overhead"]
    bare = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    bare["PYTHONPATH"] = f"{ROOT / 'services'}:{ROOT / 'clients' / 'python'}:{ROOT}"
    started = [
        _start([*fake, "--serve=instance", f"--port={instance}"], bare),
        _start([*fake, "--serve=scheduler", f"--port={scheduler}", f"--instance-port={instance}"], bare),
        _start([sys.executable, "-m", "benchmarks.tracing", f"--collect={collector}"], bare),
    ]
    found = {}
    for number, (mode, said) in enumerate(modes(f"127.0.0.1:{collector}").items()):
        listen, http = ports[2 * number : 2 * number + 2]
        here = {"FOREBAY_LISTEN": f"127.0.0.1:{listen}", "FOREBAY_HTTP": f"127.0.0.1:{http}", "FOREBAY_PROMETHEUS": ""}
        there = {"FOREBAY_SCHEDULER": f"127.0.0.1:{scheduler}", "FOREBAY_METRICS": f"127.0.0.1:{scheduler}"}
        database = {"FOREBAY_DATABASE_URL": "sqlite://", "FOREBAY_LOG_LEVEL": "ERROR"}
        process = _start([sys.executable, "-m", "forebay.gateway"], {**bare, **here, **there, **database, **said})
        started.append(process)
        found[mode] = (process.pid, http)
    try:
        yield found
    finally:
        for process in started:
            process.kill()
            process.wait()


def _start(command: list[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, env=environment, cwd=ROOT)


def cpu_s(pid: int) -> float:
    """Processor time that the threads of a process have used."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


async def load(port: int, count: int) -> list[float]:
    """So many requests, a few at once; how long each took to its first token."""
    client, firsts = http_client(port), list[float]()

    async def one() -> None:
        for _ in range(count // CLIENTS):
            firsts.append((await client(TOKENS, 0.0)).first_s)

    await asyncio.gather(*(one() for _ in range(CLIENTS)))
    return firsts


async def measure(quick: bool) -> list[list[common.Cell]]:
    count, rounds = (200, 5) if quick else (400, 15)
    with running() as gateways:
        for _, port in gateways.values():
            await wait_for(http_client(port))
            await load(port, count)
        spent: dict[str, list[float]] = {mode: [] for mode in gateways}
        firsts: dict[str, list[float]] = {mode: [] for mode in gateways}
        for number in range(rounds):
            # Whoever comes first finds the caches of another's load: each round begins with another mode.
            for mode in [*gateways][number % 4 :] + [*gateways][: number % 4]:
                pid, port = gateways[mode]
                before_s = cpu_s(pid)
                firsts[mode] += await load(port, count)
                spent[mode].append((cpu_s(pid) - before_s) / count * 1e6)
    medians = {mode: sorted(values)[len(values) // 2] for mode, values in spent.items()}
    rows: list[list[common.Cell]] = []
    for mode in gateways:
        p50, p99 = common.percentiles(firsts[mode], 1e3)
        rows.append([mode, medians[mode], medians[mode] - medians["off"], p50, p99])
    return rows


# The calls of one request, in one process

PREDICTED = LengthQuantiles(1, 2, 3, 4)


def one_in_gateway(traces: GatewayTraces | None, number: int) -> None:
    request = InferenceRequest(f"r{number}", "m", 10)
    placement = Placement(request.request_id, "l", "d", "i/m", "127.0.0.1:8001", PREDICTED, "p", 1)
    record = RequestRecord(request, RequestStatus.OK, 1, 2, 3, 4, placement, 10, 20, 1, "", False)
    if traces is not None:
        traces.begin(request, CHAT, {})
        traces.asked(request.request_id)
        traces.placed(request.request_id, placement)
        traces.trying(request.request_id, placement)
        traces.ended(record, "m")


def one_in_scheduler(traces: SchedulerTraces | None, number: int) -> None:
    request = InferenceRequest(f"r{number}", "m", 10)
    placement = Placement(request.request_id, "l", "d", "i/m", "127.0.0.1:8001", PREDICTED, "p", 1)
    if traces is not None:
        traces.begin(request, "")
        if traces.open:
            traces.answered(placement)


def calls(quick: bool) -> list[list[common.Cell]]:
    count = 2_000 if quick else 10_000
    rows: list[list[common.Cell]] = []
    for mode, said in modes(AWAY).items():
        if mode == "100 %, collector away":
            continue
        saved = {name: os.environ.get(name) for name in said}
        os.environ.update(said)
        tracer = open_tracer("benchmark", "here", CollectorRegistry()) if said else OFF
        gateway, scheduler = GatewayTraces(tracer, GenAi(CollectorRegistry())), SchedulerTraces(tracer)
        rows.append([mode, _cost_us(one_in_gateway, gateway, count), _cost_us(one_in_scheduler, scheduler, count)])
        tracer.close(0.1)
        for name, value in saved.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    return rows


def _cost_us(one: Callable[[Any, int], None], traces: object, count: int) -> float:
    """Processor time of this thread for the calls alone, the best of three."""
    return max(0.0, min(_timed(one, traces, count) - _timed(one, None, count) for _ in range(3)))


def _timed(one: Callable[[Any, int], None], traces: object, count: int) -> float:
    begin_s = time.thread_time()
    for number in range(count):
        one(traces, number)
    return (time.thread_time() - begin_s) / count * 1e6


@click.command()
@common.options
@click.option("--collect", type=int, default=0, hidden=True)
def main(quick: bool, json_path: str | None, collect: int) -> None:
    """Print what traces cost."""
    if collect:
        uvloop.run(serve_collector(collect))
        return
    report = common.Report("tracing", quick)
    columns = ["traces", "gateway CPU us/request", "more than off", "ttft_p50_ms", "ttft_p99_ms"]
    rows = uvloop.run(measure(quick))
    report.table(f"A request of {TOKENS} tokens over HTTP, {CLIENTS} at once", columns, rows)
    inside = calls(quick)
    report.table("All calls of one request", ["traces", "gateway CPU us", "scheduler CPU us"], inside)
    for name, row in zip(("off", "1pct", "100pct", "away"), rows, strict=True):
        report.figures[f"{name}_cpu_us"] = float(row[1])
        report.figures[f"{name}_ttft_p99_ms"] = float(row[4])
    report.figures["off_calls_us"] = float(inside[0][1])
    report.close(json_path)


if __name__ == "__main__":
    main()
