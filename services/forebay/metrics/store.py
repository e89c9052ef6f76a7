"""The port behind which events are kept, and the adapter that keeps them in memory."""

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count, groupby
from typing import Protocol, TypeAlias

from forebay.core.metrics import Event, InstanceChange, QueueSample, RequestRecord
from forebay.core.values import SloClass, WorkloadPoint

RequestKey: TypeAlias = tuple[int, int]
"""Place of a record in the order of arrival: its arrival in microseconds, then a number of the store."""


@dataclass(frozen=True, slots=True)
class Series:
    """One model's traffic; None and "" mean all classes and all regions together."""

    model: str
    region: str = ""
    slo_class: SloClass | None = None

    def has(self, record: RequestRecord) -> bool:
        """Whether the record is part of the series."""
        return (
            record.model == self.model
            and self.region in ("", record.region)
            and self.slo_class in (None, record.slo_class)
        )


class Store(Protocol):
    """Keeps events. Calls block and may come from several threads; all raise Unavailable when the store is down."""

    def append(self, events: Sequence[Event]) -> int:
        """Keeps the events, all or none, and says how many were new; those with a known id change nothing."""
        ...

    def first_arrival_us(self, series: Series) -> int | None:
        """When the series' first request arrived; None where there is none."""
        ...

    def workload(self, series: Series, window_us: int, start_us: int, end_us: int) -> list[WorkloadPoint]:
        """The requests that arrived in [start_us, end_us) by windows, oldest first, windows without any as zeros.

        Windows start at multiples of `window_us` since 1970; the first is the one that holds `start_us`.
        """
        ...

    def requests(
        self, model: str, start_us: int, before: RequestKey | None, count_max: int
    ) -> list[tuple[RequestKey, RequestRecord]]:
        """Records that arrived at `start_us` or later and stand below `before`, newest first; "" means all models."""
        ...

    def prune(self, before_us: int) -> int:
        """Deletes what happened before; says how many events went."""
        ...


def filled(points: Iterable[WorkloadPoint], window_us: int, start_us: int, end_us: int) -> list[WorkloadPoint]:
    """All windows of [start_us, end_us), oldest first: those in `points`, the others as zeros."""
    known = {point.start_us: point for point in points}
    starts = range(start_us - start_us % window_us, end_us, window_us) if start_us < end_us else ()
    return [known.get(start, WorkloadPoint(start, 0, 0, 0)) for start in starts]


class MemoryStore:
    """Keeps events while the process lives."""

    def __init__(self) -> None:
        self._events: dict[str, tuple[int, Event]] = {}
        self._numbers = count(1)
        self._lock = threading.Lock()

    def append(self, events: Sequence[Event]) -> int:
        """See `Store`."""
        with self._lock:
            known_count = len(self._events)
            for event in events:
                self._events.setdefault(event.event_id, (next(self._numbers), event))
            return len(self._events) - known_count

    def first_arrival_us(self, series: Series) -> int | None:
        """See `Store`."""
        return min((record.arrival_us for _, record in self._records() if series.has(record)), default=None)

    def workload(self, series: Series, window_us: int, start_us: int, end_us: int) -> list[WorkloadPoint]:
        """See `Store`."""
        found = [r for (at, _), r in self._records() if series.has(r) and start_us <= at < end_us]
        windows = groupby(found, lambda record: record.arrival_us - record.arrival_us % window_us)
        return filled((_point(start, list(records)) for start, records in windows), window_us, start_us, end_us)

    def requests(
        self, model: str, start_us: int, before: RequestKey | None, count_max: int
    ) -> list[tuple[RequestKey, RequestRecord]]:
        """See `Store`."""
        found = [
            (key, record)
            for key, record in reversed(self._records())
            if model in ("", record.model) and key[0] >= start_us and (before is None or key < before)
        ]
        return found[:count_max]

    def prune(self, before_us: int) -> int:
        """See `Store`."""
        with self._lock:
            old = [name for name, (_, event) in self._events.items() if _happened_us(event) < before_us]
            for name in old:
                del self._events[name]
            return len(old)

    def _records(self) -> list[tuple[RequestKey, RequestRecord]]:
        with self._lock:
            kept = [(number, event.kind) for number, event in self._events.values()]
        records = [((kind.arrival_us, number), kind) for number, kind in kept if isinstance(kind, RequestRecord)]
        return sorted(records, key=lambda pair: pair[0])


def _happened_us(event: Event) -> int:
    """The time by which an event grows old."""
    if isinstance(event.kind, RequestRecord):
        return event.kind.arrival_us
    if isinstance(event.kind, QueueSample):
        return event.kind.sample_us
    assert isinstance(event.kind, InstanceChange)
    return event.kind.instance.state_us


def _point(start_us: int, records: Sequence[RequestRecord]) -> WorkloadPoint:
    return WorkloadPoint(
        start_us=start_us,
        request_count=len(records),
        prompt_tokens=sum(record.prompt_tokens for record in records),
        response_tokens=sum(record.response_tokens for record in records),
    )
