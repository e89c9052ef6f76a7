"""Reads traces and prompts (Azure's CSV, JSON lines, Parquet pairs of prompts and answers); strict about every row."""

import csv
import gzip
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from forebay.core.errors import ConfigError

TRACE_COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
ANSWERS_SUFFIX = ".answers.parquet"
PROMPTS_SUFFIX = ".prompts.parquet"
SAMPLES = Path(__file__).resolve().parents[1] / "samples"


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request of a trace: seconds after the first, and its token counts."""

    at_s: float
    context_tokens: int
    generated_tokens: int


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt, what it is for, and how long its answer is known to be; None where nobody knows."""

    text: str
    application: str = ""
    output_tokens: int | None = None


def read_trace(path: Path) -> list[Arrival]:
    """The arrivals of a CSV in the format of the Azure LLM inference traces, plain or .gz.

    Raises ConfigError with the line number for a row that is not a time and two counts, or that goes back in time.
    """
    rows = csv.reader(io.StringIO(_text(path)))
    header = tuple(next(rows, ()))
    if header != TRACE_COLUMNS:
        raise ConfigError(f"{path}:1: the columns must be {','.join(TRACE_COLUMNS)}, not {','.join(header) or 'none'}")
    arrivals: list[Arrival] = []
    start: datetime | None = None
    for row in rows:
        where = f"{path}:{rows.line_num}"
        time = _time(row, where)
        start = start or time
        arrival = Arrival((time - start).total_seconds(), _count(row[1], where), _count(row[2], where))
        if arrivals and arrival.at_s < arrivals[-1].at_s:
            raise ConfigError(f"{where}: the time {row[0]} is before that of the row above; sort the file by TIMESTAMP")
        arrivals.append(arrival)
    if not arrivals:
        raise ConfigError(f"{path} has no rows; give a trace with at least one request")
    return arrivals


def _time(row: list[str], where: str) -> datetime:
    if len(row) != len(TRACE_COLUMNS):
        raise ConfigError(f"{where}: {len(row)} fields where {len(TRACE_COLUMNS)} are needed")
    try:
        return datetime.fromisoformat(row[0])
    except ValueError as error:
        raise ConfigError(f"{where}: {row[0]!r} is not a time such as 2023-11-16 18:15:46.6805900") from error


def _count(value: str, where: str) -> int:
    if not (value.isascii() and value.isdigit()):
        raise ConfigError(f"{where}: {value!r} is not a count of tokens (0, 1, 2, …)")
    return int(value)


def read_prompts(path: Path) -> list[Prompt]:
    """The prompts of one file: `*.prompts.parquet` with its `*.answers.parquet` beside it, or JSON lines.

    Raises ConfigError, with the line number where there is one.
    """
    prompts = _read_pair(path) if path.name.endswith(".parquet") else list(_read_lines(path))
    if not prompts:
        raise ConfigError(f"{path} has no prompts; give a file with at least one")
    return prompts


def _read_lines(path: Path) -> Iterator[Prompt]:
    for number, line in enumerate(_text(path).splitlines(), start=1):
        if line.strip():
            yield _prompt(_object(line, f"{path}:{number}"), f"{path}:{number}")


def _object(line: str, where: str) -> Mapping[str, Any]:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise ConfigError(f"{where}: not JSON ({error})") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: not a JSON object")
    return value


def _prompt(value: Mapping[str, Any], where: str) -> Prompt:
    text, application, tokens = value.get("prompt"), value.get("application", ""), value.get("output_tokens")
    if not isinstance(text, str) or not text:
        raise ConfigError(f'{where}: "prompt" must be a text that is not empty')
    if not isinstance(application, str):
        raise ConfigError(f'{where}: "application" must be a text')
    if tokens is not None and (not isinstance(tokens, int) or isinstance(tokens, bool) or tokens < 1):
        raise ConfigError(f'{where}: "output_tokens" must be a count of at least 1, or be left out')
    return Prompt(text, application, tokens)


def can_read_parquet() -> bool:
    """Whether the Parquet reader is installed."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        return False
    return True


def _read_pair(path: Path) -> list[Prompt]:
    """One prompt a row, with the answer length of its first model by name: a prompt has one length, whoever asks."""
    if not path.name.endswith(PROMPTS_SUFFIX):
        raise ConfigError(f"{path} must be named *{PROMPTS_SUFFIX}, with *{ANSWERS_SUFFIX} beside it")
    prompts = _table(path, ["prompt_id", "prompt"])
    answers = _table(path.with_name(path.name.removesuffix(PROMPTS_SUFFIX) + ANSWERS_SUFFIX), _ANSWER_COLUMNS)
    known: dict[str, dict[str, Any]] = {}
    for answer in sorted(answers, key=lambda row: (row["prompt_id"], row["model"], row["task"])):
        if answer["response_tokens_llama2"] > 0:
            known.setdefault(answer["prompt_id"], answer)
    return [
        Prompt(row["prompt"], known[row["prompt_id"]]["task"], known[row["prompt_id"]]["response_tokens_llama2"])
        for row in prompts
        if row["prompt"] and row["prompt_id"] in known
    ]


_ANSWER_COLUMNS = ["prompt_id", "model", "task", "response_tokens_llama2"]


def _table(path: Path, columns: list[str]) -> list[dict[str, Any]]:
    if not can_read_parquet():
        raise ConfigError(f"reading {path.name} needs pyarrow; install it with: pip install 'forebay[data]'")
    import pyarrow
    import pyarrow.parquet

    try:
        rows: list[dict[str, Any]] = pyarrow.parquet.read_table(path, columns=columns).to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        raise ConfigError(f"cannot read {path} with the columns {', '.join(columns)}: {error}") from error
    return rows


def _text(path: Path) -> str:
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        return data.decode()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
