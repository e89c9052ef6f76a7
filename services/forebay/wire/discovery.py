"""Finds the replicas of a service: the addresses of a list, and all that a name stands for."""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from types import TracebackType

import grpc

from forebay.core.units import US_PER_S
from forebay.wire.channel import NAME_PREFIX, connect
from forebay.wire.clock import Clock

log = logging.getLogger(__name__)

LOOK_S = 1.0
FORGET_US = 120 * US_PER_S
"""How long a replica is kept that its name stands for no more: it may be there, and have leases."""

Resolve = Callable[[str, str], Awaitable[Collection[str]]]


async def resolve(host: str, port: str) -> Collection[str]:
    """The addresses, host:port, that a name stands for; none where nobody knows it now."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
    except OSError:
        return ()
    addresses = sorted({str(one[4][0]) for one in found})
    return [f"[{one}]:{port}" if ":" in one else f"{one}:{port}" for one in addresses]


class Discovery:
    """The replicas that addresses stand for, each with a channel of its own; all of them see the same ones by name.

    `host:port` is one replica. `dns:host:port` is as many as the name has addresses, such as the containers of a
    service or the pods of a headless one: it is looked up for as long as `run` does, and the first time on entering.
    """

    def __init__(
        self,
        addresses: Iterable[str],
        clock: Clock,
        dial: Callable[[str], grpc.aio.Channel] = connect,
        resolve: Resolve = resolve,
    ) -> None:
        given = tuple(dict.fromkeys(addresses))
        self._names = tuple(one.removeprefix(NAME_PREFIX) for one in given if one.startswith(NAME_PREFIX))
        self._clock, self._dial, self._resolve = clock, dial, resolve
        self._channels = {one: dial(one) for one in given if not one.startswith(NAME_PREFIX)}
        self._seen_us: dict[str, int] = {}
        self._leaving: list[grpc.aio.Channel] = []

    @property
    def channels(self) -> Mapping[str, grpc.aio.Channel]:
        """The replicas by address. It changes as they come and go."""
        return self._channels

    async def __aenter__(self) -> "Discovery":
        await self.look()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for channel in (*self._channels.values(), *self._leaving):
            await channel.close()

    async def run(self) -> None:
        """Looks the names up for ever."""
        while True:
            await asyncio.sleep(LOOK_S)
            await self.look()

    async def look(self) -> None:
        """Looks every name up once."""
        for channel in self._leaving:
            await channel.close()
        self._leaving.clear()
        found = await asyncio.gather(*(self._resolve(*_parts(name)) for name in self._names))
        now_us = self._clock()
        for address in sorted({one for addresses in found for one in addresses}):
            self._take(address, now_us)
        for address in [one for one, seen_us in self._seen_us.items() if now_us - seen_us > FORGET_US]:
            log.info("a replica is gone", extra={"fields": {"replica": address}})
            del self._seen_us[address]
            # It is closed with the next look, so that those who use it can let go of it.
            self._leaving.append(self._channels.pop(address))

    def _take(self, address: str, now_us: int) -> None:
        if address in self._channels and address not in self._seen_us:
            # It is in the list as well.
            return
        self._seen_us[address] = now_us
        if address not in self._channels:
            log.info("found a replica", extra={"fields": {"replica": address}})
            self._channels[address] = self._dial(address)


def _parts(name: str) -> tuple[str, str]:
    host, _, port = name.rpartition(":")
    return host.strip("[]"), port
