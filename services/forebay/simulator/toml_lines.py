"""On which line of a TOML file each key stands, so that a complaint can name it."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

Path: TypeAlias = tuple[str | int, ...]

_KEY = re.compile(r"""\s*(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|([A-Za-z0-9_-]+))\s*""")
_TOKEN = re.compile(
    r'''"""(?:[^\\]|\\.)*?"""|\'\'\'.*?\'\'\'|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|\#[^\n]*|[\[{]|[\]}]|\n''', re.DOTALL
)
_PART = re.compile(r"\[(\d+)\]|([^.\[\]]+)")


def key_lines(text: str) -> dict[Path, int]:
    """The line, from 1 on, of each table and key of a valid TOML text; keys inside an inline table have their owner's.

    Elements of arrays of tables have their number in the path: ("groups", 1, "model").
    """
    found = _Tables()
    for number, line in _statements(text):
        stripped = line.strip()
        if stripped.startswith("[["):
            found.open_element(_dotted(stripped[2:])[0], number)
        elif stripped.startswith("["):
            found.open_table(_dotted(stripped[1:])[0], number)
        else:
            found.enter(_dotted(stripped)[0], number)
    return found.lines


def nearest_line(lines: Mapping[Path, int], path: Path) -> int | None:
    """The line of the path or of the innermost table around it that stands in the file."""
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return None


def parse_path(text: str) -> Path:
    """A path such as `groups[1].model` in parts."""
    return tuple(int(number) if number else name for number, name in _PART.findall(text))


@dataclass(slots=True)
class _Tables:
    """The table that statements now fall into, and how many elements each array of tables has so far."""

    lines: dict[Path, int] = field(default_factory=dict)
    counts: dict[Path, int] = field(default_factory=dict)
    table: Path = ()

    def open_element(self, names: Path, number: int) -> None:
        array = self._resolved(names[:-1]) + names[-1:]
        index = self.counts.get(array, 0)
        self.counts[array] = index + 1
        self.table = (*array, index)
        self._note(self.table, number)

    def open_table(self, names: Path, number: int) -> None:
        self.table = self._resolved(names)
        self._note(self.table, number)

    def enter(self, names: Path, number: int) -> None:
        self._note(self.table + names, number)

    def _note(self, path: Path, number: int) -> None:
        for length in range(1, len(path) + 1):
            self.lines.setdefault(path[:length], number)

    def _resolved(self, names: Path) -> Path:
        """The path with the number of the newest element after each array of tables on the way."""
        path: Path = ()
        for name in names:
            path = (*path, name)
            if path in self.counts:
                path = (*path, self.counts[path] - 1)
        return path


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Each header and each key with its value, with the line where it begins."""
    start, number, begun, depth = 0, 1, 1, 0
    for token in _TOKEN.finditer(text):
        word = token.group()
        is_header = depth == 0 and word == "[" and not text[start : token.start()].strip(" \t[")
        if word == "\n" and depth == 0:
            yield from _stated(begun, text[start : token.start()])
            start, begun = token.end(), number + 1
        elif word in "[{" and not is_header:
            depth += 1
        elif word in "]}":
            depth = max(0, depth - 1)
        number += word.count("\n")
    yield from _stated(begun, text[start:])


def _stated(number: int, text: str) -> Iterator[tuple[int, str]]:
    if text.strip() and not text.strip().startswith("#"):
        yield number, text


def _dotted(text: str) -> tuple[Path, str]:
    """The dotted key at the start of a text, and the rest."""
    names: list[str] = []
    while found := _KEY.match(text):
        names.append(next(part for part in found.groups() if part is not None))
        text = text[found.end() :]
        if not text.startswith("."):
            break
        text = text[1:]
    return tuple(names), text
