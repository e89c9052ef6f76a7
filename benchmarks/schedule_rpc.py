"""What one placement costs over gRPC: the Schedule stream and the unary Place, beside a bare echo of the same shape.

The scheduler runs in a process of its own over loopback, with 100 instances and without a predictor, so that its
histogram answers. Each placement is followed by the end of its lease. The echo parses the same messages and sends a
fixed placement for each arrival, from grpc.aio without interceptors. A load is a number of unanswered calls, or
arrivals a second sent come what may. Decisions per second and core count the server's processor time alone.

Then the stream with a predictor in a process of its own, the shipped fast model and prompts of a hundred words, no two
alike: from arrival to placement with the prediction in between, and the predictor learning from each end.

Bar: p99 <= 5 ms by gRPC at 1,000 a second, with and without prediction; the stream keeps 80 % of the echo's rate;
batches reach 10,000 decisions a second.
Run: PYTHONPATH=services:clients/python python -m benchmarks.schedule_rpc [--quick] [--json FILE]
"""

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import click
import grpc
import uvloop
from lmaas.common.v1 import length_pb2, slo_pb2
from lmaas.scheduler.v1 import request_pb2, scheduler_service_pb2_grpc
from lmaas.scheduler.v1 import scheduler_service_pb2 as pb
from prometheus_client import CollectorRegistry

from benchmarks import common, length_latency
from benchmarks.decision import fleet
from forebay.scheduler.actions import Observe
from forebay.scheduler.config import Config
from forebay.scheduler.engine import Engine
from forebay.scheduler.histogram import PREDICTED_BY
from forebay.scheduler.lengths import Outcomes, Predictions, PredictorLengths
from forebay.scheduler.meters import Meters
from forebay.scheduler.policy import build
from forebay.scheduler.servicer import SERVICE, SchedulerServicer
from forebay.scheduler.shell import Lengths, Shell
from forebay.wire.channel import connect
from forebay.wire.clock import now_us
from forebay.wire.main import calm_collector
from forebay.wire.server import Server
from forebay.wire.timer import Timer

INSTANCE_COUNT = 100
WINDOWS = (1, 16, 128)
RATES_PER_S = (500, 1_000, 2_000)
PREDICTED_RATES_PER_S = (250, 500, 1_000)
BATCHES = (8, 32, 128)
REPLICAS = (1, 2, 4)
BATCH_MAX = 1_024
"""Events of a message at most."""
NAMES = {"": "", " a batch": "_a_batch", "/s": "_per_s"}
COLUMNS = ("call", "load", "server", "p50 us", "p99 us", "calls/s", "server us a call", "per s and core", "x echo")
PREDICTED_COLUMNS = ("arrivals/s", "p50 ms", "p99 ms", "placed/s", "scheduler us a call", "% predicted")
Result = tuple[list[float], float, float]
"""Seconds of each decision, seconds in all, seconds of the server's processor."""
Run = Callable[[Any, int, int, list[float]], Awaitable[None]]


# Servers


class NoPredictor:
    """Answers at once that there is no prediction."""

    def ask(self, request: Any, reply: Callable[[None], None]) -> None:
        reply(None)

    def observe(self, outcome: Observe) -> None:
        pass


async def serve_scheduler(predictor: str) -> None:
    config, registry = Config(), CollectorRegistry()
    server, timer = Server("127.0.0.1:0", [SERVICE], registry), Timer(now_us)
    outcomes = Outcomes(connect(predictor), "bench", config.outcome_interval_s) if predictor else None
    lengths: Lengths = NoPredictor()
    if outcomes is not None:
        lengths = PredictorLengths(Predictions(connect(predictor), config, now_us), outcomes)
    shell = Shell(Engine(config, build(config), f"s{now_us():x}"), now_us, lengths, timer, Meters(registry))
    timer.callback = shell.wake
    scheduler_service_pb2_grpc.add_SchedulerServiceServicer_to_server(SchedulerServicer(shell, config), server.grpc)
    shell.fleet(fleet(INSTANCE_COUNT))
    calm_collector()
    await server.start()
    print(server.port, flush=True)
    if outcomes is not None:
        await outcomes.run()
    await server.grpc.wait_for_termination()


