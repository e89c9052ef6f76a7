"""Reads prompts with what is known of their answers: JSON lines, or Parquet pairs of prompts and answers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forebay.core.errors import ConfigError
from forebay.core.tokens import estimate_tokens
from forebay.simulator.traces.lines import read_lines
from forebay.simulator.traces.parquet import modules
from forebay.simulator.traces.records import Record, record_of
from forebay.simulator.workload.alter import attach_prompts
from forebay.simulator.workload.base import PREDICTED, Workload

ANSWERS_SUFFIX = ".answers.parquet"
PROMPTS_SUFFIX = ".prompts.parquet"


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt, what it is for, how long its answer is known to be, and its own length; None where nobody knows.

    `predicted_tokens` are quantiles of the answer's length that a predictor gave beforehand, at `QUANTILE_LEVELS`;
    empty where nobody did.
    """

    text: str
    application: str = ""
    output_tokens: int | None = None
    prompt_tokens: int | None = None
    predicted_tokens: tuple[int, ...] = ()


def read_prompts(path: Path) -> list[Prompt]:
    """The prompts of one file: `*.prompts.parquet` with its `*.answers.parquet` beside it, or JSON lines with "prompt"
    and perhaps "application", "output_tokens", "prompt_tokens" and "predicted_tokens" (four quantiles).

    Raises ConfigError, with the line number where there is one.
    """
    prompts = _read_pair(path) if path.name.endswith(".parquet") else list(_read_lines(path))
    if not prompts:
        raise ConfigError(f"{path} has no prompts; give a file with at least one")
    return prompts


def pair(workload: Workload, prompts: Sequence[Prompt], seed: int = 0) -> Workload:
    """The workload's arrivals with these prompts and their lengths, see `alter.attach_prompts`.

    Prompts whose answer has no known length are left out; where a prompt's own length is not known, it is estimated
    from the text. Raises ConfigError where nothing is left, ValueError for a closed loop.
    """
    known = [prompt for prompt in prompts if prompt.output_tokens]
    if not known:
        raise ConfigError("no prompt has an answer of known length; give output_tokens with the prompts")
    return attach_prompts(
        workload,
        [prompt.text for prompt in known],
        [prompt.prompt_tokens or max(estimate_tokens(prompt.text), 1) for prompt in known],
        [prompt.output_tokens or 1 for prompt in known],
        [prompt.application for prompt in known],
        seed,
        [prompt.predicted_tokens for prompt in known],
    )


def _read_lines(path: Path) -> Iterator[Prompt]:
    for number, line in enumerate(read_lines(path), start=1):
        if line.strip():
            yield _prompt(record_of(line, path, number))


def _prompt(record: Record) -> Prompt:
    text = record.text("prompt")
    if not text:
        raise record.wrong("prompt", "a text that is not empty")
    application = record.text("application") if "application" in record else ""
    lengths = _length(record, "output_tokens"), _length(record, "prompt_tokens")
    return Prompt(text, application, *lengths, _predicted(record))


def _predicted(record: Record) -> tuple[int, ...]:
    if "predicted_tokens" not in record:
        return ()
    quantiles = record.integers("predicted_tokens")
    if len(quantiles) != len(PREDICTED) or quantiles != sorted(quantiles) or quantiles[0] < 1:
        raise record.wrong("predicted_tokens", "four lengths of at least 1 that do not decrease")
    return tuple(quantiles)


def _length(record: Record, key: str) -> int | None:
    if key not in record:
        return None
    length = record.count(key)
    if not length:
        raise record.wrong(key, "a count of at least 1, or be left out")
    return length


def _read_pair(path: Path) -> list[Prompt]:
    """One prompt a row, with the answer length of its first model by name: a prompt has one length, whoever asks."""
    if not path.name.endswith(PROMPTS_SUFFIX):
        raise ConfigError(f"{path} must be named *{PROMPTS_SUFFIX}, with *{ANSWERS_SUFFIX} beside it")
    prompts = _table(path, ["prompt_id", "prompt"], ["prompt_tokens_llama2"])
    answers = _table(path.with_name(path.name.removesuffix(PROMPTS_SUFFIX) + ANSWERS_SUFFIX), _ANSWER_COLUMNS)
    known: dict[str, dict[str, Any]] = {}
    for answer in sorted(answers, key=lambda row: (row["prompt_id"], row["model"], row["task"])):
        if answer["response_tokens_llama2"] > 0:
            known.setdefault(answer["prompt_id"], answer)
    return [
        Prompt(row["prompt"], first["task"], first["response_tokens_llama2"], row.get("prompt_tokens_llama2"))
        for row in prompts
        if row["prompt"] and (first := known.get(row["prompt_id"]))
    ]


_ANSWER_COLUMNS = ["prompt_id", "model", "task", "response_tokens_llama2"]


def _table(path: Path, columns: list[str], optional: Sequence[str] = ()) -> list[dict[str, Any]]:
    pyarrow, parquet = modules(path)
    try:
        there = [name for name in optional if name in parquet.read_schema(path).names]
        rows: list[dict[str, Any]] = parquet.read_table(path, columns=columns + there).to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        raise ConfigError(f"cannot read {path} with the columns {', '.join(columns)}: {error}") from error
    missing = [name for name in columns if rows and name not in rows[0]]
    if missing:
        raise ConfigError(f"cannot read {path}: the columns {', '.join(missing)} are missing")
    return rows
