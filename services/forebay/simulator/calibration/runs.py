"""Measured runs from files: a row a request with its lengths and the times of its first and last token."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from forebay.core.errors import ConfigError
from forebay.simulator.calibration.rows import number, read_rows, read_text, time_s

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]

S, MS, US = 1.0, 1e-3, 1e-6

TIMES: Mapping[str, Mapping[str, float]] = {
    "arrival": {"queued_ts": S, "arrival_s": S, "arrival_ms": MS, "arrival_us": US},
    "first": {"first_token_ts": S, "first_s": S, "first_ms": MS, "first_us": US},
    "last": {"last_token_ts": S, "last_s": S, "last_ms": MS, "last_us": US, "finish_us": US},
}
"""Names of each time column, and their units in seconds; all times of a file are on one clock."""

COUNTS: Mapping[str, Sequence[str]] = {
    "prompt": ("prompt_tokens", "input_toks", "input_tokens"),
    "output": ("output_tokens", "output_toks"),
    "hit": ("hit_tokens", "cached_tokens"),
}
GROUPS = ("instance", "client")
SENT = "arrival_time"
"""When a client sent the request, on a clock of its own, in seconds."""


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One engine's measured requests in columns, sorted by arrival; seconds from the first arrival.

    `client` numbers the closed loops: a row arrives when the row before it of its client has ended, plus the pause
    that was measured between the two (-1: arrives at `arrival_s`, whatever happens).
    """

    name: str
    arrival_s: Floats
    first_s: Floats
    last_s: Floats
    prompt_tokens: Ints
    output_tokens: Ints
    hit_tokens: Ints
    client: Ints

    def __len__(self) -> int:
        return len(self.arrival_s)

    def part(self, name: str, rows: npt.NDArray[np.bool_]) -> "Run":
        """The rows that are chosen, under another name and on the same clock."""
        columns = {field: getattr(self, field)[rows] for field in self.__slots__ if field != "name"}
        return Run(name, **columns)


def read_runs(path: Path, *, hits_known: bool = True) -> list[Run]:
    """The runs of a file, one an instance: CSV, JSON lines (either may be gzipped) or Parquet.

    What `forebay export requests` writes is read too: answered requests, from when the scheduler let them go.
    Rows whose output is one token have no TPOT and are kept. Without a column of prefix hits the file is refused
    unless `hits_known` is False, which counts all of them as 0: hits make prefills short, and constants fitted without
    them are too small. Raises ConfigError naming file and line.

    vLLM writes `queued_ts` when it takes requests in, between two iterations. Where `arrival_time` stands beside it,
    requests arrive by that, on a clock that is set so that one of them was taken in at once and none before.
    """
    table = [_parse(path, line, row) for line, raw in read_rows(path) if (row := _served(f"{path}:{line}", raw))]
    if not table:
        raise ConfigError(f"{path}: no rows; a run needs a row a request")
    if hits_known and any(math.isnan(row["hit"]) for row in table):
        raise ConfigError(
            f"{path}: no hit_tokens column; add the prompt tokens found in the prefix cache, "
            "or pass --no-prefix-cache if the engine ran without one"
        )
    names = sorted({str(row["instance"]) for row in table})
    return [
        _run(
            f"{path.name}:{name}" if len(names) > 1 else path.name,
            [row for row in table if str(row["instance"]) == name],
        )
        for name in names
    ]


def make_run(name: str, rows: Iterable[Mapping[str, Any]]) -> Run:
    """A run from rows in memory, with the columns of a file; raises ConfigError naming the row."""
    return _run(name, [_parse(Path(name), number, row) for number, row in enumerate(rows, start=1)])


def limits_of(path: Path) -> dict[str, int]:
    """`max_seqs`, `max_batch_tokens` and `replicas` of the `_meta.json` beside a `_requests` file, where known."""
    for suffix in (".json.gz", ".json"):
        beside = path.with_name(path.name.split("_requests")[0] + "_meta" + suffix)
        if "_requests" in path.name and beside.exists():
            said = json.loads(read_text(beside)).get("engine_kwargs", {})
            names = {
                "max_seqs": "max_num_seqs",
                "max_batch_tokens": "max_num_batched_tokens",
                "replicas": "data_parallel_size",
            }
            return {ours: int(said[theirs]) for ours, theirs in names.items() if said.get(theirs)}
    return {}


def _served(where: str, row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A row of the metrics service's log in terms of its engine, empty where the request has no whole answer."""
    if "end_to_end_us" not in row:
        return row
    if row.get("status", "ok") != "ok" or row.get("ttft_us") is None:
        return {}
    names = ("arrival_us", "held_us", "ttft_us", "end_to_end_us")
    arrival_us, held_us, ttft_us, e2e_us = (number(where, name, row.get(name, 0)) for name in names)
    times = {"arrival_us": arrival_us + held_us, "first_us": arrival_us + ttft_us, "last_us": arrival_us + e2e_us}
    lengths = {"prompt_tokens": row.get("prompt_tokens"), "output_tokens": row.get("response_tokens")}
    return {**times, **lengths, "hit_tokens": row.get("hit_tokens"), "instance": row.get("instance_id", "")}


def _parse(path: Path, number: int, row: Mapping[str, Any]) -> dict[str, Any]:
    where = f"{path}:{number}"
    parsed: dict[str, Any] = {name: time_s(where, row, TIMES[name]) for name in TIMES}
    parsed |= {name: _count(where, row, COUNTS[name]) for name in COUNTS}
    parsed["sent"] = time_s(where, row, {SENT: S}) if row.get(SENT) not in (None, "") else math.nan
    parsed |= {name: row.get(name, "") if row.get(name) is not None else "" for name in GROUPS}
    if not parsed["arrival"] <= parsed["first"] <= parsed["last"]:
        raise ConfigError(f"{where}: times must not fall from arrival over first to last token")
    if parsed["hit"] >= parsed["prompt"]:
        raise ConfigError(f"{where}: hit_tokens must be below the prompt's tokens")
    return parsed


def _count(where: str, row: Mapping[str, Any], names: Sequence[str]) -> float:
    found = [name for name in names if row.get(name) not in (None, "")]
    if not found and names is COUNTS["hit"]:
        return math.nan
    if not found:
        raise ConfigError(f"{where}: no {' or '.join(names)}")
    value = number(where, found[0], row[found[0]])
    least = 0 if names is COUNTS["hit"] else 1
    if value != int(value) or value < least:
        raise ConfigError(f"{where}: {found[0]} must be a whole number of at least {least}, got {row[found[0]]!r}")
    return value


def _run(name: str, rows: list[dict[str, Any]]) -> Run:
    rows = sorted(_as_sent(rows), key=lambda row: float(row["arrival"]))
    start = rows[0]["arrival"]
    columns: dict[str, Any] = {f"{key}_s": np.array([row[key] - start for row in rows]) for key in TIMES}
    for key in COUNTS:
        columns[f"{key}_tokens"] = np.array([np.nan_to_num(row[key]) for row in rows]).astype(np.int64)
    clients = {client: number for number, client in enumerate(sorted({str(row["client"]) for row in rows} - {""}))}
    client = np.array([clients.get(str(row["client"]), -1) for row in rows])
    return Run(name, **columns, client=client)


def _as_sent(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with the arrivals that their clients know, if all do."""
    waits_s = [row["arrival"] - row["sent"] for row in rows]
    if any(map(math.isnan, waits_s)):
        return rows
    return [{**row, "arrival": row["sent"] + min(waits_s)} for row in rows]
