"""A pod's life as Kubernetes runs it: KEDA asks the autoscaler, the pod registers, and leaves only when it is empty."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import grpc
from lmaas.externalscaler import externalscaler_pb2 as keda
from lmaas.externalscaler.externalscaler_pb2_grpc import ExternalScalerStub

from tests.integration.emulated_triton import start_emulator
from tests.integration.real_triton import free_ports
from tests.integration.test_autoscaler_process import DRAINING, ROOT, TIMEOUT_S, Stage, stage, until

__all__ = ["stage"]

REF = keda.ScaledObjectRef(name="llm", namespace="forebay", scalerMetadata={"model": "m"})


def listen(stage: Stage) -> None:
    """The autoscaler keeps its address over a restart, as a Kubernetes service does."""
    stage.peers["FOREBAY_LISTEN"] = f"127.0.0.1:{free_ports(1)[0]}"


def address_of(stage: Stage) -> str:
    """Where the autoscaler listens, also after a restart."""
    return stage.peers["FOREBAY_LISTEN"]


async def asked(stage: Stage) -> tuple[bool, float]:
    """Whether the workload is active, and how many replicas are wanted."""
    assert stage.channel is not None
    stub = ExternalScalerStub(stage.channel)
    active = await stub.IsActive(REF, timeout=TIMEOUT_S)
    metrics = await stub.GetMetrics(keda.GetMetricsRequest(scaledObjectRef=REF), timeout=TIMEOUT_S)
    return active.result, metrics.metricValues[0].metricValueFloat


def sidecar(stage: Stage, address: str, done: Path) -> subprocess.Popen[bytes]:
    """The container that stands beside Triton in the pod."""
    assert stage.channel is not None
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}/services:{ROOT}/clients/python",
        "FOREBAY_AUTOSCALER": address_of(stage),
    }
    options = ["--name", "pod-1", "--model", "m", "--address", address, "--ttl", "3", "--done", str(done)]
    with (stage.directory / "sidecar.log").open("ab") as log:
        command = [sys.executable, "-m", "forebay.autoscaler.register", *options]
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log)


async def test_a_pod_registers_serves_and_leaves_only_when_nothing_is_in_flight(stage: Stage) -> None:
    listen(stage)
    stage.write(launcher="keda", instances_min=0, instances_initial=1)
    await stage.start()
    assert await asked(stage) == (True, 1.0)
    assert await stage.states() == {}
    triton = await asyncio.to_thread(start_emulator, "--model", "m")
    done = stage.directory / "drained"
    beside = sidecar(stage, triton.grpc_address, done)
    try:
        assert await until(lambda: stage.has(1)), stage.log()
        # Kubernetes ends the pod while two requests are in flight on it.
        stage.scheduler.lease_count = 2
        beside.send_signal(signal.SIGTERM)

        async def drains() -> bool:
            return (await stage.states()).get("pod-1/m") == DRAINING

        assert await until(drains)
        await asyncio.sleep(2.0)
        assert not done.exists()
        assert beside.poll() is None
        stage.scheduler.lease_count = 0

        async def is_done() -> bool:
            return done.exists()

        assert await until(is_done), stage.log()
        assert await asyncio.to_thread(beside.wait, 10) == 0
        assert await stage.states() == {}
    finally:
        beside.kill()
        await asyncio.to_thread(beside.wait, 10)
        await asyncio.to_thread(triton.terminate)


async def test_a_registration_outlives_an_autoscaler_that_restarts(stage: Stage) -> None:
    listen(stage)
    stage.write(launcher="keda", instances_min=0, instances_initial=1)
    await stage.start()
    triton = await asyncio.to_thread(start_emulator, "--model", "m")
    beside = sidecar(stage, triton.grpc_address, stage.directory / "drained")
    try:
        assert await until(lambda: stage.has(1)), stage.log()
        await stage.end(signal.SIGKILL)
        for path in stage.directory.glob("forebay.db*"):
            path.unlink()
        await stage.start()
        assert await until(lambda: stage.has(1)), stage.log()
    finally:
        beside.kill()
        await asyncio.to_thread(beside.wait, 10)
        await asyncio.to_thread(triton.terminate)


async def test_waiting_requests_are_pushed_to_keda_at_once(stage: Stage) -> None:
    stage.write(launcher="keda", instances_min=0, instances_initial=0)
    await stage.start()
    assert stage.channel is not None
    call = ExternalScalerStub(stage.channel).StreamIsActive(REF)
    assert not (await asyncio.wait_for(call.read(), TIMEOUT_S)).result
    stage.metrics.held_count = 3
    answer = await asyncio.wait_for(call.read(), 3 * TIMEOUT_S)
    assert answer is not grpc.aio.EOF
    assert answer.result
    call.cancel()


async def test_a_pod_registers_with_the_replica_that_leads_and_follows_it(stage: Stage, tmp_path: Path) -> None:
    listen(stage)
    first = address_of(stage)
    stage.write(launcher="keda", instances_min=0, instances_initial=1, settings="lease_s = 2.0")
    await stage.start()
    other = Stage(stage.directory, stage.scheduler, stage.metrics, dict(stage.peers))
    listen(other)
    await other.start()
    triton = await asyncio.to_thread(start_emulator, "--model", "m")
    # The pod knows the replica that does not lead.
    beside = sidecar(other, triton.grpc_address, tmp_path / "drained")
    try:
        assert await until(lambda: stage.has(1)), other.log()
        assert (await stage.fleet()).leader == first
        assert await asked(other) == (True, 1.0)
        await stage.end(signal.SIGKILL)

        async def leads() -> bool:
            return (await other.fleet()).leader == address_of(other)

        assert await until(leads), other.log()
        assert await until(lambda: other.has(1)), other.log()
        await asyncio.sleep(4.0)
        assert await other.has(1)
    finally:
        beside.kill()
        await asyncio.to_thread(beside.wait, 10)
        await asyncio.to_thread(triton.terminate)
        await other.close()
