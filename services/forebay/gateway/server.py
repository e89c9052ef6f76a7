"""Both fronts of the gateway as one server: HTTP and gRPC start together and stop together."""

import asyncio
import contextlib
import functools
import gc
import logging
import math
import resource
import socket
from collections.abc import Iterator, Sequence
from typing import Any

import uvicorn
from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp
from tritonclient.grpc import service_pb2_grpc

from forebay.core.errors import ConfigError
from forebay.gateway.door import GrpcDoor, HttpDoor
from forebay.gateway.kserve import NAME, KServe
from forebay.gateway.openai import OpenAi
from forebay.gateway.protocol import BoundedHttp
from forebay.gateway.tenants import NO_KEYS, Keys
from forebay.wire.server import Server
from forebay.wire.tracing import OFF, Tracer

log = logging.getLogger(__name__)

_BACKLOG = 4096


class Fronts(Server):
    """A gRPC server with an HTTP server beside it. Raises ConfigError when an address cannot be bound."""

    def __init__(
        self,
        grpc_address: str,
        http_address: str,
        openai: OpenAi,
        kserve: KServe,
        registry: CollectorRegistry,
        more_names: Sequence[str] = (),
        keys: Keys = NO_KEYS,
        tracer: Tracer = OFF,
    ) -> None:
        doors = [GrpcDoor(keys)] if keys.required else []
        super().__init__(grpc_address, [NAME, *more_names], registry, interceptors=doors, tracer=tracer)
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(kserve, self.grpc)
        self._openai = openai
        self._kserve = kserve
        self._keys = keys
        self._socket = _bind(http_address)
        self._http: _Http | None = None
        self._running: asyncio.Task[None] | None = None

    @property
    def http_port(self) -> int:
        """Where HTTP listens."""
        return int(self._socket.getsockname()[1])

    async def start(self) -> None:
        """Starts to answer on both."""
        connection: Any = functools.partial(BoundedHttp, head_timeout_s=self._openai.body_timeout_s)
        app: ASGIApp = self._openai.app()
        config = uvicorn.Config(
            HttpDoor(app, self._keys) if self._keys.required else app,
            http=connection,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            backlog=_BACKLOG,
            timeout_keep_alive=75,
        )
        self._http = _Http(config)
        self._running = asyncio.create_task(self._http.serve(sockets=[self._socket]))
        await self._http.is_listening.wait()
        await super().start()
        log.info("serving HTTP", extra={"fields": {"port": self.http_port}})

    async def stop(self, grace_s: float) -> None:
        """Takes no new requests on either and gives those in flight `grace_s` to end."""
        self._openai.is_stopping = True
        self._kserve.stop()
        if self._http is not None and self._running is not None:
            # uvicorn reads the grace from its configuration when it stops.
            self._http.config.timeout_graceful_shutdown = max(1, math.ceil(grace_s))
            self._http.should_exit = True
            await asyncio.gather(super().stop(grace_s), self._running)


class _Http(uvicorn.Server):
    """uvicorn without its own signal handling: the composition root decides when to stop."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts to listen."""
        await super().startup(sockets)
        self.is_listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Captures none."""
        yield


def prepare_process() -> None:
    """Makes the process fit for thousands of connections; called once, by the composition root.

    The usual soft limit of open files ends at about a thousand. A full look of the garbage collector stalls all
    streams, with 5,000 of them for a second: it leaves out what is imported and comes seldom, since requests leave few
    cycles behind.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 100)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _bind(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host.strip("[]"), int(port)), family=family, backlog=_BACKLOG)
    except (OSError, ValueError) as error:
        text = f"cannot listen on {address}: {error}; choose another address or stop the owner of the port"
        raise ConfigError(text) from error
