import asyncio

from forebay.wire.timer import Timer


class World:
    """A clock that the test moves, and what the timer did."""

    def __init__(self) -> None:
        self.now_us = 0
        self.rung = 0
        self.timer = Timer(lambda: self.now_us)
        self.timer.callback = self.ring

    def ring(self) -> None:
        self.rung += 1


async def test_a_time_that_is_past_rings_at_once() -> None:
    world = World()
    world.timer.set(-5)
    await asyncio.sleep(0.01)
    assert world.rung == 1


async def test_it_rings_once_and_only_when_the_clock_says_so() -> None:
    world = World()
    world.timer.set(10_000)
    await asyncio.sleep(0.03)
    assert world.rung == 0
    world.now_us = 10_000
    await asyncio.sleep(0.03)
    assert world.rung == 1
    await asyncio.sleep(0.03)
    assert world.rung == 1


async def test_a_new_time_replaces_the_old_one() -> None:
    world = World()
    world.timer.set(0)
    world.timer.set(10**9)
    await asyncio.sleep(0.01)
    assert world.rung == 0
    world.timer.set(0)
    await asyncio.sleep(0.01)
    assert world.rung == 1
