"""The endpoints of instances: IP address and port, which is all that a proxy takes, by the names that they have."""

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Collection, Iterable

from forebay.core.units import US_PER_S
from forebay.core.values import Instance
from forebay.wire.clock import Clock

log = logging.getLogger(__name__)

_KNOWN_COUNT_MAX = 10_000
_RESOLVE_TIMEOUT_S = 2.0


class Endpoints:
    """Finds endpoints, and remembers what names stand for."""

    def __init__(self, remember_s: float, clock: Clock) -> None:
        self._remember_us = int(remember_s * US_PER_S)
        self._clock = clock
        self._known: dict[str, tuple[str, int]] = {}

    async def of(self, address: str) -> str:
        """The endpoint of host:port; empty for no address and for a name that stands for nothing."""
        known = self._known.get(address)
        if known is not None and self._clock() < known[1]:
            return known[0]
        host, _, port = address.rpartition(":")
        if not host:
            return ""
        if len(self._known) >= _KNOWN_COUNT_MAX:
            self._known.clear()
        found = await _endpoint(host.strip("[]"), port)
        self._known[address] = (found, self._clock() + self._remember_us)
        return found

    def seen(self, address: str) -> str:
        """The endpoint that host:port had when it was asked for last; empty where nobody asked."""
        return self._known[address][0] if address in self._known else ""

    async def unfit(self, instances: Iterable[Instance], subset: Collection[str] | None) -> frozenset[str]:
        """The ids of those instances that a proxy cannot send to, or must not."""
        unfit = set()
        for one in instances:
            endpoint = await self.of(one.openai_address)
            if not endpoint or (subset is not None and endpoint not in subset):
                unfit.add(one.instance_id)
        return frozenset(unfit)


async def _endpoint(host: str, port: str) -> str:
    try:
        return _written(ipaddress.ip_address(host), port)
    except ValueError:
        pass
    try:
        async with asyncio.timeout(_RESOLVE_TIMEOUT_S):
            found = await asyncio.get_running_loop().getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
    except (OSError, ValueError, TimeoutError) as error:
        log.warning(
            "a name of an instance stands for no address", extra={"fields": {"host": host, "error": str(error)}}
        )
        return ""
    # Where a name has both, IPv4 comes first: most fleets have no IPv6 inside.
    addresses = sorted((ipaddress.ip_address(one[4][0]) for one in found), key=lambda one: one.version)
    return _written(addresses[0], port)


def _written(address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: str) -> str:
    return f"{address}:{port}" if address.version == 4 else f"[{address}]:{port}"
