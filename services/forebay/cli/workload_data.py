"""Reads traffic as series of windows: from points in CSV, JSON lines or Parquet, or from the simulator's traces."""

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from forebay.core.errors import ConfigError
from forebay.core.units import US_PER_S
from forebay.core.values import SloClass
from forebay.predictor.traffic.series import Floats, Series
from forebay.simulator.traces import FORMATS, guess, read
from forebay.simulator.traces.lines import read_lines
from forebay.simulator.traces.parquet import modules, read_columns
from forebay.simulator.traces.records import read_records
from forebay.simulator.traces.servegen import RATE_WINDOW_S, RATES_NAME, read_rates
from forebay.simulator.workload.base import Workload

POINTS = "points"
AMOUNTS = ("requests", "prompt_tokens", "response_tokens")
KEYS = ("model", "region", "class")
ABSENT = ("gap", "zero")
WINDOWS_MAX = 200_000
"""Of one series: more is a slip, such as seconds where milliseconds stand."""
AMOUNT_MAX = 1e15


@dataclass(frozen=True, slots=True)
class NamedSeries:
    """One series with what it is of: such as "llama", "llama/eu/deferred", or "all"."""

    name: str
    series: Series


@dataclass(frozen=True, slots=True)
class Reading:
    """How files become series.

    `window_s` is the window; finer points are added up. `by` names the keys that tell series apart, of model, region
    and class; the others are added up. `absent` says what a window is between two that are there and that no point
    names: a "gap" (nobody knows), or "zero" (no traffic). `format` is "points", a trace format, or empty: guessed.
    """

    window_s: int = 600
    by: tuple[str, ...] = KEYS
    absent: str = "gap"
    format: str = ""

    def __post_init__(self) -> None:
        if not 1 <= self.window_s <= 86_400:
            raise ConfigError("the window must be from 1 to 86,400 s")
        unknown = sorted(set(self.by) - set(KEYS))
        if unknown:
            raise ConfigError(f"cannot tell series apart by {', '.join(unknown)}; known: {', '.join(KEYS)}")
        if self.absent not in ABSENT:
            raise ConfigError(f"absent windows are {' or '.join(ABSENT)}, not {self.absent!r}")
        if self.format not in ("", POINTS, *FORMATS):
            raise ConfigError(f"no format {self.format!r}; known: {', '.join((POINTS, *FORMATS))}")

    @property
    def window_us(self) -> int:
        """The window in microseconds."""
        return self.window_s * US_PER_S


def read_series(paths: Sequence[Path], reading: Reading) -> list[NamedSeries]:
    """The series of all files together, by name. Raises ConfigError naming the line of a bad row.

    Points are rows with `start_time` (seconds since 1970, or a stamp such as 2026-01-31T00:10:00Z; one without a zone
    is UTC), `requests`, and where known `prompt_tokens`, `response_tokens`, `model`, `region` and `class`.
    """
    sums = _Sums(reading)
    found: list[NamedSeries] = []
    for path in paths:
        kind = reading.format or _format(path)
        if kind == "servegen":
            found += [servegen(one, reading.window_s) for one in _rates(path)]
        elif kind == POINTS:
            for row in _rows(path):
                sums.point(row)
        else:
            sums.workload(read(kind, path))
    named = sorted([*found, *sums.series()], key=lambda one: one.name)
    if not named:
        raise ConfigError("there is no series in the data; was there traffic?")
    return named