class Echo(scheduler_service_pb2_grpc.SchedulerServiceServicer):
    """Sends the same placement for every arrival and decides nothing."""

    def __init__(self) -> None:
        self._placement = request_pb2.Placement(
            lease_id="s64f2a1b3c4d5e-l1000",
            decision_id="s64f2a1b3c4d5e-d1000",
            instance_id="i0042/m",
            grpc_address="127.0.0.1:42",
            predicted_length=length_pb2.LengthQuantiles(p10_tokens=16, p50_tokens=128, p90_tokens=512, p97_tokens=999),
            triton_priority=2,
            predicted_by="scheduler histogram",
        )
        self._placement.lease_ttl.FromSeconds(60)

    async def Schedule(self, requests: Any, context: Any) -> AsyncIterator[pb.ScheduleResponse]:
        async for message in requests:
            if message.WhichOneof("event") == "arrive":
                yield self._answer(message)
            elif message.WhichOneof("event") == "batch":
                arrivals = [one for one in message.batch.events if one.WhichOneof("event") == "arrive"]
                if arrivals:
                    yield pb.ScheduleResponse(batch=[self._answer(one) for one in arrivals])

    def _answer(self, message: pb.ScheduleRequest) -> pb.ScheduleResponse:
        return pb.ScheduleResponse(request_id=message.arrive.request_id, placed=self._placement)

    async def Place(self, request: Any, context: Any) -> pb.PlaceResponse:
        return pb.PlaceResponse(placement=self._placement)

    async def Report(self, request: Any, context: Any) -> pb.ReportResponse:
        return pb.ReportResponse()


async def serve_echo() -> None:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    scheduler_service_pb2_grpc.add_SchedulerServiceServicer_to_server(Echo(), server)  # type: ignore[abstract]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


@contextlib.contextmanager
def started(name: str, predictor: str = "") -> Iterator[tuple[str, int]]:
    """A server in a process of its own: its address and process id."""
    command = [sys.executable, "-m", "benchmarks.schedule_rpc", "--serve", name, "--predictor", predictor]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"127.0.0.1:{int(process.stdout.readline())}", process.pid
        finally:
            process.kill()


