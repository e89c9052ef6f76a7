"""Readers of public trace formats, each strict about every row."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol

from forebay.core.config import from_mapping
from forebay.core.errors import ConfigError
from forebay.simulator.traces.azure import Azure
from forebay.simulator.traces.burstgpt import BurstGpt
from forebay.simulator.traces.columns import Saved, save
from forebay.simulator.traces.guess import guess
from forebay.simulator.traces.mooncake import Mooncake
from forebay.simulator.traces.requestlog import RequestLog
from forebay.simulator.traces.servegen import ServeGen
from forebay.simulator.traces.splitwise import SageServe, Splitwise
from forebay.simulator.traces.vidur import Vidur
from forebay.simulator.workload.base import Workload

__all__ = ["FORMATS", "Reader", "guess", "read", "save"]


class Reader(Protocol):
    """Reads files of one format; its fields are the format's options."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def read(self, path: Path) -> Workload:
        """The workload; raises ConfigError naming what is wrong with which line."""
        ...


FORMATS: Mapping[str, type[Reader]] = {
    "azure": Azure,
    "burstgpt": BurstGpt,
    "mooncake": Mooncake,
    "servegen": ServeGen,
    "splitwise": Splitwise,
    "sageserve": SageServe,
    "vidur": Vidur,
    "requestlog": RequestLog,
    "workload": Saved,
}


def read(format: str, path: Path, **options: object) -> Workload:
    """The workload in a file of the given format; `options` are the fields of its reader.

    Raises ConfigError for a format or an option that is not known, and naming the line of a bad row.
    """
    if format not in FORMATS:
        raise ConfigError(f"{path}: no format {format!r}; known: {', '.join(FORMATS)}")
    lists = {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}
    return from_mapping(FORMATS[format], lists, f"workload ({format})").read(path)
