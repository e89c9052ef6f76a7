"""Wakes a shell at the time that its engine wants to be woken."""

import asyncio
from collections.abc import Callable

from forebay.core.units import US_PER_S
from forebay.wire.clock import Clock

SLEEP_MAX_S = 1.0


class Timer:
    """Calls back at a time of the clock; it looks at least each second, so a clock that is set does not fool it."""

    def __init__(self, clock: Clock) -> None:
        self.callback: Callable[[], None] = lambda: None
        self._clock = clock
        self._at_us = 0
        self._handle: asyncio.TimerHandle | None = None

    def set(self, at_us: int) -> None:
        """Calls back at this time instead of the one before."""
        if self._handle is not None:
            self._handle.cancel()
        self._at_us = at_us
        delay_s = min(max((at_us - self._clock()) / US_PER_S, 0.0), SLEEP_MAX_S)
        self._handle = asyncio.get_running_loop().call_later(delay_s, self._ring)

    def cancel(self) -> None:
        """Calls back no more."""
        if self._handle is not None:
            self._handle.cancel()

    def _ring(self) -> None:
        self._handle = None
        if self._clock() < self._at_us:
            self.set(self._at_us)
        else:
            self.callback()
