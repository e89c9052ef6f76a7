"""Readers of public trace formats, each strict about every row."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from forebay.core.config import from_mapping
from forebay.core.errors import ConfigError
from forebay.simulator.traces.azure import Azure
from forebay.simulator.traces.mooncake import Mooncake
from forebay.simulator.workload.base import Workload


class Reader(Protocol):
    """Reads files of one format; its fields are the format's options."""

    def read(self, path: Path) -> Workload:
        """The workload; its first arrival is at 0. Raises ConfigError naming what is wrong with which line."""
        ...


FORMATS: Mapping[str, type[Reader]] = {
    "azure": Azure,
    "mooncake": Mooncake,
}


def read(format: str, path: Path, **options: object) -> Workload:
    """The workload in a file of the given format; `options` are the fields of its reader.

    Raises ConfigError for a format or an option that is not known, and naming the line of a bad row.
    """
    if format not in FORMATS:
        raise ConfigError(f"{path}: no format {format!r}; known: {', '.join(FORMATS)}")
    lists = {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}
    return from_mapping(FORMATS[format], lists, f"workload ({format})").read(path)
