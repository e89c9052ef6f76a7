"""Keeps workloads in Parquet files: every column, every table of names, and nothing lost on the way."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from forebay.core.errors import ConfigError
from forebay.simulator.traces.parquet import modules
from forebay.simulator.workload.base import COLUMNS, NAMES, PREDICTED, Ragged, Workload, make_workload

KEY = b"forebay.workload"
VERSION = 1
LISTS = ("parents", "blocks")


@dataclass(frozen=True, slots=True)
class Saved:
    """Parquet as `save` writes it: the columns of `Workload` by name, `parents` and `blocks` as lists, and under the
    metadata key forebay.workload a JSON object with version, block_tokens, notes and the tables of names."""

    def read(self, path: Path) -> Workload:
        """The workload; raises ConfigError where the file is not one."""
        pyarrow, parquet = modules(path)
        try:
            table = parquet.read_table(path)
        except (OSError, pyarrow.ArrowException) as error:
            raise ConfigError(f"{path}: cannot read as Parquet ({error}); check the path") from error
        try:
            return _workload(table, _metadata(path, table.schema.metadata or {}))
        except (ValueError, TypeError, KeyError, AttributeError, pyarrow.ArrowException) as error:
            raise ConfigError(f"{path}: {error}; save the workload again") from error


def save(workload: Workload, path: Path) -> None:
    """Writes the workload; equal workloads give equal bytes. Raises ConfigError where the file cannot be written."""
    pyarrow, parquet = modules(path)
    data: dict[str, Any] = {name: pyarrow.array(getattr(workload, name)) for name in COLUMNS}
    for name in LISTS:
        rows: Ragged = getattr(workload, f"{name}_of")
        data[name] = pyarrow.LargeListArray.from_arrays(rows.start, rows.values)
    kept = {
        "version": VERSION,
        "block_tokens": workload.block_tokens,
        "notes": workload.notes,
        **{table: getattr(workload, table) for table in NAMES.values()},
    }
    table = pyarrow.table(data).replace_schema_metadata({KEY: json.dumps(kept).encode()})
    try:
        parquet.write_table(table, path, compression="zstd")
    except OSError as error:
        raise ConfigError(f"{path}: cannot write ({error}); choose another folder") from error


def _metadata(path: Path, metadata: Mapping[bytes, bytes]) -> dict[str, Any]:
    if KEY not in metadata:
        raise ConfigError(f"{path}: this Parquet file is no workload of ours; give its format")
    kept: dict[str, Any] = json.loads(metadata[KEY])
    if kept.get("version") != VERSION:
        raise ConfigError(f"{path}: version {kept.get('version')} of the format, but only {VERSION} is known")
    return kept


def _workload(table: Any, kept: Mapping[str, Any]) -> Workload:
    there = set(table.column_names)
    # Files from before there were predictions have none.
    missing = sorted({*COLUMNS, *LISTS} - {*PREDICTED} - there)
    if missing:
        raise ValueError(f"the columns {', '.join(missing)} are missing")
    columns = {name: table.column(name).to_numpy() for name in COLUMNS if name in there}
    for name, column in columns.items():
        if column.dtype != np.int64:
            raise ValueError(f"column {name} must hold whole numbers without gaps")
    return make_workload(
        columns.pop("arrival_us"),
        columns.pop("prompt_tokens"),
        columns.pop("output_tokens"),
        names={names: tuple(kept[names]) for names in NAMES.values() if names != "texts"},
        texts=tuple(kept["texts"]),
        notes=tuple(kept["notes"]),
        block_tokens=kept["block_tokens"],
        parents=_ragged(table.column("parents")),
        blocks=_ragged(table.column("blocks")),
        **columns,
    )


def _ragged(column: Any) -> Ragged:
    lists = column.combine_chunks()
    counts = lists.value_lengths().to_numpy(zero_copy_only=False)
    start = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts, dtype=np.int64)])
    return Ragged(start, lists.flatten().to_numpy(zero_copy_only=False))
