"""Prompts with the lengths of their answers, from openly licensed data, and a split that keeps test prompts unseen."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from forebay.core.errors import ConfigError
from forebay.core.values import InferenceRequest

Features: TypeAlias = Any
"""A sparse matrix (scipy's csr_matrix, float32) with a row an example."""
TEST_SHARE = 5
CALIBRATION_SHARE = 10


@dataclass(frozen=True, slots=True)
class Source:
    """A set of prompts that a shipped model may be trained on."""

    name: str
    origin: str
    licence: str

    @property
    def files(self) -> tuple[str, str]:
        """Prompts and answers."""
        return f"{self.name}.prompts.parquet", f"{self.name}.answers.parquet"


SOURCES = (
    Source("translation_gpt_mt", "microsoft/gpt-MT", "MIT"),
    Source("bbh_cot_code-davinci-002", "suzgunmirac/BIG-Bench-Hard", "MIT"),
    Source("gpteacher_gpt4", "teknium1/GPTeacher", "MIT"),
)


@dataclass(frozen=True, slots=True)
class Examples:
    """Prompts beside the lengths of their answers; `groups` numbers prompts that share their substance alike.

    `censored` marks answers that were cut, so that they are at least so long. `features` are the rows that the fast
    family's extractor made of prompts whose text is not kept; None where the text is there.
    """

    queries: tuple[InferenceRequest, ...]
    tokens: npt.NDArray[np.float64]
    sources: npt.NDArray[np.str_]
    groups: npt.NDArray[np.int64]
    censored: npt.NDArray[np.bool_] | None = None
    features: Features | None = None

    def __len__(self) -> int:
        return len(self.queries)

    @property
    def complete(self) -> npt.NDArray[np.bool_]:
        """Which answers ended by themselves."""
        return np.ones(len(self), dtype=bool) if self.censored is None else ~self.censored

    def where(self, mask: npt.NDArray[np.bool_]) -> "Examples":
        """The examples that the mask keeps."""
        return Examples(
            tuple(query for query, kept in zip(self.queries, mask, strict=True) if kept),
            self.tokens[mask],
            self.sources[mask],
            self.groups[mask],
            None if self.censored is None else self.censored[mask],
            None if self.features is None else self.features[mask],
        )

    def without_text(self) -> "Examples":
        """The same lengths of prompts whose text is not known."""
        queries = tuple(replace(query, prompt_head="") for query in self.queries)
        return replace(self, queries=queries, features=None)

    def joined(self, other: "Examples") -> "Examples":
        """These examples, then the others. Raises ValueError where only one side has features."""
        if (self.features is None) != (other.features is None):
            raise ValueError("examples with features and examples with text do not mix")
        both = None if self.features is None or other.features is None else (self.features, other.features)
        return Examples(
            self.queries + other.queries,
            np.concatenate((self.tokens, other.tokens)),
            np.concatenate((self.sources, other.sources)),
            np.concatenate((self.groups, other.groups)),
            ~np.concatenate((self.complete, other.complete)),
            None if both is None else sparse.vstack(both).tocsr(),
        )


@dataclass(frozen=True, slots=True)
class Split:
    """Three sets of examples; no prompt of one has its substance in another."""

    train: Examples
    calibration: Examples
    test: Examples


def read(folder: Path, sources: Sequence[Source] = SOURCES) -> pd.DataFrame:
    """One row an answer of a model to a prompt, repeats dropped. Raises ConfigError when a file is absent."""
    tables = [_read_one(folder, source) for source in sources]
    rows = pd.concat(tables, ignore_index=True)
    rows = rows[rows.kind == "llm"].drop_duplicates(["set", "model", "prompt_id"])
    return rows.sort_values(["prompt_id", "set", "model"]).reset_index(drop=True)


def _read_one(folder: Path, source: Source) -> pd.DataFrame:
    for name in source.files:
        if not (folder / name).is_file():
            raise ConfigError(f"{name} is not in {folder}; pass the folder of the prompt tables with --data")
    prompts, answers = (pd.read_parquet(folder / name) for name in source.files)
    return prompts.merge(answers, on="prompt_id").assign(set=source.name)


def split(rows: pd.DataFrame) -> Split:
    """Tests on the prompts whose id is a multiple of 5; what shares their substance is in none of the sets.

    The substance of a translation is what follows the first ": ", since sentences recur over target languages.
    """
    is_translation = rows["set"] == "translation_gpt_mt"
    substance = rows.prompt.where(~is_translation, rows.prompt.str.split(": ", n=1).str[-1])
    tested = rows.prompt_id.map(_number) % TEST_SHARE == 0
    kept = ~tested & ~substance.isin(set(substance[tested]))
    calibrates = substance.map(_digest) % CALIBRATION_SHARE == 0
    examples = _examples(rows, substance)
    return Split(
        examples.where((kept & ~calibrates).to_numpy()),
        examples.where((kept & calibrates).to_numpy()),
        examples.where(tested.to_numpy()),
    )


def digest(folder: Path, sources: Sequence[Source] = SOURCES) -> dict[str, str]:
    """SHA-256 of each file that was read."""
    names = [name for source in sources for name in source.files]
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}


def digest_of(digests: dict[str, str]) -> str:
    """One SHA-256 for all files."""
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()


def _examples(rows: pd.DataFrame, substance: "pd.Series[str]") -> Examples:
    cut = rows.censored.eq(True).to_numpy(bool) if "censored" in rows else None
    return Examples(
        tuple(_query(row) for row in rows.to_dict("records")),
        rows.response_tokens_llama2.to_numpy(np.float64),
        rows["set"].to_numpy(str),
        pd.factorize(substance)[0].astype(np.int64),
        cut,
    )


def _query(row: dict[str, Any]) -> InferenceRequest:
    """What the sets know of a request, and what measured rows know besides."""
    return InferenceRequest(
        request_id=row["prompt_id"],
        model=row["model"],
        prompt_tokens=max(1, int(row["prompt_tokens_llama2"])),
        prompt_head=row["prompt"],
        **{name: kind(row[name]) for name, kind in _SETTING.items() if pd.notna(row.get(name))},
    )


_SETTING: dict[str, Callable[[Any], Any]] = {
    "application": str,
    "temperature": float,
    "tokens_max": int,
    "system_digest": str,
}


def _number(prompt_id: str) -> int:
    return int(prompt_id[-4:], 16)


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.sha1(text.encode(), usedforsecurity=False).digest()[-4:], "big")
