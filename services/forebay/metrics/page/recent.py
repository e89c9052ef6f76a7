"""What lately ended, bounded: answers beside their predictions, promises kept by class, the pace of each instance."""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from forebay.core.metrics import RequestRecord, RequestStatus
from forebay.core.promises import Promise
from forebay.core.units import US_PER_S
from forebay.core.values import SloClass

RECORD_COUNT_MAX = 400
BUCKET_US = 10 * US_PER_S
HISTORY_US = 900 * US_PER_S
"""How far back the promises are told."""
PACE_SHARE = 0.1
"""How much of an instance's pace is that of its newest answer."""
INSTANCE_COUNT_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Numbered:
    """A record with its number: they grow by one."""

    number: int
    record: RequestRecord


class Recent:
    """Takes every record that comes; each costs a few microseconds. Not thread-safe."""

    def __init__(self, promises: Mapping[SloClass, Promise]) -> None:
        self.promises = promises
        self._count = 0
        self._records: deque[Numbered] = deque(maxlen=RECORD_COUNT_MAX)
        self._kept: dict[tuple[SloClass, int], list[int]] = {}
        self._paces_us: dict[str, float] = {}

    def observe(self, record: RequestRecord) -> None:
        """Takes a record."""
        self._count += 1
        self._records.append(Numbered(self._count, record))
        kept = keeps(record, self.promises[record.slo_class])
        if kept is not None:
            bucket = self._kept.setdefault((record.slo_class, record.end_us // BUCKET_US), [0, 0])
            bucket[0] += kept
            bucket[1] += 1
        pace_us = token_time_us(record)
        if pace_us is not None:
            for name in (record.instance_id, record.model):
                self._note_pace(name, pace_us)

    def begin_with(self, records: Iterable[RequestRecord]) -> None:
        """Takes records that were there before, newest first; nothing where some have come since."""
        if not self._count:
            for record in reversed(list(records)):
                self.observe(record)

    def records(self) -> list[Numbered]:
        """The newest records, oldest first."""
        return list(self._records)

    def attainment(self, now_us: int) -> Mapping[tuple[SloClass, int], tuple[int, int]]:
        """Requests that were kept their promise and all that ended, by class and start of a bucket in microseconds."""
        oldest = (now_us - HISTORY_US) // BUCKET_US
        for key in [key for key in self._kept if key[1] < oldest]:
            del self._kept[key]
        return {(name, index * BUCKET_US): (kept, total) for (name, index), (kept, total) in self._kept.items()}

    def pace_us(self, instance_id: str, model: str) -> float | None:
        """The time between two tokens of an instance, else of its model; None where nothing has been seen."""
        return self._paces_us.get(instance_id, self._paces_us.get(model))

    def _note_pace(self, name: str, pace_us: float) -> None:
        if name not in self._paces_us and len(self._paces_us) >= INSTANCE_COUNT_MAX:
            self._paces_us.clear()
        before = self._paces_us.get(name, pace_us)
        self._paces_us[name] = before + PACE_SHARE * (pace_us - before)


def keeps(record: RequestRecord, promise: Promise) -> bool | None:
    """Whether the request got what its class is promised; None where its client left, which says nothing.

    What failed or was turned away did not. A promise of 0 promises nothing.
    """
    if record.status is RequestStatus.CANCELLED:
        return None
    if record.status is not RequestStatus.OK:
        return False
    waits = [
        (promise.ttft_s * US_PER_S, record.ttft_us),
        (promise.tpot_ms * US_PER_S / 1_000, token_time_us(record)),
        (promise.e2e_s * US_PER_S, record.end_to_end_us),
    ]
    return all(not most_us or took_us is None or took_us <= most_us for most_us, took_us in waits)


def token_time_us(record: RequestRecord) -> float | None:
    """The mean time between two tokens of an answer; None where it has fewer than two."""
    if record.status is not RequestStatus.OK or record.ttft_us is None or record.response_tokens < 2:
        return None
    return (record.end_to_end_us - record.ttft_us) / (record.response_tokens - 1)
