"""Keeps runs in folders: Parquet of the requests and of the fleet's changes, JSON of the rest and of the summary."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from forebay.core.config import from_mapping
from forebay.core.errors import ConfigError
from forebay.simulator.results import FleetChange, KnobTurn, RequestColumns, RunResult
from forebay.simulator.summary import Summary

REQUESTS, FLEET, RUN, SUMMARY = "requests.parquet", "fleet.parquet", "run.json", "summary.json"


def write(result: RunResult, summary: Summary, folder: Path) -> None:
    """Writes a run into an existing folder; equal runs give equal bytes.

    Raises ConfigError where pyarrow is not installed.
    """
    pa, parquet = _pyarrow()
    requests = {name: _narrow(getattr(result.requests, name)) for name in _names(RequestColumns)}
    changes = {name: [getattr(change, name) for change in result.changes] for name in _names(FleetChange)}
    parquet.write_table(pa.table(requests), folder / REQUESTS, compression="zstd")
    parquet.write_table(pa.table(changes, schema=_fleet_schema(pa)), folder / FLEET, compression="zstd")
    rest = {name: getattr(result, name) for name in _names(RunResult) if name not in ("requests", "changes")}
    _write_json(folder / RUN, {**rest, "counters": dict(result.counters), "rejections": dict(result.rejections)})
    _write_json(folder / SUMMARY, dataclasses.asdict(summary))


def claim(folder: Path) -> None:
    """Makes sure that a folder may take a run: raises ConfigError where it holds tables that no run of ours left."""
    strange = [name for name in (REQUESTS, FLEET, SUMMARY) if (folder / name).exists() and not (folder / RUN).exists()]
    if strange:
        raise ConfigError(f"{folder} holds a {strange[0]} that is not of a run; name another folder")


def read(folder: Path) -> tuple[RunResult, Summary]:
    """The run as it was written. Raises ConfigError naming the file that cannot be read."""
    rest = _read_json(folder / RUN)
    for name in ("models", "tenants", "regions", "instances"):
        rest[name] = tuple(rest[name])
    rest["turns"] = tuple(KnobTurn(*turn) for turn in rest["turns"])
    columns = read_columns(folder, _names(RequestColumns))
    result = RunResult(**rest, requests=RequestColumns(**columns), changes=read_changes(folder))
    return result, read_summary(folder)


def read_summary(folder: Path) -> Summary:
    """The summary alone. Raises ConfigError too where its fields are those of another version of Forebay."""
    kept = _read_json(folder / SUMMARY)
    try:
        summary = from_mapping(Summary, kept, "summary")
        lacks = _comparable(dataclasses.asdict(summary)) != _comparable(kept)
        reason = "it lacks figures" if lacks else ""
    except ConfigError as error:
        reason = error.message
    if reason:
        path = folder / SUMMARY
        raise ConfigError(f"{path} is of another version of Forebay: {reason}; the same command runs it again")
    return summary


def _comparable(value: Mapping[str, Any]) -> Any:
    """As JSON has it; what is not a number equals itself."""
    return json.loads(json.dumps(value), parse_constant=str)


def check_tables(folder: Path) -> None:
    """Raises ConfigError where a table is damaged, as far as its end tells."""
    pa, parquet = _pyarrow()
    for path in (folder / REQUESTS, folder / FLEET):
        try:
            parquet.read_schema(path)
        except (OSError, pa.ArrowException) as error:
            raise ConfigError(f"cannot read {path}: {error}") from error


def read_columns(folder: Path, names: Sequence[str]) -> dict[str, npt.NDArray[np.int64]]:
    """Some columns of the requests, as int64."""
    table = _read_table(folder / REQUESTS, names)
    return {name: table.column(name).to_numpy().astype(np.int64) for name in names}


def read_changes(folder: Path) -> tuple[FleetChange, ...]:
    """The changes of the fleet alone."""
    return tuple(FleetChange(**row) for row in _read_table(folder / FLEET, _names(FleetChange)).to_pylist())


def _names(cls: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(cls)]


def _narrow(values: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """The same values in 32 bits where they fit: half the file."""
    fits = not len(values) or (values.min() >= -(2**31) and values.max() < 2**31)
    return values.astype(np.int32) if fits else values


def _fleet_schema(pa: Any) -> Any:
    kinds = {"at_us": pa.int64(), "gpu_count": pa.int64(), "spot": pa.bool_()}
    return pa.schema([(name, kinds.get(name, pa.string())) for name in _names(FleetChange)])


def _read_table(path: Path, names: Sequence[str]) -> Any:
    pa, parquet = _pyarrow()
    try:
        return parquet.read_table(path, columns=list(names))
    except (OSError, pa.ArrowException) as error:
        raise ConfigError(f"cannot read {path}: {error}; remove its folder and run again") from error


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {path}: {error}; remove its folder and run again") from error
    if not isinstance(value, dict):
        raise ConfigError(f"cannot read {path}: not a JSON object; remove its folder and run again")
    return value


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ConfigError("keeping runs needs pyarrow; install it with: pip install 'forebay[data]'") from error
    return pyarrow, pyarrow.parquet
