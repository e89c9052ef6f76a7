"""Reads text files line by line, plain or .gz; whatever is wrong with a file names the line."""

import gzip
import zlib
from collections.abc import Generator
from pathlib import Path
from typing import IO, cast

from forebay.core.errors import ConfigError


def read_lines(path: Path) -> Generator[str, None, None]:
    """The lines with their ends.

    Raises ConfigError where the file is not there, ends in the middle of its compressed data, or is not UTF-8.
    """
    number = 0
    try:
        with _open(path) as data:
            for number, line in enumerate(data, start=1):
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}:{number}: not UTF-8 text ({error.reason}); save the file as UTF-8") from error
    except (OSError, EOFError, zlib.error) as error:
        where = f"{path}:{number + 1}" if number else f"{path}"
        raise ConfigError(f"{where}: cannot read ({_cause(error)}); check the path, or fetch the file again") from error


def _open(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def _cause(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
