"""How the clients reach servers: TLS, interceptors, traces."""

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from lmaas.autoscaler.v1 import autoscaler_service_pb2
from lmaas.autoscaler.v1.autoscaler_service_pb2_grpc import (
    AutoscalerServiceServicer,
    add_AutoscalerServiceServicer_to_server,
)

from lmaas_client import Addresses, AsyncClient, Client, ForebayError, Tls

trace = pytest.importorskip("opentelemetry.trace", reason="opentelemetry-api is missing; run: make dev")


class FakeAutoscaler(AutoscalerServiceServicer):
    """Names its policy; keeps the headers of the last call."""

    def __init__(self) -> None:
        self.headers: dict[str, Any] = {}

    async def GetFleet(  # type: ignore[override]
        self, request: autoscaler_service_pb2.GetFleetRequest, context: Any
    ) -> Any:
        self.headers = dict(context.invocation_metadata())
        return autoscaler_service_pb2.GetFleetResponse(policy="kpa")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """A key and its certificate, for localhost."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is missing; run: sudo apt-get install openssl")
    folder: Path = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "key.pem", folder / "cert.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    files = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command.split(), *files], check=True, capture_output=True, timeout=60)
    return key.read_bytes(), certificate.read_bytes()


@pytest.fixture
def autoscaler() -> FakeAutoscaler:
    return FakeAutoscaler()


@pytest.fixture
async def server(autoscaler: FakeAutoscaler) -> AsyncIterator[grpc.aio.Server]:
    made = grpc.aio.server()
    add_AutoscalerServiceServicer_to_server(autoscaler, made)
    yield made
    await made.stop(0)


async def test_tls_with_roots_of_ones_own_and_none_without_them(
    server: grpc.aio.Server, pair: tuple[bytes, bytes]
) -> None:
    port = server.add_secure_port("localhost:0", grpc.ssl_server_credentials([pair]))
    await server.start()
    addresses = Addresses(autoscaler=f"localhost:{port}")
    trusting = Tls(roots=pair[1])
    async with AsyncClient(addresses, tls=trusting) as client:
        assert (await client.fleet()).policy == "kpa"
    assert await asyncio.to_thread(policy_seen, addresses, trusting) == "kpa"
    async with AsyncClient(addresses, timeout_s=5, tls=Tls()) as client:
        with pytest.raises(ForebayError) as caught:
            await client.fleet()
    assert caught.value.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


def policy_seen(addresses: Addresses, tls: Tls) -> str:
    with Client(addresses, tls=tls) as client:
        return client.fleet().policy


class Naming(grpc.aio.UnaryUnaryClientInterceptor):
    """Adds a header."""

    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        assert client_call_details.metadata is None or "x-name" not in client_call_details.metadata
        metadata = grpc.aio.Metadata(("x-name", "mine"))
        return await continuation(client_call_details._replace(metadata=metadata), request)


class BlockingNaming(grpc.UnaryUnaryClientInterceptor):
    """The same, blocking."""

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return continuation(client_call_details._replace(metadata=[("x-name", "mine")]), request)


async def test_interceptors_of_the_callers_see_every_call(server: grpc.aio.Server, autoscaler: FakeAutoscaler) -> None:
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    addresses = Addresses(autoscaler=f"127.0.0.1:{port}")
    async with AsyncClient(addresses, interceptors=[Naming()]) as client:
        await client.fleet()
    assert autoscaler.headers["x-name"] == "mine"
    autoscaler.headers = {}

    def use() -> None:
        with Client(addresses, interceptors=[BlockingNaming()]) as client:
            client.fleet()

    await asyncio.to_thread(use)
    assert autoscaler.headers["x-name"] == "mine"


@contextmanager
def caller_in_a_trace() -> Iterator[str]:
    """A span that is not recorded here, as one that came from elsewhere is; gives its trace's id."""
    context = trace.SpanContext(0xABC, 0xDEF, is_remote=True, trace_flags=trace.TraceFlags(1))
    with trace.use_span(trace.NonRecordingSpan(context)):
        yield f"{0xABC:032x}"


async def test_a_call_carries_the_callers_trace(server: grpc.aio.Server, autoscaler: FakeAutoscaler) -> None:
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    addresses = Addresses(autoscaler=f"127.0.0.1:{port}")
    with caller_in_a_trace() as trace_id:
        async with AsyncClient(addresses) as client:
            await client.fleet()
        assert autoscaler.headers["traceparent"].startswith(f"00-{trace_id}-")
        autoscaler.headers = {}

        def use() -> None:
            with Client(addresses) as client:
                client.fleet()

        await asyncio.to_thread(use)
        assert autoscaler.headers["traceparent"].startswith(f"00-{trace_id}-")
