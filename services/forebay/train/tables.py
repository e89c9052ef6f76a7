"""Reads anybody's examples, one answer a row, from JSON lines, CSV and Parquet; a row that is not right is an error."""

import csv
import difflib
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from forebay.core.errors import ConfigError
from forebay.core.prediction import TOKENS_MAX
from forebay.core.prompts import group_of
from forebay.core.tokens import estimate_tokens
from forebay.core.values import InferenceRequest
from forebay.simulator.traces.lines import read_lines
from forebay.simulator.traces.parquet import modules
from forebay.train.data import SOURCES, Examples
from forebay.train.folds import TEST_SHARE, drawn, linked

HEAD_BYTES = 8_192
"""What the predictor is sent of a prompt at most; training sees no more."""
PROMPT_BYTES_MAX = 16 << 20
HEX_DIGITS = 16
SIDES = ("train", "test")
NEAR = 0.8
"""An unknown column that is so much like a known one is a slip of the pen."""

Check: TypeAlias = Callable[[Any], Any]


class NotSo(ValueError):
    """What a value must be."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column: how its values are checked, what stands for it where it is missing, and what a reader is told."""

    check: Check
    default: Any
    text: str


def _whole(least: int, most: int) -> Check:
    def check(value: Any) -> int:
        try:
            number = int(value) if isinstance(value, str) else value
        except ValueError:
            number = None
        if isinstance(number, float) and number.is_integer():
            number = int(number)
        if type(number) is not int or not least <= number <= most:
            raise NotSo(f"a whole number from {least} to {most}")
        return number

    return check


def _number(least: float, most: float) -> Check:
    def check(value: Any) -> float:
        try:
            number = float(value) if type(value) in (int, float, str) else math.nan
        except (ValueError, OverflowError):
            number = math.nan
        if not least <= number <= most:
            raise NotSo(f"a number from {least:g} to {most:g}")
        return number

    return check


def _text(bytes_max: int, least: int = 0) -> Check:
    def check(value: Any) -> str:
        if not isinstance(value, str) or not least <= len(value.encode(errors="replace")) <= bytes_max:
            raise NotSo(f"a text of {least} to {bytes_max:,} bytes")
        return value

    return check


def _flag(value: Any) -> bool:
    known = {"true": True, "1": True, "false": False, "0": False}
    plain = str(value).lower()
    if not isinstance(value, bool | int | str) or plain not in known:
        raise NotSo("true or false")
    return known[plain]


def _hexadecimal(value: Any) -> str:
    digits = set("0123456789abcdef")
    if not isinstance(value, str) or (value and (len(value) != HEX_DIGITS or not set(value) <= digits)):
        raise NotSo(f"{HEX_DIGITS} hexadecimal digits, or empty")
    return value


def _side(value: Any) -> str:
    if value not in SIDES:
        raise NotSo("train or test")
    return str(value)


COLUMNS: Mapping[str, Column] = {
    "prompt": Column(_text(PROMPT_BYTES_MAX), None, "the whole prompt as text"),
    "response_tokens": Column(_whole(0, TOKENS_MAX), None, "tokens of the answer"),
    "prompt_tokens": Column(_whole(1, TOKENS_MAX), 0, "tokens of the prompt; estimated from its bytes where missing"),
    "model": Column(_text(200, 1), "model", "the model that answered"),
    "application": Column(_text(128), "", "what the caller said it was doing"),
    "tenant": Column(_text(128), "default", "who paid"),
    "tokens_max": Column(_whole(0, TOKENS_MAX), 0, "limit of the answer; 0 means none"),
    "temperature": Column(_number(0, 2), 0.0, "sampling temperature"),
    "turn_number": Column(_whole(0, 2**32 - 1), 0, "turn of the conversation, 1 the first; 0 means unknown"),
    "system_digest": Column(_hexadecimal, "", "first 8 bytes of the SHA-256 of the system prompt, in hexadecimal"),
    "censored": Column(_flag, False, "whether the answer was cut, so that it is at least so long"),
    "prompt_id": Column(_text(200, 1), "", "rows with one id stay on one side of the split"),
    "split": Column(_side, "", "train or test; drawn by prompt where missing"),
    "licence": Column(_text(200), "", "licence of the prompt, for the record of the model"),
}
"""The columns of a table; those without a default are required. Others are left out, and a note says so."""
REQUIRED = tuple(name for name, column in COLUMNS.items() if column.default is None)


