"""A gRPC server as every service runs it: health, reflection, keep-alive, one interceptor, a shutdown that drains."""

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Sequence

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import CollectorRegistry, start_http_server

from forebay.core.errors import ConfigError
from forebay.wire.channel import MESSAGE_BYTES_MAX
from forebay.wire.clock import Clock, now_us
from forebay.wire.interceptors import Guard
from forebay.wire.tracing import OFF, Tracer
from forebay.wire.tracing_calls import TracedCalls

_TRACER_CLOSE_S = 2.0

log = logging.getLogger(__name__)

_OPTIONS = [
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_concurrent_streams", 10_000),
]
PASSING = (("grpc.max_connection_age_ms", 30_000), ("grpc.max_connection_age_grace_ms", 10_000))
"""For a service of short calls: clients connect anew every half a minute, and find replicas that came meanwhile."""


class Server:
    """One listening gRPC server with health and reflection.

    `names` are the full names of its services, such as "lmaas.scheduler.v1.SchedulerService". Raises ConfigError when
    the address cannot be bound. The `interceptors` stand behind our own. The `tracer` is closed with the server, and
    `options` are gRPC's, beside ours.
    """

    def __init__(
        self,
        address: str,
        names: Sequence[str],
        registry: CollectorRegistry,
        clock: Clock = now_us,
        interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
        tracer: Tracer = OFF,
        options: Sequence[tuple[str, int]] = (),
    ) -> None:
        self.tracer = tracer
        more = [*interceptors, *([TracedCalls(tracer)] if tracer.is_on else [])]
        self.grpc = grpc.aio.server(interceptors=[Guard(clock, registry), *more], options=[*_OPTIONS, *options])
        self._names = [*names, ""]
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self.grpc)
        reflection.enable_server_reflection([*names, health.SERVICE_NAME, reflection.SERVICE_NAME], self.grpc)
        self.port = _bind(self.grpc, address)

    async def start(self) -> None:
        """Starts to answer and reports SERVING."""
        await self.grpc.start()
        await self._report(health_pb2.HealthCheckResponse.SERVING)

    async def stop(self, grace_s: float) -> None:
        """Reports NOT_SERVING, takes no new calls, and gives those in flight `grace_s` to end."""
        await self._health.enter_graceful_shutdown()
        await self.grpc.stop(grace_s)

    async def tell_health(self, name: str, is_serving: bool) -> None:
        """Tells of one more name than those of the services; nothing changes once the server stops."""
        kinds = health_pb2.HealthCheckResponse
        await self._health.set(name, kinds.SERVING if is_serving else kinds.NOT_SERVING)

    async def _report(self, status: int) -> None:
        for name in self._names:
            await self._health.set(name, status)


def _bind(server: grpc.aio.Server, address: str) -> int:
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as error:
        raise ConfigError(_taken(address)) from error
    if port == 0:
        raise ConfigError(_taken(address))
    return port


def _taken(address: str) -> str:
    return (
        f"cannot listen on {address}: the port is in use or the address is not local; choose another or stop its owner"
    )


def serve_prometheus(address: str, registry: CollectorRegistry) -> None:
    """Serves the registry's metrics over HTTP on host:port; an empty address means not at all.

    Raises ConfigError when the address cannot be bound.
    """
    if not address:
        return
    host, _, port = address.rpartition(":")
    try:
        start_http_server(int(port), host, registry=registry)
    except OSError as error:
        raise ConfigError(_taken(address)) from error


async def run_until_stopped(
    server: Server,
    loops: Sequence[Awaitable[None]],
    grace_s: float,
    closing: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Serves until SIGTERM or SIGINT, with the loops beside it; a loop that ends with an error ends the server too."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await server.start()
    log.info("serving", extra={"fields": {"port": server.port}})
    tasks = [asyncio.ensure_future(loop) for loop in loops]
    waiting = asyncio.ensure_future(stopped.wait())
    done, _ = await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
    log.info("stopping")
    await server.stop(grace_s)
    if closing is not None:
        await closing()
    await asyncio.to_thread(server.tracer.close, _TRACER_CLOSE_S)
    for task in (waiting, *tasks):
        task.cancel()
    await asyncio.gather(waiting, *tasks, return_exceptions=True)
    for task in done:
        task.result() if task is not waiting else None
