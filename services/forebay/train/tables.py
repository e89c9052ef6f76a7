"""Reads anybody's examples, one answer a row, from JSON lines, CSV and Parquet; a row that is not right is an error."""

import csv
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from forebay.core.errors import ConfigError
from forebay.core.prompts import excerpt, group_of
from forebay.core.tokens import estimate_tokens
from forebay.core.values import InferenceRequest
from forebay.simulator.traces.lines import read_lines
from forebay.simulator.traces.parquet import modules
from forebay.train.columns import COLUMNS, PROMPT_BYTES_MAX, SIDES, checked, refuse_slips
from forebay.train.data import SOURCES, Examples
from forebay.train.folds import TEST_SHARE, drawn, linked

HEAD_BYTES = 2_048
"""What a gateway sends of a prompt where nobody sets prompt_head_bytes: training must see no more than is seen live."""


@dataclass(frozen=True, slots=True)
class Table:
    """Examples of one or several files; `sides` says train, test or nothing of each, `digests` the files' SHA-256."""

    examples: Examples
    sides: npt.NDArray[np.str_]
    digests: Mapping[str, str]
    notes: tuple[str, ...]
    licence: str = ""
    """The licences that the rows name; empty where one names none, so that somebody must say."""
    head_bytes: int = 0
    """How much of each prompt the examples hold; 0 where they hold features."""

    def tested(self, seed: int) -> npt.NDArray[np.bool_]:
        """Rows to test on: as the files say, otherwise a fifth of the prompts, drawn by the hash of their substance."""
        return np.where(self.sides == "", drawn(self.examples.groups, TEST_SHARE, seed), self.sides == "test")

    def split(self, seed: int) -> tuple[Examples, Examples]:
        """To learn from, and to test on; what shares its prompt with a tested row is in none of the two."""
        tested = self.tested(seed)
        shared = np.isin(self.examples.groups, self.examples.groups[tested])
        return self.examples.where(~shared), self.examples.where(tested)


def read_tables(paths: Sequence[Path], head_bytes: int = HEAD_BYTES) -> Table:
    """All rows of the files, in order; a folder is one of the open sets' (`data.SOURCES`).

    The name tells the kind: .jsonl, .csv (both also .gz), .parquet. Examples hold the first `head_bytes` of prompts;
    they are split by all of them. Raises ConfigError naming file, row and column.
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
    read = [one for file, _ in files for one in (file, _answers_of(file)) if one.is_file()]
    digests = {file.name: _digest(file) for file in read}
    sides = np.array([row["split"] for row in rows])
    return Table(_examples(rows, sources, head_bytes), sides, digests, tuple(notes), _licence(rows), head_bytes)


def _answers_of(path: Path) -> Path:
    """The other half of an open set; of any other file itself."""
    return path.with_name(path.name.replace(".prompts.parquet", ".answers.parquet"))


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
    return [checked(record, f"{path}: row {number}") for number, record in enumerate(records, start=1)]


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
        refuse_slips(set(values) - seen, where)
        seen |= set(values)
        found.append(checked(values, where))
    _note_unknown(path, seen, notes)
    return found


def _read_csv(path: Path, notes: list[str]) -> list[dict[str, Any]]:
    csv.field_size_limit(PROMPT_BYTES_MAX)
    reader = csv.DictReader(read_lines(path), strict=True, restkey="")
    found = []
    try:
        names = reader.fieldnames or []
        refuse_slips(set(names), f"{path}:1")
        for values in reader:
            where = f"{path}:{reader.line_num}"
            if "" in values or None in values.values():
                raise ConfigError(f"{where}: the row has not the {len(names)} cells of the header")
            # An empty cell is a missing value, but a prompt may be empty.
            given = {name: value for name, value in values.items() if value != "" or name == "prompt"}
            found.append(checked(given, where))
    except csv.Error as error:
        raise ConfigError(f"{path}:{reader.line_num}: not CSV ({error})") from error
    _note_unknown(path, set(names), notes)
    return found


def _read_parquet(path: Path, notes: list[str]) -> list[dict[str, Any]]:
    pyarrow, parquet = modules(path)
    try:
        names = list(parquet.read_schema(path).names)
        refuse_slips(set(names), str(path))
        rows = parquet.read_table(path, columns=[name for name in names if name in COLUMNS]).to_pylist()
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise ConfigError(f"{path}: cannot read ({error})") from error
    _note_unknown(path, set(names), notes)
    return [checked(row, f"{path}: row {number}") for number, row in enumerate(rows, start=1)]


_READERS: Mapping[str, _Reader] = {".jsonl": _read_json, ".csv": _read_csv, ".parquet": _read_parquet}


def _note_unknown(path: Path, names: set[str], notes: list[str]) -> None:
    unknown = sorted(names - set(COLUMNS))
    if unknown:
        notes.append(f"{path.name}: not used: {', '.join(unknown)[:200]}")
    if "prompt_tokens" not in names:
        notes.append(f"{path.name}: prompt_tokens is estimated from the prompt's bytes")


def _licence(rows: Sequence[Mapping[str, Any]]) -> str:
    named = {row["licence"] for row in rows}
    return "" if "" in named else ", ".join(sorted(named))


def _examples(rows: Sequence[Mapping[str, Any]], sources: Sequence[str], head_bytes: int) -> Examples:
    return Examples(
        queries=tuple(_query(row, number, head_bytes) for number, row in enumerate(rows)),
        tokens=np.array([row["response_tokens"] for row in rows], dtype=np.float64),
        sources=np.array(sources),
        groups=linked([group_of(row["prompt"]) for row in rows], [row["prompt_id"] for row in rows]),
        censored=np.array([row["censored"] for row in rows], dtype=np.bool_),
    )


_SAME = ("model", "application", "tenant", "tokens_max", "temperature", "turn_number", "system_digest")


def _query(row: Mapping[str, Any], number: int, head_bytes: int) -> InferenceRequest:
    text: str = row["prompt"]
    return InferenceRequest(
        request_id=row["prompt_id"] or f"row-{number}",
        prompt_tokens=row["prompt_tokens"] or max(1, estimate_tokens(text.encode(errors="replace").decode())),
        prompt_head=excerpt(text, head_bytes),
        **{name: row[name] for name in _SAME},
    )


def _stem(path: Path) -> str:
    name = path.name.removesuffix(".gz").removesuffix(".prompts.parquet")
    return name.removesuffix(".jsonl").removesuffix(".csv").removesuffix(".parquet")


def _digest(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
