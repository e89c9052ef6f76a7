"""Rows of measured data from files, and the numbers in them; whatever is not right is named by file and line."""

import csv
import gzip
import io
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from forebay.core.errors import ConfigError


def read_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Rows with their line numbers (of a Parquet file: row numbers from 1).

    Raises ConfigError for a file of another kind, one that cannot be read, and a row that is none.
    """
    kind = path.name.removesuffix(".gz").rsplit(".", 1)[-1]
    if kind == "csv":
        yield from enumerate(csv.DictReader(io.StringIO(read_text(path))), start=2)
    elif kind in ("jsonl", "ndjson"):
        yield from _json_lines(path)
    elif kind == "parquet":
        yield from enumerate(_parquet(path), start=1)
    else:
        raise ConfigError(f"{path}: runs are .csv, .jsonl (or either with .gz) or .parquet files")


def _json_lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ConfigError(f"{path}:{number}: not JSON: {error.msg}") from error
        if not isinstance(row, dict):
            raise ConfigError(f"{path}:{number}: a row must be an object")
        yield number, row


def _parquet(path: Path) -> list[Mapping[str, Any]]:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ConfigError(f"{path}: reading Parquet needs pyarrow; run: make dev") from error
    try:
        rows: list[Mapping[str, Any]] = pyarrow.parquet.read_table(path).to_pylist()
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from error
    return rows


def read_text(path: Path) -> str:
    """The text of a file that may be gzipped; raises ConfigError naming it."""
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error


def time_s(where: str, row: Mapping[str, Any], names: Mapping[str, float]) -> float:
    """The first of the columns `names` that is there, in seconds; raises ConfigError naming `where`."""
    found = [name for name in names if row.get(name) not in (None, "")]
    if not found:
        raise ConfigError(f"{where}: no {' or '.join(names)}")
    return number(where, found[0], row[found[0]]) * names[found[0]]


def number(where: str, name: str, value: object) -> float:
    """A finite number; raises ConfigError naming `where` and `name`."""
    try:
        parsed = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {name} must be a number, got {value!r}") from error
    if not math.isfinite(parsed):
        raise ConfigError(f"{where}: {name} must be finite, got {value!r}")
    return parsed
