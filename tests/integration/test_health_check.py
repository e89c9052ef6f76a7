"""The health check of containers, against real gRPC servers."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from grpc_health.v1 import health_pb2
from prometheus_client import CollectorRegistry

from forebay.wire.server import Server

CHECK = Path(__file__).resolve().parents[2] / "compose" / "health.py"


async def check(port: int) -> tuple[int, str]:
    command = [sys.executable, "-I", "-S", str(CHECK)]
    environment = {"FOREBAY_LISTEN": f"0.0.0.0:{port}"}
    done = await asyncio.to_thread(subprocess.run, command, env=environment, capture_output=True, text=True, timeout=30)
    return done.returncode, done.stdout.strip()


async def test_a_service_that_serves_is_healthy_and_one_that_says_no_is_not() -> None:
    server = Server("127.0.0.1:0", ["some.Service"], CollectorRegistry())
    await server.start()
    assert await check(server.port) == (0, "serving")
    await server.tell_health("", False)
    assert await check(server.port) == (1, f"port {server.port} does not say SERVING")
    await server.stop(0.0)


async def test_where_nothing_listens_nothing_is_healthy() -> None:
    status, said = await check(1)
    assert status == 1
    assert "refused" in said


@pytest.mark.parametrize("status", [health_pb2.HealthCheckResponse.NOT_SERVING, health_pb2.HealthCheckResponse.UNKNOWN])
def test_only_serving_is_serving(status: int) -> None:
    serving = health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING).SerializeToString()
    assert serving == b"\x08\x01"
    assert health_pb2.HealthCheckResponse(status=status).SerializeToString() != serving
