"""What the fields of a table may be, and how one is read."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum

from forebay.core.units import US_PER_S
from forebay.simulator.workload.base import Ints

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
COUNT_PATTERN = r"[0-9]{1,9}"
SECONDS_PATTERN = r"[0-9]{1,11}(\.[0-9]*)?([eE]-?[0-9]{1,2})?"


class Kind(Enum):
    """What the fields of a column are: the value says it in words."""

    COUNT = "a count: a whole number below a billion"
    SECONDS = "a number of seconds, such as 0 or 12.5"
    TIME = "a time, such as 2023-11-16 18:15:46.6805900"
    TEXT = "text"
    NAME = "a name"


TEXTS = (Kind.TEXT, Kind.NAME)


@dataclass(frozen=True, slots=True)
class Column:
    """The values of a column: counts, microseconds, or for text indexes into `names`, which stand in order of
    appearance."""

    values: Ints
    names: tuple[str, ...] = ()


def _count(field: str) -> int:
    if not re.fullmatch(COUNT_PATTERN, field):
        raise ValueError
    return int(field)


def _seconds(field: str) -> int:
    if not re.fullmatch(SECONDS_PATTERN, field):
        raise ValueError
    return round(float(field) * US_PER_S)


def _time(field: str) -> int:
    """Stamps without a zone are taken as UTC: only differences count."""
    stamp = datetime.fromisoformat(field)
    aware = stamp if stamp.tzinfo else stamp.replace(tzinfo=UTC)
    return (aware - EPOCH) // timedelta(microseconds=1)


PARSERS: Mapping[Kind, Callable[[str], int]] = {Kind.COUNT: _count, Kind.SECONDS: _seconds, Kind.TIME: _time}
"""From a field to its number; raise ValueError for anything else. Finer than a microsecond is cut off."""
