"""What the gateway adds to a request and to a token, and how many streams it holds: beside a direct client, same run.

Four processes besides the client: an instance that sends tokens as fast or as slowly as it is told, a scheduler that
places at once (its own cost is another benchmark's question) with a metrics service that takes all records, and the
gateway. Direct, KServe and HTTP clients send the same requests to the same instance in turn.

Lateness counts from when a token should have reached the client: connecting, placing and sending all add to it.

Bar: 1,000 streams (5,000 without --quick) held without an error.
Run: PYTHONPATH=services:clients/python python -m benchmarks.gateway_overhead [--quick] [--json FILE]
"""

import asyncio
import contextlib
import json
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import grpc
import uvloop
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from lmaas.common.v1 import instance_pb2
from lmaas.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from lmaas.scheduler.v1 import request_pb2, scheduler_service_pb2, scheduler_service_pb2_grpc, status_pb2
from tritonclient.grpc import service_pb2, service_pb2_grpc

from benchmarks import common

ROOT = Path(__file__).resolve().parents[1]
MODEL = "fast"
RAMP_S = 4.0
"""New streams are spread over this time for each thousand."""
OPTIONS = [("grpc.max_concurrent_streams", 10_000), ("grpc.so_reuseport", 0)]
START_S = 90.0


# The instance


def _output(response: Any, name: str, datatype: str, raw: bytes) -> None:
    response.infer_response.outputs.add(name=name, datatype=datatype, shape=[1])
    response.infer_response.raw_output_contents.append(raw)


def _template(text: str, reason: str, tokens: int, is_final: bool) -> Any:
    response = service_pb2.ModelStreamInferResponse()
    for name, value in (("text_output", text), ("finish_reason", reason)):
        _output(response, name, "BYTES", len(value).to_bytes(4, "little") + value.encode())
    for name, count in (("num_input_tokens", 10), ("num_output_tokens", tokens)):
        _output(response, name, "UINT32", count.to_bytes(4, "little"))
    response.infer_response.parameters["triton_final_response"].bool_param = is_final
    return response