@dataclass(frozen=True, slots=True)
class Table:
    """Examples of one or several files; `sides` says train, test or nothing of each, `digests` the files' SHA-256."""

    examples: Examples
    sides: npt.NDArray[np.str_]
    digests: Mapping[str, str]
    notes: tuple[str, ...]
    licence: str = ""
    """The licences that the rows name; empty where one names none, so that somebody must say."""

    def tested(self, seed: int) -> npt.NDArray[np.bool_]:
        """Rows to test on: as the files say, otherwise a fifth of the prompts, drawn by the hash of their substance."""
        return np.where(self.sides == "", drawn(self.examples.groups, TEST_SHARE, seed), self.sides == "test")

    def split(self, seed: int) -> tuple[Examples, Examples]:
        """To learn from, and to test on; what shares its prompt with a tested row is in none of the two."""
        tested = self.tested(seed)
        shared = np.isin(self.examples.groups, self.examples.groups[tested])
        return self.examples.where(~shared), self.examples.where(tested)


def read_tables(paths: Sequence[Path]) -> Table:
    """All rows of the files, in order; a folder is one of the open sets' (`data.SOURCES`).

    The name tells the kind: .jsonl, .csv (both also .gz), .parquet. Raises ConfigError naming file, row and column.
    """
    files = [file for path in paths for file in _files(path)]
    if len({file.name for file, _ in files}) < len(files):
        raise ConfigError("two files have the same name; give each a name of its own")
    rows: list[dict[str, Any]] = []
    sources: list[str] = []
    notes: list[str] = []
    for file, reader in files:
        before = len(rows)
        rows += reader(file, notes)
        if len(rows) == before:
            raise ConfigError(f"{file} has no rows; give a file with at least one")
        sources += [_stem(file)] * (len(rows) - before)
    digests = {file.name: _digest(file) for file, _ in files}
    sides = np.array([row["split"] for row in rows])
    return Table(_examples(rows, sources), sides, digests, tuple(notes), _licence(rows))


_Reader: TypeAlias = Callable[[Path, list[str]], list[dict[str, Any]]]


def _files(path: Path) -> Iterator[tuple[Path, _Reader]]:
    if path.is_dir():
        yield from _open_sets(path)
        return
    if not path.is_file():
        raise ConfigError(f"{path} is not there; give a file (.jsonl, .csv, .parquet) or a folder with the open sets")
    name = path.name.removesuffix(".gz")
    for suffix, reader in _READERS.items():
        if name.endswith(suffix) and (suffix != ".parquet" or name == path.name):
            yield path, reader
            return
    raise ConfigError(f"{path}: the name must end in .jsonl, .csv (plain or .gz) or .parquet")


def _open_sets(folder: Path) -> Iterator[tuple[Path, _Reader]]:
    inside = folder / "open" / "prompts"
    folder = inside if inside.is_dir() else folder
    known = [folder / source.files[0] for source in SOURCES if (folder / source.files[0]).is_file()]
    if not known:
        raise ConfigError(f"{folder} has none of the open sets ({SOURCES[0].files[0]}, …); give files instead")
    for path in known:
        yield path, _read_open_set


def _read_open_set(path: Path, notes: list[str]) -> list[dict[str, Any]]:
    """The rows of one open set; tested are the prompts whose id is a multiple of 5, as for the model that ships."""
    from forebay.train import data

    source = next(one for one in SOURCES if one.files[0] == path.name)
    rows = data.read(path.parent, [source])
    names = {"prompt_tokens_llama2": "prompt_tokens", "response_tokens_llama2": "response_tokens"}
    found = rows.rename(columns=names)[["prompt", "response_tokens", "prompt_tokens", "model", "prompt_id"]]
    records: list[dict[str, Any]] = found.to_dict("records")
    for record in records:
        record["licence"] = f"{source.licence} ({source.origin})"
        record["split"] = SIDES[int(record["prompt_id"][-4:], 16) % data.TEST_SHARE == 0]
        record["prompt_tokens"] = max(1, record["prompt_tokens"])
    notes.append(f"{path.name}: {source.origin} ({source.licence}); test prompts as for the model that ships")
    return [_checked(record, f"{path}: row {number}") for number, record in enumerate(records, start=1)]


def _read_json(path: Path, notes: list[str]) -> list[dict[str, Any]]:
    found, seen = [], set[str]()
    for number, line in enumerate(read_lines(path), start=1):
        where = f"{path}:{number}"
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{where}: not JSON ({error})") from error
        if not isinstance(values, dict):
            raise ConfigError(f"{where}: not a JSON object")
        _refuse_slips(set(values) - seen, where)
        seen |= set(values)
        found.append(_checked(values, where))
    _note_unknown(path, seen, notes)
    return found


