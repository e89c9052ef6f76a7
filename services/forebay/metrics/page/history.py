"""The traffic of the last minutes by model, read from the store little by little."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from forebay.core.values import WorkloadPoint
from forebay.metrics.page.series import TRAFFIC_SPAN_US, TRAFFIC_WINDOW_US
from forebay.metrics.store import Series, Store

AGAIN_US = 12 * TRAFFIC_WINDOW_US
"""What began so lately is read again: requests are counted when they end, in the window in which they came."""
MODEL_COUNT_MAX = 40


class History:
    """Points by model, oldest first; the window that is not over is left out."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._points: dict[str, dict[int, WorkloadPoint]] = {}
        self._read_us = 0

    async def read(self, models: Iterable[str], now_us: int) -> None:
        """Reads what is new. Raises Unavailable when the store is down."""
        end_us = now_us - now_us % TRAFFIC_WINDOW_US
        oldest_us = end_us - TRAFFIC_SPAN_US
        # After a pause more is missing than the newest windows.
        last_us = min(self._read_us, end_us) - AGAIN_US
        for name in sorted(models)[:MODEL_COUNT_MAX]:
            start_us = max(oldest_us, last_us) if name in self._points else oldest_us
            found = await asyncio.to_thread(self._store.workload, Series(name), TRAFFIC_WINDOW_US, start_us, end_us)
            known = self._points.setdefault(name, {})
            known.update({point.start_us: point for point in found})
            for at_us in [at_us for at_us in known if at_us < oldest_us]:
                del known[at_us]
        self._read_us = end_us

    def points(self) -> Mapping[str, Sequence[WorkloadPoint]]:
        """What has been read, from the first window with traffic on; models without any are left out."""
        return {name: found for name, known in self._points.items() if (found := _begun(known))}


def _begun(known: Mapping[int, WorkloadPoint]) -> list[WorkloadPoint]:
    points = [known[at_us] for at_us in sorted(known)]
    first = next((index for index, point in enumerate(points) if point.request_count), len(points))
    return points[max(0, first - 1) :]
