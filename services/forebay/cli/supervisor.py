"""Keeps the processes of a stack alive: starts them, waits until they serve, restarts them, stops them in order."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2

from forebay.core.errors import Unavailable

Say = Callable[[str], None]
HEALTH_TIMEOUT_S = 1.0
POLL_S = 0.1
BACKOFF_S = (0.5, 1.0, 2.0, 5.0, 10.0)
STEADY_S = 30.0
"""A service that ran this long starts again at the shortest back-off."""
LOG_LINES = 12


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """One service: how to start it, where its gRPC health answers, where its output goes."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    health_address: str
    log: Path


def log_tail(log: Path, count: int = LOG_LINES) -> str:
    """The last lines of a log."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        return "(no log)"
    return "\n".join(lines[-count:]) or "(the log is empty)"


async def is_serving(address: str) -> bool:
    """Whether grpc.health.v1 at host:port answers SERVING."""
    async with grpc.aio.insecure_channel(address) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        try:
            answer = await check(health_pb2.HealthCheckRequest(), timeout=HEALTH_TIMEOUT_S)
        except grpc.RpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


class Service:
    """One process that is kept alive until `stop`; `changed` is called whenever its process id changes."""

    def __init__(self, spec: ServiceSpec, say: Say, changed: Callable[[], None]) -> None:
        self.spec = spec
        self._say, self._changed = say, changed
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._started_s = 0.0
        self._failure_count = 0

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def start(self) -> None:
        """Starts the process in a session of its own, so that Ctrl-C reaches the supervisor alone."""
        with self.spec.log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *self.spec.command,
                env={**os.environ, **self.spec.environment},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
        self._started_s = time.monotonic()
        self._changed()

    async def wait_serving(self, timeout_s: float) -> None:
        """Returns once it serves; raises Unavailable with the end of its log when it ends or takes too long."""
        deadline_s = time.monotonic() + timeout_s
        while self.pid is not None:
            if await is_serving(self.spec.health_address):
                return
            if time.monotonic() > deadline_s:
                raise self._failed(f"does not serve on {self.spec.health_address} after {timeout_s:.0f} s")
            await asyncio.sleep(POLL_S)
        raise self._failed("ended while it started")

    def _failed(self, what: str) -> Unavailable:
        tail = log_tail(self.spec.log)
        return Unavailable(f"{self.spec.name} {what}; the end of {self.spec.log}:\n{tail}")

    def keep(self) -> None:
        """Restarts the process from now on whenever it ends."""
        self._keeper = asyncio.create_task(self._keep())

    async def _keep(self) -> None:
        while True:
            assert self._process is not None
            status = await self._process.wait()
            self._changed()
            delay_s = self._backoff_s()
            self._say(f"{self.spec.name} ended ({_ending(status)}); it restarts in {delay_s:g} s, see {self.spec.log}")
            await asyncio.sleep(delay_s)
            await self.start()

    def _backoff_s(self) -> float:
        steady = time.monotonic() - self._started_s > STEADY_S
        self._failure_count = 1 if steady else self._failure_count + 1
        return BACKOFF_S[min(self._failure_count, len(BACKOFF_S)) - 1]

    async def stop(self, grace_s: float) -> None:
        """SIGTERM, and SIGKILL if it is still there after `grace_s`."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        if self._process is None or self._process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), grace_s)
        except TimeoutError:
            self._say(f"{self.spec.name} does not end within {grace_s:.0f} s; killing it")
            self._process.kill()
            await self._process.wait()


def _ending(status: int) -> str:
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