def _read_csv(path: Path, notes: list[str]) -> list[dict[str, Any]]:
    csv.field_size_limit(PROMPT_BYTES_MAX)
    reader = csv.DictReader(read_lines(path), strict=True, restkey="")
    found = []
    try:
        names = reader.fieldnames or []
        _refuse_slips(set(names), f"{path}:1")
        for values in reader:
            where = f"{path}:{reader.line_num}"
            if "" in values or None in values.values():
                raise ConfigError(f"{where}: the row has not the {len(names)} cells of the header")
            # An empty cell is a missing value, but a prompt may be empty.
            given = {name: value for name, value in values.items() if value != "" or name == "prompt"}
            found.append(_checked(given, where))
    except csv.Error as error:
        raise ConfigError(f"{path}:{reader.line_num}: not CSV ({error})") from error
    _note_unknown(path, set(names), notes)
    return found


def _read_parquet(path: Path, notes: list[str]) -> list[dict[str, Any]]:
    pyarrow, parquet = modules(path)
    try:
        names = list(parquet.read_schema(path).names)
        _refuse_slips(set(names), str(path))
        rows = parquet.read_table(path, columns=[name for name in names if name in COLUMNS]).to_pylist()
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise ConfigError(f"{path}: cannot read ({error})") from error
    _note_unknown(path, set(names), notes)
    return [_checked(row, f"{path}: row {number}") for number, row in enumerate(rows, start=1)]


_READERS: Mapping[str, _Reader] = {".jsonl": _read_json, ".csv": _read_csv, ".parquet": _read_parquet}


def _checked(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    found = {}
    for name, column in COLUMNS.items():
        value = values.get(name)
        if value is None and column.default is None:
            has = ", ".join(key for key in values if isinstance(key, str)) or "nothing"
            raise ConfigError(f"{where}: {name} ({column.text}) is missing; it has {has[:200]}")
        try:
            found[name] = column.default if value is None else column.check(value)
        except NotSo as error:
            # A prompt may be secret: it is never shown.
            shown = "" if name == "prompt" else f", not {str(value)[:60]!r}"
            raise ConfigError(f"{where}: {name} must be {error}{shown}") from error
    return found


def _refuse_slips(names: set[str], where: str) -> None:
    for name in sorted(names - set(COLUMNS)):
        near = difflib.get_close_matches(name.casefold(), COLUMNS, n=1, cutoff=NEAR)
        if near and near[0] not in names:
            raise ConfigError(f"{where}: unknown column {name!r}; did you mean {near[0]!r}?")


def _note_unknown(path: Path, names: set[str], notes: list[str]) -> None:
    unknown = sorted(names - set(COLUMNS))
    if unknown:
        notes.append(f"{path.name}: not used: {', '.join(unknown)[:200]}")
    if "prompt_tokens" not in names:
        notes.append(f"{path.name}: prompt_tokens is estimated from the prompt's bytes")


def _licence(rows: Sequence[Mapping[str, Any]]) -> str:
    named = {row["licence"] for row in rows}
    return "" if "" in named else ", ".join(sorted(named))


def _examples(rows: Sequence[Mapping[str, Any]], sources: Sequence[str]) -> Examples:
    return Examples(
        queries=tuple(_query(row, number) for number, row in enumerate(rows)),
        tokens=np.array([row["response_tokens"] for row in rows], dtype=np.float64),
        sources=np.array(sources),
        groups=linked([group_of(row["prompt"]) for row in rows], [row["prompt_id"] for row in rows]),
        censored=np.array([row["censored"] for row in rows], dtype=np.bool_),
    )


_SAME = ("model", "application", "tenant", "tokens_max", "temperature", "turn_number", "system_digest")


def _query(row: Mapping[str, Any], number: int) -> InferenceRequest:
    text: str = row["prompt"]
    return InferenceRequest(
        request_id=row["prompt_id"] or f"row-{number}",
        prompt_tokens=row["prompt_tokens"] or max(1, estimate_tokens(text.encode(errors="replace").decode())),
        prompt_head=head(text),
        **{name: row[name] for name in _SAME},
    )


def head(text: str) -> str:
    """The part of a prompt that the predictor is sent: as many whole characters as fit into `HEAD_BYTES`."""
    return text.encode(errors="replace")[:HEAD_BYTES].decode(errors="ignore")


def _stem(path: Path) -> str:
    name = path.name.removesuffix(".gz").removesuffix(".prompts.parquet")
    return name.removesuffix(".jsonl").removesuffix(".csv").removesuffix(".parquet")


def _digest(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
