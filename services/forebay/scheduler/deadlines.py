"""Due times by key, the earliest first."""

import heapq

NEVER_US = 2**62
"""Later than anything."""


class Deadlines:
    """Keys with the time at which they are due; moving one later or dropping it costs nothing until it surfaces.

    `soonest_us` is at no cost what `next_us` is at most: nothing is due before it.
    """

    def __init__(self) -> None:
        self.soonest_us = NEVER_US
        self._at_us: dict[str, int] = {}
        self._heap: list[tuple[int, str]] = []

    def set(self, key: str, at_us: int) -> None:
        """Sets or moves the due time of `key`."""
        known = self._at_us.get(key)
        self._at_us[key] = at_us
        if known is None or at_us < known:
            heapq.heappush(self._heap, (at_us, key))
            if at_us < self.soonest_us:
                self.soonest_us = at_us

    def drop(self, key: str) -> None:
        """Forgets `key`, known or not."""
        self._at_us.pop(key, None)

    def next_us(self) -> int:
        """The earliest due time; NEVER_US when nothing is due ever."""
        self._settle()
        self.soonest_us = self._heap[0][0] if self._heap else NEVER_US
        return self.soonest_us

    def due(self, now_us: int) -> list[str]:
        """Takes out the keys that are due at `now_us`, the earliest first."""
        keys = []
        while self.next_us() <= now_us:
            _, key = heapq.heappop(self._heap)
            del self._at_us[key]
            keys.append(key)
        return keys

    def _settle(self) -> None:
        """Brings the top of the heap up to date: entries that were dropped go, those that were moved sink."""
        while self._heap:
            at_us, key = self._heap[0]
            current = self._at_us.get(key)
            if current == at_us:
                return
            heapq.heappop(self._heap)
            if current is not None and current > at_us:
                heapq.heappush(self._heap, (current, key))
