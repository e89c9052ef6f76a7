"""A real gateway, a real scheduler and emulated Tritons as processes, beside a scripted fleet and metrics service."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
from lmaas.autoscaler.v1 import autoscaler_service_pb2, autoscaler_service_pb2_grpc
from lmaas.common.v1 import instance_pb2
from lmaas.metrics.v1 import event_pb2, metrics_service_pb2_grpc
from lmaas.scheduler.v1 import scheduler_service_pb2
from lmaas.scheduler.v1.scheduler_service_pb2_grpc import SchedulerServiceStub

from forebay.wire.channel import connect
from tests.contract.gateway_stage import FakeMetrics
from tests.integration.emulated_triton import EmulatedTriton, start_emulator
from tests.integration.real_triton import free_ports

ROOT = Path(__file__).resolve().parents[2]
MODEL = "llama"
PROFILE = "H100/Llama-3-8B"
WAIT_S = 60.0
"""Generous: the machine that runs the tests may be busy with other work."""


class FleetServicer(autoscaler_service_pb2_grpc.AutoscalerServiceServicer):
    """A fleet that stays as it is."""

    def __init__(self) -> None:
        self.instances: list[instance_pb2.Instance] = []

    async def WatchFleet(self, request: Any, context: Any) -> AsyncIterator[Any]:
        while True:
            yield autoscaler_service_pb2.WatchFleetResponse(instances=self.instances, revision=1)
            await asyncio.sleep(1)


class Plant:
    """Processes by name, each of which can be killed, frozen and started again on its old address."""

    def __init__(self, folder: Path, gateway_config: str) -> None:
        self._folder = folder
        self._config = folder / "forebay.toml"
        self.configure(gateway_config)
        grpc_port, http_port, scheduler_port, autoscaler_port, metrics_port = free_ports(5)
        self.http_url = f"http://127.0.0.1:{http_port}"
        self.grpc_address = f"127.0.0.1:{grpc_port}"
        self.scheduler_address = f"127.0.0.1:{scheduler_port}"
        self._autoscaler_address, self._metrics_address = (f"127.0.0.1:{p}" for p in (autoscaler_port, metrics_port))
        self._http = f"127.0.0.1:{http_port}"
        self.fleet, self.metrics = FleetServicer(), FakeMetrics()
        self.server = grpc.aio.server()
        autoscaler_service_pb2_grpc.add_AutoscalerServiceServicer_to_server(self.fleet, self.server)
        metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(self.metrics, self.server)
        self.server.add_insecure_port(self._autoscaler_address)
        self.server.add_insecure_port(self._metrics_address)
        self.emulators: list[EmulatedTriton] = []
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def records(self) -> list[event_pb2.RequestRecord]:
        return [one for one in self.metrics.records if one.request_id]

    def add_emulator(self, *arguments: str) -> EmulatedTriton:
        emulator = start_emulator(f"--model={MODEL}={PROFILE}", *arguments)
        number = len(self.emulators)
        self.emulators.append(emulator)
        self.fleet.instances.append(
            instance_pb2.Instance(
                instance_id=f"s{number}/{MODEL}",
                model=MODEL,
                grpc_address=emulator.grpc_address,
                openai_address=emulator.http_address,
                server_id=f"s{number}",
                state="INSTANCE_STATE_READY",
                concurrency_max=64,
                context_tokens_max=8192,
            )
        )
        return emulator

    def configure(self, text: str) -> None:
        """What parts that start from now on read."""
        self._config.write_text(text)

    def start(self, part: str) -> subprocess.Popen[bytes]:
        listen = {"gateway": self.grpc_address, "scheduler": self.scheduler_address}[part]
        environment = {
            **os.environ,
            "PYTHONPATH": f"{ROOT / 'services'}:{ROOT / 'clients' / 'python'}",
            "FOREBAY_LISTEN": listen,
            "FOREBAY_HTTP": self._http,
            "FOREBAY_PROMETHEUS": "",
            "FOREBAY_SCHEDULER": self.scheduler_address,
            "FOREBAY_AUTOSCALER": self._autoscaler_address,
            "FOREBAY_METRICS": self._metrics_address,
            "FOREBAY_PREDICTOR": "127.0.0.1:1",
        }
        with self.log(part).open("ab") as output:
            command = [sys.executable, "-m", f"forebay.{part}", "--config", str(self._config)]
            process = subprocess.Popen(command, env=environment, stderr=output, stdout=output)
        self.processes[part] = process
        return process

    def log(self, part: str) -> Path:
        return self._folder / f"{part}.log"

    def stop(self, process: subprocess.Popen[bytes]) -> int:
        """SIGTERM, then SIGKILL for a process that does not go."""
        process.terminate()
        try:
            return process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    async def ready(self, scheduler: str) -> None:
        """Waits until the gateway is ready and sees the scheduler as said: "linked" or "down"."""
        async with httpx.AsyncClient(timeout=5) as http:

            async def is_so() -> bool:
                try:
                    told = (await http.get(f"{self.http_url}/readyz")).json()
                except httpx.TransportError:
                    return False
                return bool(told.get("scheduler") == scheduler)

            await self.until(is_so, f"a gateway with its scheduler {scheduler}")

    async def leases(self) -> list[Any]:
        async with connect(self.scheduler_address) as channel:
            request = scheduler_service_pb2.ListLeasesRequest()
            return list((await SchedulerServiceStub(channel).ListLeases(request, timeout=10)).leases)

    async def until(self, condition: Callable[[], Any], what: str) -> None:
        """Waits until a condition, plain or asynchronous, holds."""
        try:
            async with asyncio.timeout(WAIT_S):
                while True:
                    held = condition()
                    if await held if asyncio.iscoroutine(held) else held:
                        return
                    await asyncio.sleep(0.05)
        except TimeoutError:
            logs = "\n".join(self.log(part).read_text()[-2000:] for part in self.processes)
            raise AssertionError(f"{what} did not come true within {WAIT_S:g} s; logs:\n{logs}") from None


@asynccontextmanager
async def planted(
    folder: Path,
    *,
    emulator_count: int = 2,
    gateway_config: str = "",
    arguments: tuple[str, ...] = (),
    headers: Mapping[str, str] | None = None,
) -> AsyncIterator[Plant]:
    """Everything started and linked; everything ended at the end."""
    plant = Plant(folder, gateway_config)
    try:
        for _ in range(emulator_count):
            plant.add_emulator(*arguments)
        await plant.server.start()
        plant.start("scheduler")
        plant.start("gateway")
        await plant.ready("linked")
        async with httpx.AsyncClient(timeout=5, headers=headers) as http:

            async def has_model() -> bool:
                return bool((await http.get(f"{plant.http_url}/v1/models")).json()["data"])

            await plant.until(has_model, "a gateway that knows the model")
        yield plant
    finally:
        for process in plant.processes.values():
            process.kill()
            process.wait()
        for emulator in plant.emulators:
            emulator.process.kill()
            emulator.terminate()
        await plant.server.stop(0)