class Instance(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Sends `max_tokens` tokens, one each pause (a field of the sampling), the last with the end."""

    TOKEN = _template(" token", "None", 1, False)
    LAST = _template(" token", "length", 1, True)

    async def ModelStreamInfer(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for request in requests:
            names = [tensor.name for tensor in request.inputs]
            sampling = json.loads(request.raw_input_contents[names.index("sampling_parameters")][4:])
            # The pause travels as the seed, which the gateway passes on, in microseconds.
            pause_s = sampling.get("seed", 0) / 1e6
            due_s = time.monotonic()
            for number in range(sampling["max_tokens"]):
                if pause_s:
                    due_s += pause_s
                    await asyncio.sleep(max(0.0, due_s - time.monotonic()))
                yield self.LAST if number + 1 == sampling["max_tokens"] else self.TOKEN


async def serve_instance(port: int) -> None:
    server = grpc.aio.server(options=OPTIONS)
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Instance(), server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


# The scheduler


class Scheduler(scheduler_service_pb2_grpc.SchedulerServiceServicer):
    """Places every request on the one instance, at once."""

    def __init__(self, instance_address: str) -> None:
        self._address = instance_address
        self._count = 0

    async def Schedule(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for message in requests:
            for one in message.batch.events or (message,):
                if one.WhichOneof("event") == "arrive":
                    yield self._place(one.arrive.request_id)

    def _place(self, request_id: str) -> Any:
        self._count += 1
        placed = request_pb2.Placement(
            lease_id=f"l{self._count}",
            decision_id=f"d{self._count}",
            instance_id=f"i/{MODEL}",
            grpc_address=self._address,
        )
        placed.lease_ttl.FromSeconds(60)
        return scheduler_service_pb2.ScheduleResponse(request_id=request_id, placed=placed)

    async def WatchInstances(self, request: Any, context: Any) -> AsyncIterator[Any]:
        one = status_pb2.ScheduledInstance()
        one.instance.instance_id, one.instance.model, one.instance.server_id = f"i/{MODEL}", MODEL, "i"
        one.instance.grpc_address, one.instance.state = self._address, instance_pb2.INSTANCE_STATE_READY
        yield scheduler_service_pb2.WatchInstancesResponse(instances=[one])
        await asyncio.sleep(3600)


class Metrics(metrics_service_pb2_grpc.MetricsServiceServicer):
    """Takes all records and keeps none."""

    async def ReportEvents(self, requests: AsyncIterator[Any], context: Any) -> Any:
        async for _ in requests:
            pass
        return metrics_service_pb2.ReportEventsResponse()


async def serve_scheduler(port: int, instance_port: int) -> None:
    scheduler = Scheduler(f"127.0.0.1:{instance_port}")  # type: ignore[abstract]
    await serve_grpc(port, scheduler, Metrics())  # type: ignore[abstract]


async def serve_grpc(port: int, scheduler: Scheduler, metrics: Metrics) -> None:
    """Serves both on one port until the process ends."""
    server = grpc.aio.server(options=OPTIONS)
    scheduler_service_pb2_grpc.add_SchedulerServiceServicer_to_server(scheduler, server)
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(metrics, server)
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    await server.wait_for_termination()


# The clients: each runs one request and notes when each token came


@dataclass
class Timing:
    begin_s: float = field(default_factory=time.perf_counter)
    tokens_s: list[float] = field(default_factory=list)

    @property
    def first_s(self) -> float:
        return self.tokens_s[0] - self.begin_s

    @property
    def whole_s(self) -> float:
        return self.tokens_s[-1] - self.begin_s


Client = Callable[[int, float], Awaitable[Timing]]


def _request(tokens: int, pause_s: float) -> Any:
    request = service_pb2.ModelInferRequest(model_name=MODEL)
    sampling = json.dumps({"max_tokens": tokens, "seed": round(pause_s * 1e6)}).encode()
    for name, value in (("text_input", b"Hello"), ("sampling_parameters", sampling)):
        request.inputs.add(name=name, datatype="BYTES", shape=[1])
        request.raw_input_contents.append(len(value).to_bytes(4, "little") + value)
    flags = ("stream", "exclude_input_in_output", "return_finish_reason", "return_num_input_tokens")
    for name in (*flags, "return_num_output_tokens"):
        request.inputs.add(name=name, datatype="BOOL", shape=[1])
        request.raw_input_contents.append(b"\x01")
    return request


def grpc_client(channel: grpc.aio.Channel) -> Client:
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)

    async def run(tokens: int, pause_s: float) -> Timing:
        timing = Timing()
        call = stub.ModelStreamInfer(timeout=300)
        await call.write(_request(tokens, pause_s))
        await call.done_writing()
        while (response := await call.read()) is not grpc.aio.EOF:
            if response.error_message:
                raise RuntimeError(response.error_message)
            timing.tokens_s.append(time.perf_counter())
        return timing

    return run


def http_client(port: int) -> Client:
    async def run(tokens: int, pause_s: float) -> Timing:
        timing = Timing()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        values = {"model": MODEL, "prompt": "Hello", "max_tokens": tokens, "seed": round(pause_s * 1e6), "stream": True}
        body = json.dumps(values).encode()
        writer.write(b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        if b" 200 " not in await reader.readline():
            raise RuntimeError((await reader.read(2000)).decode())
        while (line := await reader.readline()) != b"data: [DONE]\n":
            if b'"finish_reason":null' in line:
                timing.tokens_s.append(time.perf_counter())
            elif not line or b'"error"' in line:
                raise RuntimeError(f"the stream broke off: {line.decode()}")
        writer.close()
        return timing

    return run


# The measurements


Ways = dict[str, Client]
Figures = dict[str, dict[str, float]]


async def one_at_a_time(ways: Ways, count: int, tokens: int) -> Figures:
    """Requests one after another, the ways taking turns, tokens without a pause: first token and time a token."""
    timings: dict[str, list[Timing]] = {way: [] for way in ways}
    for number in range(count + 5):
        for way, client in ways.items():
            timing = await client(tokens, 0.0)
            if number >= 5:
                timings[way].append(timing)
    return {way: _single(found, tokens) for way, found in timings.items()}


def _single(timings: list[Timing], tokens: int) -> dict[str, float]:
    p50, p99 = common.percentiles([timing.first_s for timing in timings], 1e3)
    token, _ = common.percentiles([(timing.whole_s - timing.first_s) / (tokens - 1) for timing in timings])
    return {"ttft_p50_ms": p50, "ttft_p99_ms": p99, "token_p50_us": token}


async def flat_out(ways: Ways, client_count: int, tokens: int, duration_s: float) -> Figures:
    """Many clients without a pause, the ways taking turns: tokens and requests a second, the best of three turns."""
    best = dict.fromkeys(ways, 0.0)
    for _ in range(3):
        for way, client in ways.items():
            best[way] = max(best[way], await _rate(client, client_count, tokens, duration_s / 3))
    return {way: {"tokens_per_s": rate, "requests_per_s": rate / tokens} for way, rate in best.items()}


async def _rate(client: Client, client_count: int, tokens: int, duration_s: float) -> float:
    begin_s = time.perf_counter()

    async def run() -> int:
        found = 0
        while time.perf_counter() < begin_s + duration_s:
            timing = await client(tokens, 0.0)
            found += len(timing.tokens_s)
        return found

    found = sum(await asyncio.gather(*(run() for _ in range(client_count))))
    return found / (time.perf_counter() - begin_s)


async def held(ways: Ways, count: int, tokens: int, pause_s: float) -> Figures:
    """So many streams at once, each with a token a pause: how many end well, and how late tokens are."""
    return {way: await _held(client, count, tokens, pause_s) for way, client in ways.items()}


async def _held(client: Client, count: int, tokens: int, pause_s: float) -> dict[str, float]:
    async def run(number: int) -> Timing:
        await asyncio.sleep(RAMP_S * number / 1000)
        timing = await client(tokens, pause_s)
        if len(timing.tokens_s) != tokens:
            raise RuntimeError(f"{len(timing.tokens_s)} tokens instead of {tokens}")
        return timing

    results = await asyncio.gather(*(run(number) for number in range(count)), return_exceptions=True)
    good = [one for one in results if isinstance(one, Timing)]
    late = [at - timing.begin_s - pause_s * (n + 1) for timing in good for n, at in enumerate(timing.tokens_s)]
    p50, p99 = common.percentiles(late, 1e3) if late else (float("nan"), float("nan"))
    return {
        "completed_count": len(good),
        "error_count": len(results) - len(good),
        "late_p50_ms": p50,
        "late_p99_ms": p99,
    }


# The run


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


@contextlib.contextmanager
def processes(instance: int, scheduler: int, gateway: int, http: int) -> Iterator[None]:
    """The instance, the scheduler and the gateway, each in its own process, on the given ports."""
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT / 'services'}:{ROOT / 'clients' / 'python'}:{ROOT}",
        "FOREBAY_LISTEN": f"127.0.0.1:{gateway}",
        "FOREBAY_HTTP": f"127.0.0.1:{http}",
        "FOREBAY_PROMETHEUS": "",
        "FOREBAY_SCHEDULER": f"127.0.0.1:{scheduler}",
        "FOREBAY_METRICS": f"127.0.0.1:{scheduler}",
        "FOREBAY_LOG_LEVEL": "ERROR",
    }
    own = [sys.executable, "-m", "benchmarks.gateway_overhead"]
    commands = [
        [*own, "--serve=instance", f"--port={instance}"],
        [*own, "--serve=scheduler", f"--port={scheduler}", f"--instance-port={instance}"],
        [sys.executable, "-m", "forebay.gateway"],
    ]
    running = [subprocess.Popen(command, env=environment, cwd=ROOT) for command in commands]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


async def wait_for(client: Client) -> None:
    """Waits until a request comes through."""
    for _ in range(int(START_S / 0.1)):
        try:
            await client(1, 0.0)
            return
        except (OSError, RuntimeError, grpc.aio.AioRpcError):
            await asyncio.sleep(0.1)
    raise RuntimeError(f"no answer within {START_S:g} s")


async def measure(quick: bool, instance: int, gateway: int, http: int) -> dict[str, Figures]:
    """All figures by measurement and way."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with (
        grpc.aio.insecure_channel(f"127.0.0.1:{instance}", options=options) as direct,
        grpc.aio.insecure_channel(f"127.0.0.1:{gateway}", options=options) as through,
    ):
        ways = {"direct": grpc_client(direct), "kserve": grpc_client(through), "http": http_client(http)}
        for client in ways.values():
            await wait_for(client)
        count, duration_s, tokens = (100, 3.0, 5) if quick else (500, 15.0, 30)
        found = {
            "one at a time, 100 tokens": await one_at_a_time(ways, count, 100),
            "32 clients flat out, 50 tokens": await flat_out(ways, 32, 50, duration_s),
            "1,000 streams, 1 token/s": await held(ways, 1000, tokens, 1.0),
        }
        if not quick:
            found["5,000 streams, 0.2 tokens/s"] = await held(ways, 5000, 8, 5.0)
        return found


