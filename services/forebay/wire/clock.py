"""The one place that reads the clock; shells take a `Clock` and engines take its integers."""

import time
from collections.abc import Callable
from typing import TypeAlias

Clock: TypeAlias = Callable[[], int]
"""Gives the time in microseconds since 1970."""


def now_us() -> int:
    """The wall clock in microseconds since 1970."""
    return time.time_ns() // 1_000
