"""The autoscaler as a process of its own, with real emulated instances, that is killed and comes back."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from lmaas.autoscaler.v1 import autoscaler_service_pb2 as pb
from lmaas.autoscaler.v1 import fleet_pb2
from lmaas.autoscaler.v1.autoscaler_service_pb2_grpc import AutoscalerServiceStub
from lmaas.common.v1 import instance_pb2
from lmaas.metrics.v1 import metrics_service_pb2, snapshot_pb2
from lmaas.metrics.v1.metrics_service_pb2_grpc import MetricsServiceServicer, add_MetricsServiceServicer_to_server
from lmaas.scheduler.v1 import scheduler_service_pb2
from lmaas.scheduler.v1.scheduler_service_pb2_grpc import (
    SchedulerServiceServicer,
    add_SchedulerServiceServicer_to_server,
)
from prometheus_client import CollectorRegistry

from forebay.autoscaler import process
from forebay.autoscaler.actuator_process import MARK
from forebay.autoscaler.policy.autoscaler import AUTOSCALERS
from forebay.wire.channel import connect
from forebay.wire.server import Server
from tests.integration.emulated_triton import start_emulator
from tests.integration.real_triton import INSTALLED, START, free_ports

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60.0
TIMEOUT_S = 5.0
READY = instance_pb2.INSTANCE_STATE_READY
DRAINING = instance_pb2.INSTANCE_STATE_DRAINING


class Scheduler(SchedulerServiceServicer):
    """A scheduler that has the leases that the test says."""

    def __init__(self) -> None:
        self.lease_count = 0
        self.asked: list[str] = []

    async def DrainInstance(
        self, request: scheduler_service_pb2.DrainInstanceRequest, context: Any
    ) -> scheduler_service_pb2.DrainInstanceResponse:
        self.asked.append(request.instance_id)
        return scheduler_service_pb2.DrainInstanceResponse(lease_count=self.lease_count)


class Metrics(MetricsServiceServicer):
    """A metrics service that shows the load that the test says, and keeps what it is told."""

    def __init__(self) -> None:
        self.held_count = 0
        self.states: list[tuple[str, int]] = []

    async def WatchSnapshots(
        self, request: metrics_service_pb2.WatchSnapshotsRequest, context: Any
    ) -> AsyncIterator[metrics_service_pb2.WatchSnapshotsResponse]:
        while True:
            load = snapshot_pb2.ModelLoad(model="m", held_count=self.held_count)
            yield metrics_service_pb2.WatchSnapshotsResponse(snapshot=snapshot_pb2.Snapshot(models=[load]))
            await asyncio.sleep(0.1)

    async def ReportEvents(
        self, requests: AsyncIterator[metrics_service_pb2.ReportEventsRequest], context: Any
    ) -> metrics_service_pb2.ReportEventsResponse:
        async for request in requests:
            changes = (event.instance.instance for event in request.events)
            self.states += [(change.instance_id, change.state) for change in changes]
        return metrics_service_pb2.ReportEventsResponse()


@dataclass(slots=True)
class Stage:
    """A directory with a configuration, the services around it, and the autoscaler that runs in it."""

    directory: Path
    scheduler: Scheduler
    metrics: Metrics
    peers: dict[str, str]
    address: str = ""
    running: subprocess.Popen[bytes] | None = None
    channel: grpc.aio.Channel | None = None
    api: AutoscalerServiceStub | None = None
    servers: list[Server] = field(default_factory=list)

    def write(self, policy: str = "static", settings: str = "", more: str = "", **model: object) -> None:
        """Writes the configuration: one emulated model `m` with these fields."""
        values = {"name": "m", "launcher": "emulator", **model}
        fields = "\n".join(f"{key} = {json.dumps(value)}" for key, value in values.items())
        (self.directory / "forebay.toml").write_text(
            f'[autoscaler]\npolicy = "{policy}"\nport_base = 0\nstate_dir = "{self.directory}/instances"\n'
            f"tick_s = 0.3\nprobe_s = 0.3\ndrain_quiet_s = 0.5\nbackoff_s_min = 0.2\n{settings}\n"
            f"[[autoscaler.models]]\n{fields}\n{more}"
        )

    async def start(self) -> None:
        """Starts the autoscaler and waits until it answers."""
        # Whoever comes back to the same address leads at once.
        self.address = self.address or f"127.0.0.1:{free_ports(1)[0]}"
        environment = {
            **os.environ,
            "PYTHONPATH": f"{ROOT}/services:{ROOT}/clients/python",
            "FOREBAY_LISTEN": self.address,
            "FOREBAY_PROMETHEUS": "",
            "FOREBAY_DATABASE_URL": f"sqlite:///{self.directory}/forebay.db",
            **self.peers,
        }
        command = [sys.executable, "-m", "forebay.autoscaler", "--config", str(self.directory / "forebay.toml")]
        self.spawn(command, environment)
        self.channel = connect(environment["FOREBAY_LISTEN"])
        self.api = AutoscalerServiceStub(self.channel)
        assert await until(self.answers), self.log()

    def spawn(self, command: list[str], environment: dict[str, str]) -> None:
        with (self.directory / "autoscaler.log").open("ab") as log:
            self.running = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    async def answers(self) -> bool:
        with suppress(grpc.aio.AioRpcError):
            await self.fleet()
            return True
        return False

    async def end(self, number: int = signal.SIGKILL) -> int:
        """Sends the signal and waits for the end."""
        assert self.running is not None
        assert self.channel is not None
        self.running.send_signal(number)
        code = await asyncio.to_thread(self.running.wait, 30)
        await self.channel.close()
        self.running = None
        return code

    async def fleet(self) -> pb.GetFleetResponse:
        assert self.api is not None
        return await self.api.GetFleet(pb.GetFleetRequest(), timeout=TIMEOUT_S)

    async def states(self) -> dict[str, int]:
        return {one.instance_id: one.state for one in (await self.fleet()).instances}

    async def has(self, ready_count: int) -> bool:
        """Whether exactly so many instances are there and ready."""
        return sorted((await self.states()).values()) == [READY] * ready_count

    async def bound(self, fewest: int, most: int, model: str = "m") -> None:
        assert self.api is not None
        bounds = fleet_pb2.Bounds(model=model, instances_min=fewest, instances_max=most)
        request = pb.SetBoundsRequest(bounds=bounds, request_id=os.urandom(8).hex())
        await self.api.SetBounds(request, timeout=TIMEOUT_S)

    def pids(self) -> dict[str, int]:
        """The living processes by server."""
        records = [json.loads(path.read_text()) for path in self.directory.glob("instances/*.json")]
        return {one["instance"]["server_id"]: one["pid"] for one in records if process.identity(one["pid"])}

    def marked(self) -> set[int]:
        """All living processes that were started for this directory, whatever the records say."""
        mark, found = f"{MARK}={self.directory}/instances/".encode(), set()
        for path in Path("/proc").glob("[0-9]*/environ"):
            pid = int(path.parent.name)
            with suppress(OSError):
                found |= {pid} if mark in path.read_bytes() and process.identity(pid) else set()
        return found

    def log(self) -> str:
        return (self.directory / "autoscaler.log").read_text()[-5_000:]

    async def close(self) -> None:
        if self.running is not None:
            await self.end(signal.SIGTERM)
        for pid in self.marked():
            os.kill(pid, signal.SIGKILL)
            process.exit_code(pid)
        for server in self.servers:
            await server.stop(0.1)


async def until(holds: Callable[[], Awaitable[bool]]) -> bool:
    for _ in range(int(PATIENCE_S / 0.1)):
        if await holds():
            return True
        await asyncio.sleep(0.1)
    return False


async def serve(name: str, add: Callable[[Any, Any], None], servicer: object, address: str = "127.0.0.1:0") -> Server:
    server = Server(address, [name], CollectorRegistry())
    add(servicer, server.grpc)
    await server.start()
    return server


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    scheduler, metrics = Scheduler(), Metrics()
    first = await serve("lmaas.scheduler.v1.SchedulerService", add_SchedulerServiceServicer_to_server, scheduler)
    second = await serve("lmaas.metrics.v1.MetricsService", add_MetricsServiceServicer_to_server, metrics)
    peers = {"FOREBAY_SCHEDULER": f"127.0.0.1:{first.port}", "FOREBAY_METRICS": f"127.0.0.1:{second.port}"}
    made = Stage(tmp_path, scheduler, metrics, peers, servers=[first, second])
    yield made
    await made.close()


async def test_instances_outlive_a_killed_autoscaler_and_are_known_again(stage: Stage) -> None:
    stage.write(instances_initial=2)
    await stage.start()
    assert await until(lambda: stage.has(2)), stage.log()
    before, revision = stage.pids(), (await stage.fleet()).instances
    assert await stage.end(signal.SIGKILL) == -signal.SIGKILL
    assert stage.pids() == before
    await stage.start()
    # At once, without a probe: nobody who watches sees an empty fleet.
    assert [one.instance_id for one in (await stage.fleet()).instances] == [one.instance_id for one in revision]
    assert await stage.has(2)
    await asyncio.sleep(1.0)
    assert stage.pids() == before
    assert await stage.end(signal.SIGTERM) == 0
    assert stage.pids() == before


async def test_what_died_while_the_autoscaler_was_away_is_replaced(stage: Stage) -> None:
    stage.write(instances_initial=2)
    await stage.start()
    assert await until(lambda: stage.has(2)), stage.log()
    before = stage.pids()
    await stage.end(signal.SIGKILL)
    os.kill(before["local-1"], signal.SIGKILL)
    await stage.start()
    assert await until(lambda: stage.has(2)), stage.log()
    assert set(stage.pids()) == {"local-2", "local-3"}
    assert stage.pids()["local-2"] == before["local-2"]


async def test_without_its_database_it_takes_in_what_lives(stage: Stage) -> None:
    stage.write(instances_initial=2)
    await stage.start()
    assert await until(lambda: stage.has(2)), stage.log()
    before = stage.pids()
    await stage.end(signal.SIGKILL)
    for path in stage.directory.glob("forebay.db*"):
        path.unlink()
    await stage.start()
    assert await until(lambda: stage.has(2)), stage.log()
    assert stage.pids() == before
    await stage.bound(3, 3)
    assert await until(lambda: stage.has(3)), stage.log()
    assert set(stage.pids()) == {"local-1", "local-2", "local-3"}


async def test_an_instance_that_is_killed_is_replaced(stage: Stage) -> None:
    stage.write(instances_initial=1)
    await stage.start()
    assert await until(lambda: stage.has(1)), stage.log()
    os.kill(stage.pids()["local-1"], signal.SIGKILL)

    async def replaced() -> bool:
        return await stage.states() == {"local-2/m": READY}

    assert await until(replaced), stage.log()


async def test_an_instance_that_hangs_is_avoided_replaced_and_killed(stage: Stage) -> None:
    stage.write(instances_initial=1, settings="lost_timeout_s = 2.0\nstop_grace_s = 0.5\nprobe_timeout_s = 0.3\n")
    await stage.start()
    assert await until(lambda: stage.has(1)), stage.log()
    hung = stage.pids()["local-1"]
    os.kill(hung, signal.SIGSTOP)

    async def avoided() -> bool:
        return (await stage.states()).get("local-1/m") == instance_pb2.INSTANCE_STATE_LOST

    assert await until(avoided), stage.log()

    async def replaced() -> bool:
        return await stage.states() == {"local-2/m": READY}

    assert await until(replaced), stage.log()
    assert not process.identity(hung)


async def test_a_server_that_never_comes_up_is_given_up_and_tried_again(stage: Stage) -> None:
    sleeper = [sys.executable, "-c", "import time; time.sleep(600)"]
    stage.write(launcher="command", command=sleeper, settings="start_timeout_s = 1.0\nstop_grace_s = 1.0\n")
    await stage.start()

    async def tried() -> bool:
        return "local-3" in stage.pids()

    assert await until(tried), stage.log()
    assert len(stage.pids()) <= 2
    log = (stage.directory / "autoscaler.log").read_text()
    assert "instance local-1/m given up: not ready within 1 s" in log
    # Each wait is twice the one before.
    assert "failure 2, the next start waits 0.4 s" in log


async def test_killed_at_any_moment_it_loses_no_process_and_starts_none_twice(stage: Stage) -> None:
    stage.write(instances_initial=2)
    moments = random.Random(7)
    for _ in range(5):
        await stage.start()
        most = moments.randint(1, 3)
        await stage.bound(most, most)
        await asyncio.sleep(moments.uniform(0.0, 1.0))
        await stage.end(signal.SIGKILL)
    await stage.start()
    await stage.bound(2, 2)
    assert await until(lambda: stage.has(2)), stage.log()
    assert len(stage.marked()) == 2
    assert stage.marked() == set(stage.pids().values())


async def test_a_real_triton_is_started_and_stopped(stage: Stage) -> None:
    if not (INSTALLED / "installed.txt").exists():
        pytest.skip(f"no real Triton in {INSTALLED}; `make triton` installs it")
    stage.write(launcher="triton", name="smollm2_short", settings=f'triton_start = "{START}"\n', instances_min=0)
    await stage.start()
    assert await until(lambda: stage.has(1)), stage.log()
    told = (await stage.fleet()).instances[0]
    assert (told.concurrency_max, told.context_tokens_max, told.kv_tokens_max) == (2, 1024, 2048)
    pid = stage.pids()["local-1"]
    await stage.bound(0, 0, "smollm2_short")
    assert await until(lambda: stage.has(0)), stage.log()
    assert not process.identity(pid)


async def test_an_instance_with_a_lease_is_not_stopped_not_even_over_a_restart(stage: Stage) -> None:
    stage.write(instances_initial=2)
    await stage.start()
    assert await until(lambda: stage.has(2)), stage.log()
    before = stage.pids()
    stage.scheduler.lease_count = 1
    await stage.bound(1, 1)

    async def drains() -> bool:
        return sorted((await stage.states()).values()) == [READY, DRAINING] and bool(stage.scheduler.asked)

    assert await until(drains), stage.log()
    await stage.end(signal.SIGKILL)
    await stage.start()
    await asyncio.sleep(2.5)
    assert await drains()
    assert stage.pids() == before
    stage.scheduler.lease_count = 0
    assert await until(lambda: stage.has(1)), stage.log()
    assert len(stage.pids()) == 1


async def test_while_the_scheduler_is_away_nothing_drains_or_is_stopped(stage: Stage) -> None:
    address = f"127.0.0.1:{free_ports(1)[0]}"
    stage.peers["FOREBAY_SCHEDULER"] = address
    stage.write(instances_initial=2)
    await stage.start()
    assert await until(lambda: stage.has(2)), stage.log()
    await stage.bound(1, 1)
    await asyncio.sleep(2.5)
    assert await stage.has(2)
    assert len(stage.pids()) == 2
    stage.servers.append(
        await serve(
            "lmaas.scheduler.v1.SchedulerService", add_SchedulerServiceServicer_to_server, stage.scheduler, address
        )
    )
    assert await until(lambda: stage.has(1)), stage.log()


async def test_while_the_scheduler_is_away_empty_queues_mean_nothing(stage: Stage) -> None:
    stage.write(
        policy="kpa",
        settings="snapshot_age_s_max = 1.0\n[autoscaler.parameters]\nstable_window_s = 2.0\npanic_window_s = 1.0\n",
        instances_initial=1,
        instances_max=2,
        concurrency_target=10.0,
    )
    await stage.start()
    stage.metrics.held_count = 40
    assert await until(lambda: stage.has(2)), stage.log()
    await stage.servers.pop(0).stop(0.0)
    stage.metrics.held_count = 0
    await asyncio.sleep(6.0)
    assert await stage.has(2)


async def test_load_grows_the_fleet_and_silence_of_metrics_holds_it(stage: Stage) -> None:
    stage.write(
        policy="kpa",
        settings="snapshot_age_s_max = 1.0\n[autoscaler.parameters]\nstable_window_s = 3.0\npanic_window_s = 1.0\n",
        instances_initial=1,
        instances_max=2,
        concurrency_target=10.0,
    )
    await stage.start()
    assert await until(lambda: stage.has(1)), stage.log()
    stage.metrics.held_count = 40
    assert await until(lambda: stage.has(2)), stage.log()
    await stage.servers.pop().stop(0.0)
    await asyncio.sleep(5.0)
    assert await stage.has(2)
    assert ("local-1/m", READY) in stage.metrics.states


async def test_models_of_a_running_server_are_found_and_never_stopped(stage: Stage) -> None:
    server = await asyncio.to_thread(start_emulator, "--model", "x", "--available", "y")
    try:
        more = f'[[autoscaler.servers]]\nserver_id = "gpu-1"\ngrpc_address = "{server.grpc_address}"\nmodels_max = 1\n'
        stage.write(instances_initial=0, instances_min=0, more=more)
        await stage.start()

        async def found() -> bool:
            return await stage.states() == {"gpu-1/x": READY}

        assert await until(found), stage.log()
        told = (await stage.fleet()).instances[0]
        assert (told.concurrency_max, told.context_tokens_max) == (256, 8192)
        assert told.kv_tokens_max > 100_000
        await stage.end(signal.SIGTERM)
        assert server.process.poll() is None
    finally:
        await asyncio.to_thread(server.terminate)


async def test_a_model_is_loaded_on_and_unloaded_from_a_running_server(stage: Stage) -> None:
    server = await asyncio.to_thread(start_emulator, "--model", "x", "--available", "m")
    try:
        more = f'[[autoscaler.servers]]\nserver_id = "gpu-1"\ngrpc_address = "{server.grpc_address}"\n'
        stage.write(launcher="repository", servers=["gpu-1"], more=more, instances_min=0)
        await stage.start()

        async def both() -> bool:
            return await stage.states() == {"gpu-1/m": READY, "gpu-1/x": READY}

        assert await until(both), stage.log()
        await stage.end(signal.SIGKILL)
        await stage.start()
        assert await until(both), stage.log()
        await stage.bound(0, 0)

        async def one() -> bool:
            return await stage.states() == {"gpu-1/x": READY}

        assert await until(one), stage.log()
    finally:
        await asyncio.to_thread(server.terminate)


async def test_a_bad_configuration_ends_it_with_one_line(stage: Stage) -> None:
    (stage.directory / "forebay.toml").write_text('[autoscaler]\npolicy = "kpaa"\n')
    command = [sys.executable, "-m", "forebay.autoscaler", "--config", str(stage.directory / "forebay.toml")]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}/services:{ROOT}/clients/python"}
    done = await asyncio.to_thread(
        subprocess.run, command, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert done.stderr == f"error: unknown policy 'kpaa' in [autoscaler]; known: {', '.join(sorted(AUTOSCALERS))}\n"
