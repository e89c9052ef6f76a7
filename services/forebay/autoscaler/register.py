"""Registers an instance that somebody else started, and lets it leave only when it is empty.

`python -m forebay.autoscaler.register` runs beside a Triton, such as in its pod: it registers the model, sends
heartbeats, and on SIGTERM has the instance drained, writes the file `--done`, and ends. Whoever ends the server waits
for that file first, so that no request in flight is lost. Where a container has one process, that is this one: given
the server's COMMAND, it starts it first and ends it last, and ends when it does.
"""

import asyncio
import logging
import signal
import socket
import uuid
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import click
import grpc
from lmaas.autoscaler.v1 import autoscaler_service_pb2 as pb
from lmaas.autoscaler.v1.autoscaler_service_pb2_grpc import AutoscalerServiceStub

from forebay.core.errors import ConfigError
from forebay.core.units import US_PER_S
from forebay.core.values import Instance, InstanceRole
from forebay.wire.channel import connect
from forebay.wire.convert import duration, instance_to_proto
from forebay.wire.main import Environment, environment, run

log = logging.getLogger(__name__)

CALL_TIMEOUT_S = 3.0
HEARTBEATS_PER_TTL = 3
RETRY_S = 1.0
GRPC_PORT = 8001
"""Triton's own default."""


class Leader:
    """The autoscaler that leads, found by asking any replica at `address`."""

    def __init__(self, address: str) -> None:
        self._door = connect(address)
        self._channel = self._door
        self._address = address

    @property
    def stub(self) -> Any:
        """Where to ask now."""
        return AutoscalerServiceStub(self._channel)

    async def find(self) -> None:
        """Asks who leads; where nobody answers it stays with the one that was known."""
        try:
            request = pb.GetFleetRequest()
            answer: Any = await AutoscalerServiceStub(self._door).GetFleet(request, timeout=CALL_TIMEOUT_S)
        except grpc.aio.AioRpcError:
            return
        if answer.leader and answer.leader != self._address:
            await self._forget()
            self._channel, self._address = connect(answer.leader), answer.leader

    async def close(self) -> None:
        """Closes the connections."""
        await self._forget()
        await self._door.close()

    async def _forget(self) -> None:
        if self._channel is not self._door:
            await self._channel.close()


class Registration:
    """Keeps one instance registered; a registration that the autoscaler has lost is made again."""

    def __init__(self, leader: Leader, instance: Instance, ttl_s: float) -> None:
        self._leader = leader
        self._instance = instance
        self._ttl_s = ttl_s

    async def hold(self, leaving: asyncio.Event) -> None:
        """Registers and sends heartbeats until `leaving`."""
        known = False
        while not leaving.is_set():
            code = await self._code(self._renewed() if known else self._registered())
            known = code is grpc.StatusCode.OK or (known and code is not grpc.StatusCode.NOT_FOUND)
            wait_s = self._ttl_s / HEARTBEATS_PER_TTL if code is grpc.StatusCode.OK else RETRY_S
            waiting = asyncio.ensure_future(leaving.wait())
            await asyncio.wait([waiting], timeout=wait_s)
            waiting.cancel()

    async def leave(self, timeout_s: float) -> bool:
        """Has the instance drained and returns True once it is empty and forgotten; False when that took too long."""
        for _ in range(int(timeout_s / RETRY_S) + 1):
            # Asked again and again: the autoscaler may be away, and may have restarted in between.
            if await self._code(self._deregistered()) is grpc.StatusCode.NOT_FOUND:
                return True
            await self._code(self._renewed())
            await asyncio.sleep(RETRY_S)
        return False

    def _registered(self) -> Awaitable[Any]:
        request = pb.RegisterInstanceRequest(
            instance=instance_to_proto(self._instance),
            ttl=duration(round(self._ttl_s * US_PER_S)),
            request_id=uuid.uuid4().hex,
        )
        call: Awaitable[Any] = self._leader.stub.RegisterInstance(request, timeout=CALL_TIMEOUT_S)
        return call

    def _deregistered(self) -> Awaitable[Any]:
        name = self._instance.instance_id
        request = pb.DeregisterInstanceRequest(instance_id=name, request_id=uuid.uuid4().hex)
        call: Awaitable[Any] = self._leader.stub.DeregisterInstance(request, timeout=CALL_TIMEOUT_S)
        return call

    def _renewed(self) -> Awaitable[Any]:
        request = pb.HeartbeatInstanceRequest(instance_id=self._instance.instance_id)
        call: Awaitable[Any] = self._leader.stub.HeartbeatInstance(request, timeout=CALL_TIMEOUT_S)
        return call

    async def _code(self, call: Awaitable[Any]) -> grpc.StatusCode:
        try:
            await call
        except grpc.aio.AioRpcError as error:
            fields = {"code": error.code().name, "error": error.details()}
            log.warning("the autoscaler refuses", extra={"fields": fields})
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                await self._leader.find()
            return error.code()
        return grpc.StatusCode.OK


