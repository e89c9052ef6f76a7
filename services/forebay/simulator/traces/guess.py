"""Tells the format of a file from its name and its first line."""

import csv
import json
from contextlib import closing
from pathlib import Path

from forebay.core.errors import ConfigError
from forebay.simulator.traces import azure, burstgpt, splitwise, vidur
from forebay.simulator.traces.lines import read_lines
from forebay.simulator.traces.servegen import RATES_NAME

HEADERS = {
    "azure": azure.COLUMNS,
    "burstgpt": burstgpt.COLUMNS,
    "sageserve": splitwise.SAGESERVE_COLUMNS,
    "splitwise": splitwise.SPLITWISE_COLUMNS,
    "vidur": vidur.COLUMNS,
}
"""The columns of each table; where two would do, the first."""
KEYS = {"mooncake": {"timestamp", "input_length", "output_length"}, "requestlog": {"arrival_us", "response_tokens"}}


def guess(path: Path) -> str:
    """The name of the format that the file seems to have; raises ConfigError where it is like none."""
    found = _by_name(path) or _by_first_line(path)
    if found:
        return found
    known = ", ".join((*HEADERS, *KEYS, "servegen", "workload"))
    raise ConfigError(f"{path}: cannot tell the format from its first line; name one of {known}")


def _by_name(path: Path) -> str:
    if path.is_dir() or RATES_NAME.fullmatch(path.name):
        return "servegen"
    return "workload" if path.suffix == ".parquet" else ""


def _by_first_line(path: Path) -> str:
    with closing(read_lines(path)) as lines:
        line = next(lines, "")
    try:
        value = json.loads(line)
        names = set(value) if isinstance(value, dict) else set()
    except (ValueError, RecursionError):
        names = set(next(csv.reader([line]), ()))
    shapes = {**{name: set(columns) for name, columns in HEADERS.items()}, **KEYS}
    return next((name for name, needed in shapes.items() if needed <= names), "")