def servegen(path: Path, window_s: int = RATE_WINDOW_S, client: int | None = None) -> NamedSeries:
    """What a file of ServeGen's rates expects of a service, or of one client, window by window.

    Tokens are the rates of the clients with length sketches by those sketches' means, nearest in time. Windows in which
    nobody sent anything are gaps: holes of the collection.
    """
    match = RATES_NAME.fullmatch(path.name)
    if match is None or window_s % RATE_WINDOW_S:
        raise ConfigError(f"{path}: ServeGen's rates need their name and a window that is a multiple of 600 s")
    rates = read_rates(path)
    chosen = np.ones(len(rates.client), dtype=bool) if client is None else rates.client == client
    counts = rates.counts[:, chosen]
    values = np.column_stack((counts.sum(axis=1), *_tokens(path, match[1], rates.client[chosen], counts)))
    values[~rates.counts.any(axis=1)] = np.nan
    whole = len(values) // (window_s // RATE_WINDOW_S) * (window_s // RATE_WINDOW_S)
    coarse = values[:whole].reshape(-1, window_s // RATE_WINDOW_S, 3).sum(axis=1)
    name = match[1] if client is None else f"{match[1]}/client-{client}"
    return NamedSeries(name, Series(coarse, 0, window_s * US_PER_S))


def busiest(path: Path, count: int) -> list[int]:
    """The clients of a file of ServeGen's rates that send most, the busiest first."""
    rates = read_rates(path)
    order = np.argsort(-rates.counts.sum(axis=0), kind="stable")[:count]
    return [int(client) for client in rates.client[order]]


def _tokens(path: Path, name: str, clients: Any, counts: Floats) -> list[Floats]:
    lengths = sorted(path.parent.glob(f"servegen_{name}_lengths*.parquet"))
    if not lengths:
        return [np.zeros(len(counts)), np.zeros(len(counts))]
    table = read_columns(lengths[0], ["client", "t", "input_tokens_mean", "output_tokens_mean"]).drop_null()
    owner, t, *means = (table.column(index).to_numpy() for index in range(4))
    totals = [np.zeros(len(counts)), np.zeros(len(counts))]
    starts = np.arange(len(counts)) * RATE_WINDOW_S
    for place, client in enumerate(clients):
        own = np.flatnonzero(owner == client)
        if len(own):
            nearest = own[np.argmin(np.abs(t[own][None, :] - starts[:, None]), axis=1)]
            for total, mean in zip(totals, means, strict=True):
                total += counts[:, place] * mean[nearest]
    return totals


def _rates(path: Path) -> list[Path]:
    found = sorted(path.glob("servegen_*_rates*.parquet")) if path.is_dir() else [path]
    if not found:
        raise ConfigError(f"{path}: no file servegen_SERVICE_rates….parquet is in it")
    return found


def _format(path: Path) -> str:
    if path.is_dir() or RATES_NAME.fullmatch(path.name):
        return "servegen"
    names = _parquet_columns(path) if path.suffix == ".parquet" else _first_names(path)
    if {"start_time", "requests"} <= names:
        return POINTS
    try:
        return guess(path)
    except ConfigError as error:
        raise ConfigError(f"{error.message}; or give points, with columns start_time and requests") from error


def _parquet_columns(path: Path) -> set[str]:
    pyarrow, parquet = modules(path)
    try:
        return set(parquet.read_schema(path).names)
    except (OSError, pyarrow.ArrowException) as error:
        raise ConfigError(f"{path}: not a Parquet file ({error})") from error


def _first_names(path: Path) -> set[str]:
    lines = read_lines(path)
    try:
        first = next(lines, "")
    finally:
        lines.close()
    if first.lstrip().startswith("{"):
        return set(next(read_records(path))._values)
    return set(next(csv.reader([first]), ()))


@dataclass(frozen=True, slots=True)
class _Row:
    """One point as it stands in a file, and where."""

    where: str
    values: Mapping[str, Any]

    def start_us(self) -> int:
        value = self.values.get("start_time")
        if isinstance(value, datetime):
            return _stamp_us(value)
        seconds = _number(value)
        if seconds is not None and 0 <= seconds < 1e11:
            return round(seconds * US_PER_S)
        try:
            return _stamp_us(datetime.fromisoformat(str(value)))
        except (ValueError, OverflowError):
            raise self.wrong("start_time", "seconds since 1970, or a time such as 2026-01-31T00:10:00Z") from None

    def amount(self, name: str) -> float:
        value = self.values.get(name)
        if value in (None, "") and name != "requests":
            return 0.0
        number = _number(value)
        if number is None or not 0 <= number < AMOUNT_MAX:
            raise self.wrong(name, "a finite number that is not negative")
        return number

    def key(self, name: str) -> str:
        value = self.values.get(name)
        text = "" if value is None else str(value)
        if name == "class" and text not in ("", *(one.name.lower() for one in SloClass)):
            raise self.wrong(name, f"one of {', '.join(one.name.lower() for one in SloClass)}")
        return text

    def wrong(self, name: str, needed: str) -> ConfigError:
        has = self.values.get(name)
        shown = "missing" if has is None else f"not {has!r}"[:80]
        return ConfigError(f"{self.where}: {name} must be {needed}; it is {shown}")


def _stamp_us(stamp: datetime) -> int:
    aware = stamp if stamp.tzinfo else stamp.replace(tzinfo=UTC)
    return round(aware.timestamp() * US_PER_S)


def _number(value: object) -> float | None:
    if isinstance(value, bool) or value is None:
        return None
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _rows(path: Path) -> Iterator[_Row]:
    if path.suffix == ".parquet":
        known = [name for name in ("start_time", *AMOUNTS, *KEYS) if name in _parquet_columns(path)]
        for number, values in enumerate(read_columns(path, known).to_pylist()):
            yield _Row(f"{path}: row {number}", values)
    elif next(read_lines(path), "").lstrip().startswith("{"):
        for number, record in enumerate(read_records(path), start=1):
            yield _Row(f"{path}:{number}", record._values)
    else:
        yield from _csv_rows(path)


def _csv_rows(path: Path) -> Iterator[_Row]:
    rows = csv.reader(read_lines(path), strict=True)
    try:
        header = next(rows)
        for fields in rows:
            if len(fields) != len(header):
                raise ConfigError(f"{path}:{rows.line_num}: {len(fields)} fields where {len(header)} are needed")
            yield _Row(f"{path}:{rows.line_num}", dict(zip(header, fields, strict=True)))
    except csv.Error as error:
        raise ConfigError(f"{path}:{rows.line_num}: not comma-separated values ({error})") from error


@dataclass
class _Sums:
    """Amounts by series and window, and the points that were seen."""

    reading: Reading
    windows: dict[tuple[str, ...], dict[int, list[float]]] = field(default_factory=dict)
    seen: set[tuple[str, ...]] = field(default_factory=set)

    def point(self, row: _Row) -> None:
        """Adds one point; raises ConfigError where it is wrong or was there before."""
        start_us = row.start_us()
        keys = tuple(row.key(name) for name in KEYS)
        if (*keys, str(start_us)) in self.seen:
            raise ConfigError(f"{row.where}: a second point of {'/'.join(filter(None, keys)) or 'all'} at this time")
        self.seen.add((*keys, str(start_us)))
        series = self.windows.setdefault(self._kept(keys), {})
        total = series.setdefault(start_us // self.reading.window_us, [0.0, 0.0, 0.0])
        for column, name in enumerate(AMOUNTS):
            total[column] += row.amount(name)

    def workload(self, workload: Workload) -> None:
        """Adds the requests of a trace; the last window is left out, since it is seldom whole."""
        numbers = workload.arrival_us // self.reading.window_us
        kinds = np.unique(np.column_stack((workload.model, workload.region, workload.slo_class)), axis=0)
        for model, region, slo_class in kinds.tolist():
            chosen = (workload.model == model) & (workload.region == region) & (workload.slo_class == slo_class)
            names = (workload.models[model], workload.regions[region], SloClass(slo_class).name.lower())
            kept = self._kept(names)
            series = self.windows.setdefault(kept, {})
            for number in range(int(numbers[-1])):
                series.setdefault(number, [0.0, 0.0, 0.0])
            for column, weights in enumerate((None, workload.prompt_tokens[chosen], workload.output_tokens[chosen])):
                for number, amount in enumerate(np.bincount(numbers[chosen], weights)[: int(numbers[-1])]):
                    series[number][column] += float(amount)

    def series(self) -> Iterator[NamedSeries]:
        """Each series from its first to its last window."""
        for keys, windows in self.windows.items():
            if windows:
                yield NamedSeries("/".join(filter(None, keys)) or "all", self._series(keys, windows))

    def _series(self, keys: tuple[str, ...], windows: Mapping[int, list[float]]) -> Series:
        first, last = min(windows), max(windows)
        if last - first >= WINDOWS_MAX:
            count = f"{'/'.join(filter(None, keys)) or 'all'}: {last - first + 1:,} windows"
            raise ConfigError(f"{count}, at most {WINDOWS_MAX:,}; take a longer --window, or look at the times")
        values = np.full((last - first + 1, 3), np.nan if self.reading.absent == "gap" else 0.0)
        for number, amounts in windows.items():
            values[number - first] = amounts
        return Series(values, first * self.reading.window_us, self.reading.window_us)

    def _kept(self, keys: Sequence[str]) -> tuple[str, ...]:
        return tuple(key for name, key in zip(KEYS, keys, strict=True) if name in self.reading.by)
