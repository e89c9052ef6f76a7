"""How the command line prints: one console, tables that fit 100 columns, JSON where asked."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table

from forebay.core.errors import ConfigError

WIDTH = 100


def make_console() -> Console:
    """A console for standard output; 100 columns wide where it is not a terminal."""
    found = Console(highlight=False, soft_wrap=False)
    return found if found.is_terminal else Console(highlight=False, width=WIDTH)


def make_table(title: str, *columns: str, right: str = "") -> Table:
    """A plain table; the columns named in `right` (separated by |) are aligned to the right."""
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    aligned = right.split("|") if right else []
    for column in columns:
        table.add_column(column, justify="right" if column in aligned else "left", overflow="fold")
    return table


def print_json(value: object) -> None:
    """Prints a value, dataclasses included, as JSON on standard output."""
    click.echo(json.dumps(value, indent=2, default=_plain))


def _plain(value: Any) -> object:
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else str(value)


def make_folder(folder: Path) -> None:
    """Makes a folder for results; raises ConfigError where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--output: cannot make {folder}: {error.strerror}") from error


def seconds(value: float | None) -> str:
    """A duration for a reader: 18 ms, 1.24 s, 2 m 5 s; a dash where there is none."""
    if value is None:
        return "–"
    if value < 1:
        return f"{value * 1000:.3g} ms" if value < 0.9995 else "1 s"
    if value < 60:
        return f"{value:.3g} s"
    return f"{int(value // 60)} m {int(value % 60)} s"


def share(part: float | None) -> str:
    """A share as a percentage; a dash where there is none."""
    return "–" if part is None else f"{part * 100:.1f} %"
