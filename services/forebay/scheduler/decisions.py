"""The records of what was decided, kept for a while and cheap until somebody asks."""

from collections import OrderedDict, deque
from typing import NamedTuple

from forebay.core.scheduling import Verdict
from forebay.core.values import LengthQuantiles, SloClass
from forebay.scheduler.lanes import COUNTED, Standing
from forebay.scheduler.policy.router.base import Ints, Mask, Route

BYTES_EACH = 8 * len(COUNTED) + 8 + 1
"""Bytes an instance in the arrays of a record: what is counted, the score, and whether it is eligible."""


class Sight(NamedTuple):
    """The instances of a model as they were seen for one request: `counts` has a row for each of COUNTED."""

    standing: Standing
    eligible: Mask
    counts: Ints
    excluded: frozenset[str]
    context_tokens: int


class Counts(NamedTuple):
    """Requests of a model that are held and that run."""

    held: int
    leases: int


class Batch(NamedTuple):
    """The static batch that a request runs in: its longest prompt, the shortest and the longest predicted answer.

    `waiting_count` batches of the model were left to wait when it was placed.
    """

    batch_id: str
    request_count: int
    prompt_max: int
    answer_min: int
    answer_max: int
    waiting_count: int


class Record(NamedTuple):
    """Everything that one decision rests on, without the prompt; rendered by `explain`."""

    decision_id: str
    request_id: str
    model: str
    decided_us: int
    verdict: Verdict
    prompt_tokens: int
    tokens_max: int
    slo_class: SloClass
    held_us: int
    counts: Counts
    predicted: LengthQuantiles
    predicted_by: str
    sight: Sight | None = None
    route: Route | None = None
    text: str = ""
    others: tuple[tuple[str, int], ...] = ()
    batch: Batch | None = None


class Records:
    """The newest records, bounded in number and in the bytes of their arrays; the oldest go first."""

    def __init__(self, count_max: int, bytes_max: int) -> None:
        self._count_max = count_max
        self._bytes_max = bytes_max
        self._bytes = 0
        self._records: OrderedDict[str, Record] = OrderedDict()
        self._bytes_of: deque[int] = deque()

    def __len__(self) -> int:
        return len(self._records)

    def get(self, decision_id: str) -> Record | None:
        """The record, if it is still kept."""
        return self._records.get(decision_id)

    def add(self, record: Record) -> None:
        """Keeps a record."""
        array_bytes = _array_bytes(record)
        self._records[record.decision_id] = record
        self._bytes_of.append(array_bytes)
        self._bytes += array_bytes
        while len(self._records) > self._count_max or (self._bytes > self._bytes_max and len(self._records) > 1):
            self._records.popitem(last=False)
            self._bytes -= self._bytes_of.popleft()


def _array_bytes(record: Record) -> int:
    """What the arrays of a record take at most: some are shared with other records."""
    term_count = len(record.route.terms) if record.route else 0
    return 0 if record.sight is None else (BYTES_EACH + 8 * term_count) * len(record.sight.eligible)
