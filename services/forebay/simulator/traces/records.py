"""Reads JSON lines into records; a line that is not right is an error that names it."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from forebay.core.errors import ConfigError
from forebay.simulator.traces.lines import read_lines

COUNT_MAX = 1_000_000_000


class Record:
    """One JSON object, whose fields are asked for by kind; each asking raises ConfigError where it is not so."""

    __slots__ = ("_line", "_path", "_values")

    def __init__(self, values: Mapping[str, Any], path: Path, line: int) -> None:
        self._values, self._path, self._line = values, path, line

    def __contains__(self, key: str) -> bool:
        return self._values.get(key) is not None

    def count(self, key: str) -> int:
        """A whole number from 0 to a billion."""
        value = self._get(key)
        if type(value) is int and 0 <= value < COUNT_MAX:
            return value
        raise self.wrong(key, "a whole number below a billion, such as 0, 1 or 2")

    def integer(self, key: str) -> int:
        """A whole number from 0 on, however large."""
        value = self._get(key)
        if type(value) is int and 0 <= value < 1 << 62:
            return value
        raise self.wrong(key, "a whole number such as 0, 1 or 2")

    def number(self, key: str) -> float:
        """A finite number from 0 on."""
        value = self._get(key)
        if type(value) in (int, float) and 0 <= value < 1e15:
            return float(value)
        raise self.wrong(key, "a finite number that is not negative")

    def flag(self, key: str) -> bool:
        """True or false."""
        value = self._get(key)
        if isinstance(value, bool):
            return value
        raise self.wrong(key, "true or false")

    def text(self, key: str) -> str:
        """A text."""
        value = self._get(key)
        if isinstance(value, str):
            return value
        raise self.wrong(key, "a text")

    def texts(self, key: str) -> list[str]:
        """A list of texts."""
        value = self._get(key)
        if isinstance(value, list) and all(isinstance(one, str) for one in value):
            return value
        raise self.wrong(key, "a list of texts")

    def integers(self, key: str) -> list[int]:
        """A list of whole numbers from 0 on."""
        value = self._get(key)
        if isinstance(value, list) and all(type(one) is int and 0 <= one < 1 << 62 for one in value):
            return value
        raise self.wrong(key, "a list of whole numbers that are not negative")

    def wrong(self, key: str, needed: str) -> ConfigError:
        """The error that `key` is not what is needed."""
        shown = repr(self._values.get(key))
        return ConfigError(f"{self._path}:{self._line}: {key} must be {needed}, not {shown[:80]}")

    def _get(self, key: str) -> Any:
        if key not in self._values:
            has = ", ".join(self._values) or "nothing"
            raise ConfigError(f"{self._path}:{self._line}: {key} is missing; it has {has}")
        return self._values[key]


def read_records(path: Path) -> Iterator[Record]:
    """The objects of a file of JSON lines, each on a line of its own and none of them blank."""
    for number, line in enumerate(read_lines(path), start=1):
        yield record_of(line, path, number)


def record_of(line: str, path: Path, number: int) -> Record:
    """The object of one line; raises ConfigError where there is none."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}:{number}: not JSON ({error})") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}:{number}: not a JSON object")
    return Record(values, path, number)