def processor_s(pid: int) -> float:
    """Processor time of a process so far, user and system."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# Clients


def request(name: str) -> request_pb2.InferenceRequest:
    return request_pb2.InferenceRequest(
        request_id=name,
        model="m",
        prompt_tokens=500,
        tokens_max=1_000,
        slo_class=slo_pb2.SLO_CLASS_INTERACTIVE_NORMAL,
        tenant="default",
        application="chat",
        prompt_head="Tell me in a few words what a forebay is and why a power plant has one. " * 4,
    )


def finish(lease_id: str) -> request_pb2.Finish:
    return request_pb2.Finish(lease_id=lease_id, outcome=request_pb2.OUTCOME_STOPPED, generated_tokens=120)


async def run_stream(stub: Any, window: int, count: int, seconds: list[float]) -> None:
    """Keeps `window` arrivals unanswered on one stream until `count` are answered."""
    call = stub.Schedule()
    await call.write(pb.ScheduleRequest(resume=pb.Resume(gateway_id="bench")))
    sent: dict[str, float] = {}
    names = iter(range(count))

    async def arrive() -> None:
        number = next(names, None)
        if number is not None:
            name = f"r{time.monotonic_ns()}-{number}"
            message = pb.ScheduleRequest(arrive=request(name))
            sent[name] = time.perf_counter()
            await call.write(message)

    for _ in range(window):
        await arrive()
    for _ in range(count):
        answer = await call.read()
        seconds.append(time.perf_counter() - sent.pop(answer.request_id))
        await call.write(pb.ScheduleRequest(finish=finish(answer.placed.lease_id)))
        await arrive()
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF


async def run_batches(stub: Any, size: int, count: int, seconds: list[float]) -> None:
    """Keeps four batches of `size` arrivals unanswered; each also ends the leases of the answers before it."""
    call = stub.Schedule()
    await call.write(pb.ScheduleRequest(resume=pb.Resume(gateway_id="bench")))
    sent: dict[str, float] = {}
    ends: list[pb.ScheduleRequest] = []
    batches = iter(range(count // size))

    async def arrive() -> None:
        if (batch := next(batches, None)) is None:
            return
        names = [f"r{time.monotonic_ns()}-{batch}-{number}" for number in range(size)]
        events = [*ends, *(pb.ScheduleRequest(arrive=request(name)) for name in names)]
        ends.clear()
        sent.update(dict.fromkeys(names, time.perf_counter()))
        await call.write(pb.ScheduleRequest(batch=pb.ScheduleBatch(events=events)))

    for _ in range(4):
        await arrive()
    answered = 0
    for _ in range(count // size * size):
        response = await call.read()
        answers = response.batch or (response,)
        now = time.perf_counter()
        seconds.extend(now - sent.pop(one.request_id) for one in answers)
        ends.extend(pb.ScheduleRequest(finish=finish(one.placed.lease_id)) for one in answers)
        before, answered = answered, answered + len(answers)
        for _ in range(answered // size - before // size):
            await arrive()
        if answered == count // size * size:
            break
    await call.write(pb.ScheduleRequest(batch=pb.ScheduleBatch(events=ends[:BATCH_MAX])))
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF


async def run_paced(
    stub: Any,
    rate: int,
    count: int,
    seconds: list[float],
    heads: Iterator[str] | None = None,
    sources: Counter[str] | None = None,
) -> None:
    """Sends `rate` arrivals a second, come what may; an answer's time counts from when its arrival was due.

    `heads` are the beginnings of prompts, where they should differ; `sources` counts who predicted.
    """
    call = stub.Schedule()
    await call.write(pb.ScheduleRequest(resume=pb.Resume(gateway_id="bench")))
    outbox: asyncio.Queue[pb.ScheduleRequest | None] = asyncio.Queue()
    due: dict[str, float] = {}

    async def pace() -> None:
        began = time.perf_counter()
        for number in range(count):
            at = began + number / rate
            await asyncio.sleep(max(0.0, at - time.perf_counter()))
            name = f"r{time.monotonic_ns()}-{number}"
            due[name] = at
            arrival = request(name)
            if heads is not None:
                arrival.prompt_head = next(heads)
            outbox.put_nowait(pb.ScheduleRequest(arrive=arrival))

    async def write() -> None:
        while (message := await outbox.get()) is not None:
            await call.write(message)
        await call.done_writing()

    tasks = [asyncio.create_task(pace()), asyncio.create_task(write())]
    for _ in range(count):
        answer = await call.read()
        seconds.append(time.perf_counter() - due.pop(answer.request_id))
        if sources is not None:
            sources[answer.placed.predicted_by] += 1
        outbox.put_nowait(pb.ScheduleRequest(finish=finish(answer.placed.lease_id)))
    outbox.put_nowait(None)
    await asyncio.gather(*tasks)
    assert await call.read() is grpc.aio.EOF


async def run_place(stub: Any, window: int, count: int, seconds: list[float]) -> None:
    """Keeps `window` callers placing and reporting until `count` calls are answered."""

    async def caller(number: int) -> None:
        for turn in range(count // window):
            message = pb.PlaceRequest(request=request(f"r{time.monotonic_ns()}-{number}-{turn}"))
            began = time.perf_counter()
            answer = await stub.Place(message, timeout=30)
            seconds.append(time.perf_counter() - began)
            await stub.Report(pb.ReportRequest(finish=finish(answer.placement.lease_id)), timeout=30)

    await asyncio.gather(*(caller(number) for number in range(window)))


async def measure(run: Run, server: tuple[str, int], load: int, count: int) -> Result:
    address, pid = server
    async with grpc.aio.insecure_channel(address) as channel:
        stub = scheduler_service_pb2_grpc.SchedulerServiceStub(channel)
        await run(stub, load, max(load if run is not run_paced else 0, count // 10), [])
        seconds: list[float] = []
        began, used = time.perf_counter(), processor_s(pid)
        await run(stub, load, count, seconds)
        return seconds, time.perf_counter() - began, processor_s(pid) - used


async def compare(report: common.Report, count: int) -> list[list[common.Cell]]:
    """One row for each call, load and server."""
    rows: list[list[common.Cell]] = []
    with started("echo") as echo, started("scheduler") as scheduler:
        for call, unit, run, load, repetitions in _cases(count):
            base_us = 0.0
            for name, server in (("echo", echo), ("scheduler", scheduler)):
                seconds, wall_s, server_s = await measure(run, server, load, repetitions)
                p50, p99 = common.percentiles(seconds)
                each_us = server_s / len(seconds) * 1e6
                base_us = base_us or each_us
                per_s = len(seconds) / wall_s
                rows.append([call, f"{load}{unit}", name, p50, p99, per_s, each_us, 1e6 / each_us, each_us / base_us])
            _note(report, f"{call.lower()}_{load}{NAMES[unit]}", rows[-1], unit != "/s")
    return rows


async def predicted(report: common.Report, seconds_each: int) -> list[list[common.Cell]]:
    """One row for each rate of arrivals whose lengths a predictor of its own process tells."""
    rows: list[list[common.Cell]] = []
    with length_latency.started() as predictor, started("scheduler", predictor) as server:
        for rate in PREDICTED_RATES_PER_S:
            sources: Counter[str] = Counter()
            count = rate * seconds_each
            heads = (one.prompt_head for one in length_latency.prompts(2 * count, False, seed=rate))
            run = partial(run_paced, heads=heads, sources=sources)
            seconds, wall_s, server_s = await measure(run, server, rate, count)
            p50, p99 = common.percentiles(seconds, 1e3)
            told = 1 - sources[PREDICTED_BY] / sources.total()
            rows.append([rate, p50, p99, len(seconds) / wall_s, server_s / len(seconds) * 1e6, 100 * told])
            report.figures |= {f"predicted_{rate}_per_s_p50_ms": p50, f"predicted_{rate}_per_s_p99_ms": p99}
    return rows


async def share_models(count: int, replica_count: int) -> tuple[float, float]:
    """Decisions a second, and server processor time of one in us, where each replica has its share of the models.

    Batches of 32 go to each as gateways send them; what they decide does not touch.
    """
    async with contextlib.AsyncExitStack() as stack:
        servers = [stack.enter_context(started("scheduler")) for _ in range(replica_count)]
        channels = [await stack.enter_async_context(grpc.aio.insecure_channel(address)) for address, _ in servers]
        stubs = [scheduler_service_pb2_grpc.SchedulerServiceStub(channel) for channel in channels]
        used = sum(processor_s(pid) for _, pid in servers)
        seconds: list[float] = []
        began = time.perf_counter()
        await asyncio.gather(*(run_batches(stub, 32, count // replica_count, seconds) for stub in stubs))
        wall_s = time.perf_counter() - began
        used = sum(processor_s(pid) for _, pid in servers) - used
    return len(seconds) / wall_s, 1e6 * used / len(seconds)


async def replicas(report: common.Report, count: int) -> list[list[common.Cell]]:
    """One row for each number of replicas; the machine's cores are shared by all of them and the client."""
    rows: list[list[common.Cell]] = []
    for replica_count in REPLICAS:
        per_s, each_us = await share_models(count, replica_count)
        rows.append([replica_count, per_s, each_us, per_s / float(rows[0][1]) if rows else 1.0])
        report.figures[f"replicas_{replica_count}_decisions_per_s"] = per_s
    return rows