@click.command()
@click.option(
    "--name", default=socket.gethostname, help="Name of the server, unique in the fleet. Default: the host's."
)
@click.option("--model", required=True, help="The model that the server serves.")
@click.option("--pool", default="", help="The pool it belongs to. Default: the first one of the model.")
@click.option("--region", default="local", help="Where it stands.")
@click.option("--role", default="mixed", type=click.Choice([role.name.lower() for role in InstanceRole]))
@click.option("--address", default="", help="Triton's gRPC address as others reach it. Default: the host's name, 8001.")
@click.option("--metrics-url", default="", help="Triton's metrics as others reach them.")
@click.option("--metrics-port", default=0, help="The same on this host, by its name.")
@click.option("--openai-address", default="", help="Where it speaks OpenAI's HTTP protocol, host:port, if it does.")
@click.option("--openai-port", default=0, help="The same on this host, by its name.")
@click.option("--ttl", "ttl_s", default=15.0, help="Seconds without a heartbeat until it counts as lost.")
@click.option("--drain-timeout", "drain_s", default=600.0, help="Longest wait for requests in flight, in seconds.")
@click.option("--done", type=click.Path(path_type=Path), help="File to write when nothing is in flight any more.")
@click.argument("command", nargs=-1)
def main(
    name: str,
    model: str,
    pool: str,
    region: str,
    role: str,
    address: str,
    metrics_url: str,
    metrics_port: int,
    openai_address: str,
    openai_port: int,
    ttl_s: float,
    drain_s: float,
    done: Path | None,
    command: tuple[str, ...],
) -> None:
    """Registers a server with the autoscaler at FOREBAY_AUTOSCALER until it is told to stop, then drains it.

    With `-- COMMAND` it starts that server itself and ends it when it is empty.
    """
    host = socket.gethostname()
    address = address or f"{host}:{GRPC_PORT}"
    metrics_url = metrics_url or (f"http://{host}:{metrics_port}/metrics" if metrics_port else "")
    openai_address = openai_address or (f"{host}:{openai_port}" if openai_port else "")
    instance = Instance(
        f"{name}/{model}",
        model,
        address,
        name,
        metrics_url,
        region=region,
        role=InstanceRole[role.upper()],
        pool=pool,
        openai_address=openai_address,
    )
    env = environment("")

    async def served() -> None:
        async with started(command) as ended:
            await serve(instance, env, ttl_s, drain_s, done, ended)

    run(served, env)


@asynccontextmanager
async def started(command: Sequence[str]) -> AsyncIterator[asyncio.Event]:
    """A server, if there is one to start, for as long as the block lasts. The event is set when it ends by itself.

    Raises ConfigError where it ends with an error, and where there is no such program.
    """
    ended = asyncio.Event()
    if not command:
        yield ended
        return
    try:
        # In a session of its own, so that the terminal's Ctrl-C does not end it before it is drained.
        process = await asyncio.create_subprocess_exec(*command, start_new_session=True)
    except OSError as error:
        raise ConfigError(f"cannot start {command[0]}: {error.strerror}") from error
    waiting = asyncio.create_task(process.wait())
    waiting.add_done_callback(lambda _: ended.set())
    try:
        yield ended
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        status = await waiting
    if status:
        raise ConfigError(f"{command[0]} ended with status {status}")


async def serve(
    instance: Instance, env: Environment, ttl_s: float, drain_s: float, done: Path | None, ended: asyncio.Event
) -> None:
    """Holds the registration until SIGTERM or SIGINT, then lets the instance leave; one that `ended` has left."""
    leaving = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, leaving.set)
    watching = asyncio.create_task(ended.wait())
    watching.add_done_callback(lambda _: leaving.set())
    leader = Leader(env.autoscaler)
    registration = Registration(leader, instance, ttl_s)
    await registration.hold(leaving)
    watching.cancel()
    if ended.is_set():
        log.error("the server ended by itself", extra={"fields": {"instance_id": instance.instance_id}})
    elif not await registration.leave(drain_s):
        log.error("not drained in time", extra={"fields": {"instance_id": instance.instance_id}})
    await leader.close()
    if done is not None:
        await asyncio.to_thread(done.touch)


if __name__ == "__main__":
    main()