def rows(found: dict[str, Figures]) -> list[list[common.Cell]]:
    """The figures with their ratios to the direct client."""
    lines: list[list[common.Cell]] = []
    for name, ways in found.items():
        for figure, base in ways["direct"].items():
            kserve, http = ways["kserve"][figure], ways["http"][figure]
            ratios: list[common.Cell] = [one / base if base else "-" for one in (kserve, http)]
            lines.append([name, figure, base, kserve, ratios[0], http, ratios[1]])
    return lines


def summary(found: dict[str, Figures]) -> dict[str, float]:
    """The figures that answer the question, for the largest number of streams."""
    single, flat, *_, streams = found.values()
    figures: dict[str, float] = {}
    for way in ("http", "kserve"):
        figures[f"{way}_request_overhead_ms"] = single[way]["ttft_p50_ms"] - single["direct"]["ttft_p50_ms"]
        figures[f"{way}_token_overhead_us"] = single[way]["token_p50_us"] - single["direct"]["token_p50_us"]
        figures[f"{way}_tokens_per_s"] = flat[way]["tokens_per_s"]
        figures[f"{way}_tokens_x_direct"] = flat[way]["tokens_per_s"] / flat["direct"]["tokens_per_s"]
        figures[f"{way}_streams_completed_count"] = streams[way]["completed_count"]
        figures[f"{way}_stream_error_count"] = streams[way]["error_count"]
        figures[f"{way}_stream_late_p99_ms"] = streams[way]["late_p99_ms"]
    return figures


@click.command()
@common.options
@click.option("--serve", type=click.Choice(["instance", "scheduler"]), hidden=True)
@click.option("--port", type=int, hidden=True, default=0)
@click.option("--instance-port", type=int, hidden=True, default=0)
def main(quick: bool, json_path: str | None, serve: str | None, port: int, instance_port: int) -> None:
    """Measures the gateway beside a direct client."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if serve:
        uvloop.run(serve_instance(port) if serve == "instance" else serve_scheduler(port, instance_port))
        return
    ports = free_ports(4)
    instance, _, gateway, http = ports
    with processes(*ports):
        found = uvloop.run(measure(quick, instance, gateway, http))
    report = common.Report("gateway_overhead", quick)
    columns = ("measurement", "figure", "direct", "kserve", "x direct", "http", "x direct")
    report.table("The gateway beside a direct client", columns, rows(found))
    report.figures.update(summary(found))
    report.close(json_path)


if __name__ == "__main__":
    main()
