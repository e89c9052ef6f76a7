"""Reads columns of Parquet files; whatever is wrong with one is an error with its path."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from forebay.core.errors import ConfigError


def read_columns(path: Path, names: Sequence[str]) -> Any:
    """A pyarrow table of these columns; raises ConfigError where it cannot be had."""
    pyarrow, parquet = modules(path)
    try:
        return parquet.read_table(path, columns=list(names)).select(list(names))
    except (OSError, KeyError, ValueError, pyarrow.ArrowException) as error:
        raise ConfigError(f"{path}: cannot read the columns {', '.join(names)} ({error})") from error


def modules(path: Path) -> tuple[Any, Any]:
    """pyarrow and its Parquet module; raises ConfigError where they are not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ConfigError(f"{path}: Parquet needs pyarrow; install it with: pip install 'forebay[data]'") from error
    return pyarrow, pyarrow.parquet
