"""What is to happen when: timed calls in virtual time."""

import heapq
from collections.abc import Callable
from typing import TypeAlias

Call: TypeAlias = Callable[[], None]

NEVER_PS = 2**62
"""Later than anything, and two of them still fit into an int64: 53 days of picoseconds."""


class Agenda:
    """Calls by time; those of one instant in the order in which they were entered."""

    def __init__(self) -> None:
        self._calls: list[tuple[int, int, Call]] = []
        self._count = 0

    @property
    def next_ps(self) -> int:
        """When the next call is due; NEVER_PS where there is none."""
        return self._calls[0][0] if self._calls else NEVER_PS

    def at(self, at_ps: int, call: Call) -> None:
        """Enters a call."""
        self._count += 1
        heapq.heappush(self._calls, (at_ps, self._count, call))

    def pop(self) -> Call:
        """Takes out the next call."""
        return heapq.heappop(self._calls)[2]
