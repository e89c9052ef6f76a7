"""The table of measured answer lengths: what is asked, what came of it, and a file that outlives any interruption."""

import contextlib
import csv
import fcntl
import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import zip_longest
from pathlib import Path
from typing import IO

import numpy as np

from forebay.core.errors import ConfigError
from forebay.core.prediction import system_digest

PROMPT_ID_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt to ask, where it comes from and on what terms, and what it is for."""

    text: str
    source: str
    licence: str
    application: str = ""

    @property
    def prompt_id(self) -> str:
        """The first 12 hex digits of the text's SHA-1, as in the open tables of prompts."""
        return hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()[:PROMPT_ID_DIGITS]


@dataclass(frozen=True, slots=True)
class Setting:
    """How a model is asked; `model` is the name that the table gives it."""

    model: str
    temperature: float
    tokens_max: int
    system: str = ""

    @property
    def system_digest(self) -> str:
        """The name of the system prompt, empty where there is none."""
        return system_digest(self.system)


@dataclass(frozen=True, slots=True)
class Ask:
    """One answer to get; equal asks have equal seeds."""

    question: Question
    setting: Setting
    sample: int
    seed: int

    @property
    def key(self) -> "Key":
        """What no two rows of a table share."""
        setting = self.setting
        return Key(
            self.question.prompt_id, setting.model, setting.system_digest, f"{setting.temperature:g}", str(self.sample)
        )


@dataclass(frozen=True, slots=True)
class Key:
    """Names one answer; texts as they stand in the file."""

    prompt_id: str
    model: str
    system_digest: str
    temperature: str
    sample: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said, by its own count of tokens; `finish` is its finish reason."""

    prompt_tokens: int
    response_tokens: int
    finish: str

    @property
    def censored(self) -> bool:
        """Whether the answer was cut, so that it is at least so long."""
        return self.finish == "length"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; `train.tables` reads those whose table keeps the prompts' text."""

    prompt_id: str
    source: str
    licence: str
    application: str
    model: str
    system_digest: str
    temperature: str
    sample: int
    seed: int
    tokens_max: int
    prompt_tokens: int
    response_tokens: int
    censored: str
    finish: str
    prompt: str


COLUMNS = tuple(field.name for field in fields(Row))


def row_of(ask: Ask, answer: Answer) -> Row:
    """The line that an answer makes."""
    question, setting = ask.question, ask.setting
    return Row(
        prompt_id=question.prompt_id,
        source=question.source,
        licence=question.licence,
        application=question.application,
        model=setting.model,
        system_digest=setting.system_digest,
        temperature=f"{setting.temperature:g}",
        sample=ask.sample,
        seed=ask.seed,
        tokens_max=setting.tokens_max,
        prompt_tokens=answer.prompt_tokens,
        response_tokens=answer.response_tokens,
        censored="true" if answer.censored else "false",
        finish=answer.finish,
        prompt=question.text,
    )


def choose(questions: Iterable[Question], count: int | None, seed: int) -> list[Question]:
    """`count` different prompts, balanced: the kinds of each source in turn, each in seeded order.

    A kind is an application up to its first "_", so that translate_en-de and translate_de-en count as one. Any
    beginning of the list is balanced too. None takes all.
    """
    kinds: dict[tuple[str, str], list[Question]] = {}
    for question in {question.prompt_id: question for question in questions}.values():
        kinds.setdefault((question.source, question.application.split("_")[0]), []).append(question)
    rng = np.random.default_rng(seed)
    for kind in sorted(kinds):
        found = sorted(kinds[kind], key=lambda question: question.prompt_id)
        kinds[kind] = [found[int(index)] for index in rng.permutation(len(found))]
    rounds = zip_longest(*(kinds[kind] for kind in sorted(kinds)))
    return [question for one in rounds for question in one if question is not None][:count]


def plan(questions: Sequence[Question], settings: Sequence[Setting], sample_count: int, seed: int) -> Iterator[Ask]:
    """All that is to be asked, prompt by prompt; temperature 0 is asked once, as it has no second sample."""
    for question in questions:
        for setting in settings:
            for sample in range(sample_count if setting.temperature else 1):
                yield Ask(question, setting, sample, _seed(seed, question.prompt_id, setting.temperature, sample))


def _seed(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "big") >> 1


class Table:
    """An append-only CSV file, with or without the prompts' text.

    Each line is written in one piece, so whoever ends the process loses no line but the last, and that one is mended
    away by the next to open the file. One process at a time may hold it. Raises ConfigError for a file that is
    something else, or that another process holds.
    """

    def __init__(self, path: Path, has_text: bool = False) -> None:
        self._path = path
        self._columns = COLUMNS if has_text else COLUMNS[:-1]
        self._file = _open(path)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.close()
            raise ConfigError(f"another process writes {path}; name another file, or wait for its end") from error
        with contextlib.ExitStack() as stack:
            stack.callback(self._file.close)
            self.rows = self._read()
            stack.pop_all()
        self._keys = {key_of(row) for row in self.rows}

    def __enter__(self) -> "Table":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __contains__(self, ask: Ask) -> bool:
        return ask.key in self._keys

    def append(self, row: Row) -> None:
        """Writes one line, which is in the file when the call returns."""
        values = [str(getattr(row, name)) for name in self._columns]
        self._write(values)
        self.rows.append(dict(zip(self._columns, values, strict=True)))
        self._keys.add(key_of(self.rows[-1]))

    def _read(self) -> list[dict[str, str]]:
        """The whole lines. A file is changed only once it is known to be a table."""
        content = self._file.read()
        header = ",".join(self._columns).encode()
        whole = content[: content.rfind(b"\n") + 1]
        is_begun = not whole and header.startswith(content)
        rows = [] if is_begun else list(_parse(whole or content, self._path, self._columns))
        self._file.truncate(len(whole))
        self._file.seek(len(whole))
        if is_begun:
            self._write(self._columns)
        return rows

    def _write(self, values: Iterable[object]) -> None:
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(values)
        self._file.write(line.getvalue().encode())
        self._file.flush()


def key_of(row: Mapping[str, str]) -> Key:
    """The key of a line."""
    return Key(*(row[field.name] for field in fields(Key)))


def _open(path: Path) -> IO[bytes]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        return path.open("r+b")
    except OSError as error:
        raise ConfigError(f"--output: cannot write {path}: {error.strerror}") from error


def _parse(content: bytes, path: Path, columns: Sequence[str]) -> Iterator[dict[str, str]]:
    lines = csv.DictReader(io.StringIO(content.decode(errors="replace"), newline=""))
    found = tuple(lines.fieldnames or ())
    if found != tuple(columns):
        both = {COLUMNS, COLUMNS[:-1]}
        why = "keeps other columns: mind --no-text" if found in both else "is not a table of measured lengths"
        raise ConfigError(f"{path} {why}; name a new file by --output")
    for row in lines:
        if None in row or None in row.values():
            raise ConfigError(f"{path}:{lines.line_num}: a line must have {len(columns)} cells; repair or remove it")
        yield row
