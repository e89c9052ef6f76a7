"""Reads tables of comma-separated values into columns; a row that is not right is an error that names its line."""

import csv
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from forebay.core.errors import ConfigError
from forebay.simulator.traces import fast
from forebay.simulator.traces.fields import PARSERS, TEXTS, Column, Kind
from forebay.simulator.traces.lines import read_lines
from forebay.simulator.workload.base import Ints

CHUNK_ROWS = 100_000
LINE_OF_FIRST_ROW = 2


@dataclass(frozen=True, slots=True)
class Table:
    """Columns of a file of which each row is one line."""

    path: Path
    columns: Mapping[str, Column]

    def __getitem__(self, name: str) -> Ints:
        return self.columns[name].values

    def __contains__(self, name: str) -> bool:
        return name in self.columns

    def names(self, name: str) -> tuple[str, ...]:
        """The texts of a column of text."""
        return self.columns[name].names


def read_table(path: Path, needed: Mapping[str, Kind], optional: Mapping[str, Kind] | None = None) -> Table:
    """The needed columns and those optional ones that the file has, in whatever order; other columns are left out.

    Raises ConfigError with the line of a missing column, of a wrong number of fields, or of a field that is not of its
    kind, and for a file without rows.
    """
    header = _header(path)
    missing = [name for name in needed if header.count(name) != 1]
    if missing:
        has = ",".join(header) or "none"
        raise ConfigError(f"{path}:1: the columns must hold {','.join(needed)} once each; they are {has}")
    kinds = {**needed, **{name: kind for name, kind in (optional or {}).items() if name in header}}
    big = path.stat().st_size >= fast.BYTES_MIN
    columns = (fast.read_fast(path, kinds) if big else None) or _read_rows(path, header, kinds)
    if not len(next(iter(columns.values())).values):
        raise ConfigError(f"{path} has no rows; give a trace with at least one request")
    return Table(path, columns)


def _header(path: Path) -> list[str]:
    lines = read_lines(path)
    try:
        return next(csv.reader(islice(lines, 1)), [])
    except csv.Error as error:
        raise ConfigError(f"{path}:1: not comma-separated values ({error})") from error
    finally:
        lines.close()


def _read_rows(path: Path, header: list[str], kinds: Mapping[str, Kind]) -> dict[str, Column]:
    rows = csv.reader(read_lines(path), strict=True)
    next(rows)
    places = {name: header.index(name) for name in kinds}
    texts: dict[str, dict[str, int]] = {name: {} for name, kind in kinds.items() if kind in TEXTS}
    parts: dict[str, list[Ints]] = {name: [np.zeros(0, dtype=np.int64)] for name in kinds}
    line = LINE_OF_FIRST_ROW
    while chunk := _chunk(rows, path, line, len(header)):
        for name, kind in kinds.items():
            column = [row[places[name]] for row in chunk]
            if kind is Kind.NAME and "" in column:
                raise ConfigError(f"{path}:{column.index('') + line}: {name} is empty")
            values = _coded(column, texts[name]) if kind in TEXTS else _numbers(column, kind, name, path, line)
            parts[name].append(np.fromiter(values, dtype=np.int64, count=len(chunk)))
        line += len(chunk)
    return {name: Column(np.concatenate(parts[name]), tuple(texts.get(name, ()))) for name in kinds}


def _chunk(rows: Any, path: Path, line: int, width: int) -> list[list[str]]:
    try:
        chunk = list(islice(rows, CHUNK_ROWS))
        if rows.line_num != line + len(chunk) - 1:
            raise csv.Error("a field goes over several lines")
    except csv.Error as error:
        raise ConfigError(f"{path}:{_broken_line(path)}: not comma-separated values ({error})") from error
    for number, row in enumerate(chunk, start=line):
        if len(row) != width:
            raise ConfigError(f"{path}:{number}: {len(row)} fields where {width} are needed")
    return chunk


def _broken_line(path: Path) -> int:
    """The first line that is not a row of its own."""
    rows = csv.reader(read_lines(path), strict=True)
    line = 0
    with suppress(csv.Error):
        for line, _ in enumerate(rows, start=1):
            if rows.line_num != line:
                return line
    return line + 1


def _coded(column: list[str], known: dict[str, int]) -> Iterator[int]:
    return (known.setdefault(field, len(known)) for field in column)


def _numbers(column: list[str], kind: Kind, name: str, path: Path, line: int) -> Iterator[int]:
    parse = PARSERS[kind]
    for number, field in enumerate(column, start=line):
        try:
            yield parse(field)
        except ValueError as error:
            raise ConfigError(f"{path}:{number}: {name} {field!r} is not {kind.value}") from error
