"""Servers are probed on their own, the dead are known soon, and the service survives the loss of its neighbours."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from lmaas.autoscaler.v1 import autoscaler_service_pb2
from lmaas.autoscaler.v1.autoscaler_service_pb2_grpc import (
    AutoscalerServiceServicer,
    AutoscalerServiceStub,
    add_AutoscalerServiceServicer_to_server,
)
from lmaas.metrics.v1 import metrics_service_pb2 as pb
from lmaas.metrics.v1.metrics_service_pb2_grpc import MetricsServiceStub
from tritonclient.grpc import service_pb2, service_pb2_grpc

from forebay.core.metrics import Event, RequestRecord, RequestStatus
from forebay.core.values import Instance, InstanceLoad
from forebay.metrics.config import Config
from forebay.metrics.engine import MetricsEngine
from forebay.metrics.loop import PAGE_BYTES_MAX, Prober, follow_fleet
from forebay.wire import convert
from forebay.wire.channel import connect
from forebay.wire.clock import now_us
from forebay.wire.convert_metrics import event_to_proto
from tests.integration.postgres import Postgres, postgres
from tests.integration.real_triton import RealTriton, real_triton

__all__ = ["postgres", "real_triton"]

PAGE = 'nv_inference_request_success{model="m",version="1"} 7\nvllm:num_requests_running{model_name="m"} 3\n'
FAST = Config(scrape_interval_s=0.05, scrape_timeout_s=0.5, probe_timeout_s=0.5)
WAIT_S = 20


class MetricsPage:
    """A Prometheus page like Triton's, which can fail or be slow."""

    def __init__(self) -> None:
        self.text, self.status, self.asked_count = PAGE, 200, 0
        self.closed = False
        self.released = threading.Event()
        self.released.set()
        page = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                page.asked_count += 1
                page.released.wait(WAIT_S)
                if page.closed:
                    # Connections that are open already end too, as those of a process do.
                    self.close_connection = True
                    return
                body = page.text.encode()
                self.send_response(page.status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def handle(self) -> None:
                try:
                    super().handle()
                except ConnectionError:
                    return

            def log_message(self, format: str, *args: Any) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/metrics"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def close(self) -> None:
        self.closed = True
        self.released.set()
        self.server.shutdown()
        self.server.server_close()


class Triton(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Answers that it lives, as long as it does."""

    async def ServerLive(self, request: Any, context: Any) -> Any:
        return service_pb2.ServerLiveResponse(live=True)


class Autoscaler(AutoscalerServiceServicer):
    """Tells the fleets that it is given."""

    def __init__(self) -> None:
        self.fleets: asyncio.Queue[list[Instance]] = asyncio.Queue()

    async def WatchFleet(self, request: Any, context: Any) -> AsyncIterator[Any]:
        while True:
            instances = [convert.instance_to_proto(one) for one in await self.fleets.get()]
            yield autoscaler_service_pb2.WatchFleetResponse(instances=instances)


def instance(name: str, metrics_url: str = "", port: int = 1) -> Instance:
    return Instance(f"{name}/m", "m", f"127.0.0.1:{port}", name, metrics_url=metrics_url)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.01)


async def triton(port: int = 0) -> tuple[grpc.aio.Server, int]:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Triton(), server)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    return server, port


@pytest.fixture
def page() -> Iterator[MetricsPage]:
    made = MetricsPage()
    yield made
    made.close()


@pytest.fixture
def engine() -> MetricsEngine:
    return MetricsEngine(FAST.unreachable_after_count, FAST.queue_stale_after_us)


@pytest.fixture
async def prober(engine: MetricsEngine) -> AsyncIterator[Prober]:
    made = Prober(engine, FAST, now_us)
    yield made
    await made.close()


def load(engine: MetricsEngine, name: str) -> InstanceLoad:
    """The instance's load; one that was not judged yet is not reachable."""
    loads = {one.instance_id: one for one in engine.snapshot(now_us()).instances}
    return loads.get(f"{name}/m", InstanceLoad(f"{name}/m", "m", reachable=False))


async def test_a_page_is_read_again_and_again(engine: MetricsEngine, prober: Prober, page: MetricsPage) -> None:
    await prober.follow([instance("a", page.url)])
    await until(lambda: load(engine, "a").reachable)
    assert (load(engine, "a").running_count, load(engine, "a").success_total) == (3, 7)
    page.text = PAGE.replace(" 3", " 5")
    await until(lambda: load(engine, "a").running_count == 5)


async def test_one_page_serves_all_instances_of_its_server(
    engine: MetricsEngine, prober: Prober, page: MetricsPage
) -> None:
    other = Instance("a/other", "other", "127.0.0.1:1", "a", metrics_url=page.url)
    page.text += 'nv_inference_request_success{model="other",version="1"} 9\n'
    await prober.follow([instance("a", page.url), other])
    await until(lambda: len([one for one in engine.snapshot(now_us()).instances if one.reachable]) == 2)
    totals = {one.model: one.success_total for one in engine.snapshot(now_us()).instances}
    assert totals == {"m": 7, "other": 9}


async def test_a_slow_server_delays_no_other(engine: MetricsEngine, prober: Prober, page: MetricsPage) -> None:
    slow = MetricsPage()
    slow.released.clear()
    await prober.follow([instance("slow", slow.url), instance("a", page.url, port=2)])
    await until(lambda: page.asked_count > 5)
    assert slow.asked_count <= 1
    assert load(engine, "a").reachable
    slow.close()


async def test_a_server_without_a_page_is_asked_whether_it_lives(engine: MetricsEngine, prober: Prober) -> None:
    server, port = await triton()
    await prober.follow([instance("a", port=port)])
    await until(lambda: load(engine, "a").reachable)
    assert load(engine, "a").running_count is None
    await server.stop(0)
    await until(lambda: not load(engine, "a").reachable)
    server, _ = await triton(port)
    await until(lambda: load(engine, "a").reachable)
    await server.stop(0)


async def test_a_dead_server_is_known_and_its_last_numbers_stay(
    engine: MetricsEngine, prober: Prober, page: MetricsPage
) -> None:
    await prober.follow([instance("a", page.url)])
    await until(lambda: load(engine, "a").reachable)
    seen_us = load(engine, "a").seen_us
    page.close()
    await until(lambda: not load(engine, "a").reachable)
    assert load(engine, "a").running_count == 3
    assert load(engine, "a").seen_us >= seen_us


@pytest.mark.parametrize(
    ("status", "text"), [(500, "oops"), (200, "nv_inference_request_success{"), (200, "x" * (PAGE_BYTES_MAX + 1))]
)
async def test_a_page_that_fails_does_not_make_a_server_dead_that_answers(
    engine: MetricsEngine, prober: Prober, page: MetricsPage, status: int, text: str
) -> None:
    server, port = await triton()
    page.status, page.text = status, text
    await prober.follow([instance("a", page.url, port)])
    await until(lambda: page.asked_count > 3)
    assert load(engine, "a").reachable
    assert load(engine, "a").running_count is None
    await server.stop(0)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/metrics", "no url at all", "http://[broken/", "ftp://a/b"])
async def test_a_url_that_leads_nowhere_is_no_answer(engine: MetricsEngine, prober: Prober, url: str) -> None:
    await prober.follow([instance("a", url), instance("b", url, port=2)])
    await asyncio.sleep(0.2)
    assert not load(engine, "a").reachable


async def test_a_real_triton_tells_what_waits(engine: MetricsEngine, prober: Prober, real_triton: RealTriton) -> None:
    one = Instance("t/m", real_triton.model, real_triton.grpc_address, "t", metrics_url=real_triton.metrics_url)
    without_page = Instance("g/m", real_triton.model, real_triton.grpc_address, "g")
    await prober.follow([one, without_page])
    await until(lambda: load(engine, "t").waiting_count == 0 and load(engine, "g").reachable)
    assert load(engine, "t").failure_total == 0


async def test_a_server_that_left_the_fleet_is_left_alone(prober: Prober, page: MetricsPage) -> None:
    await prober.follow([instance("a", page.url)])
    await until(lambda: page.asked_count > 1)
    await prober.follow([])
    await asyncio.sleep(0.1)
    asked_count = page.asked_count
    await asyncio.sleep(0.2)
    assert page.asked_count == asked_count


async def test_the_fleet_is_the_autoscalers_and_stays_while_it_is_down(
    engine: MetricsEngine, prober: Prober, page: MetricsPage
) -> None:
    autoscaler = Autoscaler()  # type: ignore[abstract]
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    add_AutoscalerServiceServicer_to_server(autoscaler, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    channel = connect(f"127.0.0.1:{port}")
    following = asyncio.create_task(follow_fleet(AutoscalerServiceStub(channel), prober, retry_s=0.05))
    autoscaler.fleets.put_nowait([instance("a", page.url)])
    await until(lambda: [one.instance_id for one in engine.instances] == ["a/m"])
    await server.stop(0)
    await asyncio.sleep(0.2)
    page.close()
    await until(lambda: bool(engine.instances) and not load(engine, "a").reachable)

    again = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    add_AutoscalerServiceServicer_to_server(autoscaler, again)
    assert again.add_insecure_port(f"127.0.0.1:{port}") == port
    await again.start()
    autoscaler.fleets.put_nowait([instance("b", page.url)])
    await until(lambda: [one.instance_id for one in engine.instances] == ["b/m"])
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    await channel.close()
    await again.stop(0)


class Process:
    """The service as a process of its own."""

    def __init__(self, database_url: str) -> None:
        self.ports = free_ports(2)
        self.environment = {
            "PYTHONPATH": "services:clients/python",
            "PATH": os.defpath,
            "FOREBAY_LISTEN": f"127.0.0.1:{self.ports[0]}",
            "FOREBAY_PROMETHEUS": f"127.0.0.1:{self.ports[1]}",
            "FOREBAY_PAGE": "127.0.0.1:0",
            "FOREBAY_AUTOSCALER": "127.0.0.1:1",
            "FOREBAY_DATABASE_URL": database_url,
            "FOREBAY_LOG_LEVEL": "WARNING",
        }
        self.channel = connect(self.environment["FOREBAY_LISTEN"])
        self.stub = MetricsServiceStub(self.channel)

    async def start(self) -> None:
        command = [sys.executable, "-W", "error", "-m", "forebay.metrics"]
        self.process = await asyncio.to_thread(subprocess.Popen, command, env=self.environment)
        health: Any = health_pb2_grpc.HealthStub(self.channel)
        await health.Check(health_pb2.HealthCheckRequest(), timeout=WAIT_S, wait_for_ready=True)

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(WAIT_S)

    async def report(self, *names: str) -> int:
        records = [RequestRecord(name, "m", now_us(), RequestStatus.OK) for name in names]
        events = [event_to_proto(Event(record.request_id, record)) for record in records]
        request = pb.ReportEventsRequest(events=events)
        return (await self.stub.ReportEvents(iter([request]), timeout=WAIT_S)).accepted_count

    async def kept(self) -> list[str]:
        answer = await self.stub.ListRequests(pb.ListRequestsRequest(), timeout=WAIT_S)
        return sorted(record.request_id for record in answer.requests)


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Process]:
    made = Process(f"sqlite:///{tmp_path}/state/forebay.db")
    await made.start()
    yield made
    made.process.kill()
    made.process.wait()
    await made.channel.close()


async def test_what_was_acknowledged_survives_a_kill(service: Process) -> None:
    assert await service.report("a", "b") == 2
    service.end(signal.SIGKILL)
    await service.start()
    assert await service.kept() == ["a", "b"]
    assert await service.report("b", "c") == 2
    assert await service.kept() == ["a", "b", "c"]


async def test_the_service_ends_cleanly_while_somebody_watches(service: Process) -> None:
    call: Any = service.stub.WatchSnapshots(pb.WatchSnapshotsRequest(), timeout=WAIT_S)
    assert (await anext(aiter(call))).snapshot.snapshot_time.seconds > 0
    await service.report("a")
    assert service.end(signal.SIGTERM) == 0
    call.cancel()


async def test_the_page_of_the_service_is_served(service: Process) -> None:
    await service.report("a")
    url = f"http://127.0.0.1:{service.ports[1]}/metrics"
    text = await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=WAIT_S).read().decode())
    assert 'forebay_requests_total{model="m",slo_class="interactive_normal",status="ok"} 1.0' in text
    assert "# HELP forebay_instances " in text


async def test_the_service_lives_through_the_loss_of_its_database(postgres: Postgres) -> None:
    service = Process(postgres.new_database())
    await service.start()
    await service.report("a")
    await asyncio.to_thread(postgres.stop)
    assert await service.report("b") == 1
    snapshot = (await service.stub.GetSnapshot(pb.GetSnapshotRequest(), timeout=WAIT_S)).snapshot
    assert snapshot.models[0].ended_count == 2
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.kept()
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    await asyncio.to_thread(postgres.start)
    async with asyncio.timeout(WAIT_S):
        while await service.kept() != ["a", "b"]:
            await asyncio.sleep(0.05)
    assert service.end(signal.SIGTERM) == 0
    await service.channel.close()


def test_a_database_that_cannot_be_opened_ends_the_start_with_one_line() -> None:
    environment = {"PYTHONPATH": "services:clients/python", "FOREBAY_DATABASE_URL": "mysql://u:secret@localhost/x"}
    command = [sys.executable, "-m", "forebay.metrics"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: databases of kind 'mysql' are not supported")
    assert len(ended.stderr.splitlines()) == 1
