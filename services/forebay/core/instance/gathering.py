"""Batches that others put together: which of the requests that wait start next, and when."""

from collections.abc import Sequence as Rows

from forebay.core.instance.sequence import EngineRequest, Sequence

BATCH_COUNT_MAX = 4_096
"""Batches whose requests are counted; far more than wait at once."""


class Gathering:
    """Counts the requests of each batch as they come, so that one that was dropped again is not waited for."""

    def __init__(self) -> None:
        self._come: dict[str, int] = {}

    def note(self, request: EngineRequest) -> None:
        """A request has come."""
        batch_id = request.batch.batch_id
        if batch_id:
            self._come[batch_id] = self._come.get(batch_id, 0) + 1
            if len(self._come) > BATCH_COUNT_MAX:
                del self._come[next(iter(self._come))]

    def start_ps(self, waiting: Rows[Sequence], now_ps: int, delay_ps: int) -> int | None:
        """When the next batch starts where none may now; None where one may, or nobody waits."""
        due_ps = [self._due_ps(batch, delay_ps) for batch in _batches(waiting)]
        soonest_ps = min(due_ps, default=now_ps)
        return soonest_ps if soonest_ps > now_ps else None

    def ready(self, waiting: Rows[Sequence], now_ps: int, delay_ps: int) -> list[Sequence]:
        """The batch that starts now: of those that may, the one whose first request ranks first."""
        ready = (batch for batch in _batches(waiting) if self._due_ps(batch, delay_ps) <= now_ps)
        return next(ready, [])

    def _due_ps(self, batch: list[Sequence], delay_ps: int) -> int:
        """From when on the batch may start."""
        first = batch[0]
        batch_id, request_count = first.request.batch
        is_whole = not batch_id or first.part > 1 or self._come.get(batch_id, 0) >= request_count
        return 0 if is_whole else min(row.arrived_ps for row in batch) + delay_ps


def _batches(waiting: Rows[Sequence]) -> list[list[Sequence]]:
    """The batches that wait, by the rank of their first request; halves of one that split are batches of their own."""
    found: dict[tuple[str, str, int], list[Sequence]] = {}
    for row in waiting:
        batch_id = row.request.batch.batch_id
        found.setdefault((batch_id, "" if batch_id else row.request_id, row.part), []).append(row)
    return list(found.values())