def _cases(count: int) -> Iterator[tuple[str, str, Run, int, int]]:
    for window in WINDOWS:
        yield "Schedule", "", run_stream, window, count
    for size in BATCHES:
        yield "Schedule", " a batch", run_batches, size, 2 * count
    for rate in RATES_PER_S:
        yield "Schedule", "/s", run_paced, rate, max(2 * rate, count // 2)
    for window in WINDOWS:
        yield "Place", "", run_place, window, count * 2 // 5


def _note(report: common.Report, prefix: str, row: list[common.Cell], saturated: bool) -> None:
    report.figures[f"{prefix}_p50_us"] = float(row[3])
    report.figures[f"{prefix}_p99_us"] = float(row[4])
    if saturated:
        report.figures[f"{prefix}_decisions_per_s"] = float(row[5])
        report.figures[f"{prefix}_decisions_per_s_and_core"] = float(row[7])
        report.figures[f"{prefix}_x_echo"] = float(row[8])


@click.command()
@common.options
@click.option("--serve", type=click.Choice(["scheduler", "echo"]), hidden=True)
@click.option("--predictor", default="", hidden=True)
def main(quick: bool, json_path: str | None, serve: str | None, predictor: str) -> None:
    """Times placements over gRPC."""
    if serve:
        uvloop.run(serve_scheduler(predictor) if serve == "scheduler" else serve_echo())
        return
    report = common.Report("schedule_rpc", quick)
    rows = uvloop.run(compare(report, 3_000 if quick else 20_000))
    report.table(f"One placement over loopback, {INSTANCE_COUNT} instances", COLUMNS, rows)
    rows = uvloop.run(predicted(report, 5 if quick else 20))
    report.table("One placement with the prediction of its length, a predictor beside", PREDICTED_COLUMNS, rows)
    rows = uvloop.run(replicas(report, 6_000 if quick else 40_000))
    columns = ("replicas", "decisions/s", "server us a decision", "x one")
    report.table(f"Replicas that share the models, {os.cpu_count()} cores with the client", columns, rows)
    report.close(json_path)


if __name__ == "__main__":
    main()
