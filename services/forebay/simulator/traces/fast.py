"""Reads tables of comma-separated values with pyarrow, many rows at a time."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from forebay.core.units import US_PER_S
from forebay.simulator.traces.fields import COUNT_PATTERN, SECONDS_PATTERN, TEXTS, Column, Kind
from forebay.simulator.workload.base import Ints

BYTES_MIN = 1_000_000
"""Smaller files are read row by row: loading pyarrow takes longer."""
BLOCK_BYTES = 1 << 24
TIME_PATTERN = r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?"
UTC_PATTERN = TIME_PATTERN + r"\+00:00"


class NotPlainError(Exception):
    """Something in the file needs a closer look."""


def read_fast(path: Path, kinds: Mapping[str, Kind]) -> dict[str, Column] | None:
    """The columns; None where pyarrow is not installed, or anything in the file is not quite plain.

    What it takes, the reader of single rows takes as well, with equal values.
    """
    try:
        import pyarrow
        import pyarrow.csv
    except ImportError:
        return None
    texts: dict[str, dict[str, int]] = {name: {} for name, kind in kinds.items() if kind in TEXTS}
    parts: dict[str, list[Ints]] = {name: [] for name in kinds}
    try:
        for batch in _batches(path, list(kinds)):
            for name, kind in kinds.items():
                column = batch.column(name)
                values = _coded(column, texts[name]) if kind in TEXTS else _numbers(column, kind)
                parts[name].append(values)
            _check_names(texts, kinds)
    except (NotPlainError, OSError, EOFError, KeyError, UnicodeError, pyarrow.ArrowException):
        return None
    return {name: Column(np.concatenate(parts[name]), tuple(texts.get(name, ()))) for name in kinds if parts[name]}


def _batches(path: Path, names: list[str]) -> Any:
    import pyarrow
    from pyarrow import csv

    return csv.open_csv(
        path,
        read_options=csv.ReadOptions(block_size=BLOCK_BYTES),
        parse_options=csv.ParseOptions(ignore_empty_lines=False),
        convert_options=csv.ConvertOptions(
            column_types=dict.fromkeys(names, pyarrow.string()), include_columns=names, strings_can_be_null=False
        ),
    )


def _coded(column: Any, known: dict[str, int]) -> Ints:
    coded = column.dictionary_encode()
    places = np.array([known.setdefault(name, len(known)) for name in coded.dictionary.to_pylist()], dtype=np.int64)
    found: Ints = places[coded.indices.to_numpy(zero_copy_only=False)]
    return found


def _check_names(texts: Mapping[str, Mapping[str, int]], kinds: Mapping[str, Kind]) -> None:
    if any(kinds[name] is Kind.NAME and "" in known for name, known in texts.items()):
        raise NotPlainError


def _numbers(column: Any, kind: Kind) -> Ints:
    import pyarrow

    if kind is Kind.COUNT:
        return _cast(column, COUNT_PATTERN, pyarrow.int64())
    if kind is Kind.SECONDS:
        seconds: npt.NDArray[np.float64] = _cast(column, SECONDS_PATTERN, pyarrow.float64())
        return np.rint(seconds * US_PER_S).astype(np.int64)
    aware = column[0].as_py().endswith("+00:00")
    pattern, zone = (UTC_PATTERN, "UTC") if aware else (TIME_PATTERN, None)
    stamps: Ints = _cast(column, pattern, pyarrow.timestamp("ns", zone)).astype(np.int64)
    return stamps // 1_000


def _cast(column: Any, pattern: str, kind: Any) -> npt.NDArray[Any]:
    from pyarrow import compute

    if not compute.all(compute.match_substring_regex(column, rf"\A(?:{pattern})\z")).as_py():
        raise NotPlainError
    values: npt.NDArray[Any] = compute.cast(column, kind).to_numpy(zero_copy_only=False)
    return values
