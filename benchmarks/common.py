"""What every benchmark prints and writes: a table, its figures as JSON, and one closing line `NAME: figure=value`."""

import json
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import click
import numpy as np
from rich.console import Console
from rich.table import Table

F = TypeVar("F", bound=Callable[..., Any])
Cell = str | int | float


@dataclass
class Report:
    """Gathers tables and figures; a figure's name ends in its unit."""

    name: str
    quick: bool
    figures: dict[str, float] = field(default_factory=dict)
    tables: list[dict[str, Any]] = field(default_factory=list)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        """Prints a table now, plain where the output is not a terminal, and keeps its rows."""
        self.tables.append({"title": title, "columns": list(columns), "rows": [list(row) for row in rows]})
        if sys.stdout.isatty():
            _print_rich(title, columns, rows)
        else:
            _print_plain(title, columns, rows)

    def close(self, path: str | None) -> None:
        """Writes the figures to `path`, where given, and prints the closing line."""
        if path:
            Path(path).write_text(json.dumps(self._document(), indent=2) + "\n")
        print(f"{self.name}: {' '.join(f'{key}={text(value)}' for key, value in self.figures.items())}", flush=True)

    def _document(self) -> Mapping[str, Any]:
        machine = {"python": platform.python_version(), "machine": platform.machine(), "cores": os.cpu_count()}
        return {
            "benchmark": self.name,
            "quick": self.quick,
            "machine": machine,
            "figures": self.figures,
            "tables": self.tables,
        }


def options(function: F) -> F:
    """The options that every benchmark takes: --quick and --json."""
    function = click.option("--json", "json_path", type=click.Path(dir_okay=False), help="Write the figures there.")(
        function
    )
    return click.option("--quick", is_flag=True, help="Fewer repetitions; ends within 50 s.")(function)


def percentiles(seconds: Sequence[float], scale: float = 1e6) -> tuple[float, float]:
    """Median and 99th percentile, in microseconds unless scaled otherwise."""
    p50, p99 = np.percentile(np.asarray(seconds), (50, 99)) * scale
    return float(p50), float(p99)


def text(value: Cell) -> str:
    """A number with three significant digits and no exponent; words as they are."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) or abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"


def _print_rich(title: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(*map(text, row))
    Console().print(table)


def _print_plain(title: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    cells = [list(columns), *(list(map(text, row)) for row in rows)]
    widths = [max(len(row[index]) for row in cells) for index in range(len(columns))]
    print(title)
    for row in cells:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))
    print(flush=True)
