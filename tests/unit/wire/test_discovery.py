from collections.abc import Collection
from typing import Any

import pytest

from forebay.wire.discovery import FORGET_US, Discovery, resolve


class Line:
    """A channel that knows whether it is open."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.is_open = True

    async def close(self) -> None:
        self.is_open = False


class Names:
    """What each name stands for; the time that discovery is told."""

    def __init__(self, **names: list[str]) -> None:
        self.names = names
        self.time_us = 0
        self.dialled: list[str] = []

    def dial(self, address: str) -> Any:
        self.dialled.append(address)
        return Line(address)

    async def resolve(self, host: str, port: str) -> Collection[str]:
        return [f"{one}:{port}" for one in self.names.get(host, [])]

    def discovery(self, *addresses: str) -> Discovery:
        return Discovery(addresses, lambda: self.time_us, self.dial, self.resolve)


async def test_addresses_are_replicas_as_they_stand() -> None:
    async with Names().discovery("b:1", "a:1", "b:1") as found:
        assert list(found.channels) == ["b:1", "a:1"]


async def test_a_name_stands_for_all_its_addresses() -> None:
    async with Names(s=["10.0.0.2", "10.0.0.1"]).discovery("dns:s:7101", "a:1") as found:
        assert sorted(found.channels) == ["10.0.0.1:7101", "10.0.0.2:7101", "a:1"]


async def test_replicas_that_come_are_found_and_known_ones_keep_their_channels() -> None:
    names = Names(s=["10.0.0.1"])
    async with names.discovery("dns:s:1") as found:
        seen, first = found.channels, dict(found.channels)
        names.names["s"] = ["10.0.0.1", "10.0.0.2"]
        await found.look()
        assert list(seen) == ["10.0.0.1:1", "10.0.0.2:1"], "who holds the mapping sees what comes"
        assert seen["10.0.0.1:1"] is first["10.0.0.1:1"]
        assert names.dialled == ["10.0.0.1:1", "10.0.0.2:1"]


async def test_a_replica_is_kept_for_a_while_after_its_name_stands_for_it_no_more() -> None:
    names = Names(s=["10.0.0.1", "10.0.0.2"])
    async with names.discovery("dns:s:1") as found:
        gone: Any = found.channels["10.0.0.1:1"]
        names.names["s"] = ["10.0.0.2"]
        names.time_us = FORGET_US
        await found.look()
        assert len(found.channels) == 2
        names.time_us += 1
        await found.look()
        assert list(found.channels) == ["10.0.0.2:1"]
        assert gone.is_open, "others may still use it"
        await found.look()
        assert not gone.is_open


async def test_nobody_is_forgotten_because_names_are_not_answered_for_a_moment() -> None:
    names = Names(s=["10.0.0.1"])
    async with names.discovery("dns:s:1") as found:
        del names.names["s"]
        names.time_us = FORGET_US
        await found.look()
        names.names["s"] = ["10.0.0.1"]
        await found.look()
        names.time_us *= 2
        await found.look()
        assert list(found.channels) == ["10.0.0.1:1"]


async def test_an_address_in_the_list_stays_whatever_a_name_stands_for() -> None:
    names = Names(s=["10.0.0.1"])
    async with names.discovery("10.0.0.1:1", "dns:s:1") as found:
        names.names["s"] = []
        names.time_us = 2 * FORGET_US
        await found.look()
        assert list(found.channels) == ["10.0.0.1:1"]
        assert names.dialled == ["10.0.0.1:1"]


async def test_all_channels_are_closed_at_the_end() -> None:
    async with Names(s=["10.0.0.1"]).discovery("dns:s:1", "a:1") as found:
        lines: list[Any] = list(found.channels.values())
    assert [one.is_open for one in lines] == [False, False]


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
async def test_addresses_resolve_to_themselves(host: str) -> None:
    assert await resolve(host.strip("[]"), "80") == [f"{host}:80"]


async def test_a_name_that_nobody_knows_stands_for_nobody() -> None:
    assert await resolve("nobody.invalid", "80") == ()
