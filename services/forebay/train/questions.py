"""Finds prompts to measure with: the open sets, the samples that ship, or anybody's files."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from forebay.core.errors import ConfigError
from forebay.core.tokens import estimate_tokens
from forebay.simulator.traces.prompts import read_prompts
from forebay.train.data import SOURCES, Source
from forebay.train.measurements import Question

SAMPLES = Source("samples", "forebay", "Apache-2.0")
"""The prompts that ship; `services/forebay/samples/generate.py` writes them."""
SAMPLES_FILE = Path(__file__).resolve().parents[1] / "samples" / "prompts.jsonl"
LICENCE_UNSTATED = "not stated"


def public(folder: Path | None, tokens_max: int) -> list[Question]:
    """The samples, and with `folder` (…/open/prompts) the open sets: prompts of about `tokens_max` tokens at most.

    Raises ConfigError where a table of the folder is absent.
    """
    found = own([SAMPLES_FILE], SAMPLES.licence, tokens_max, SAMPLES.name)
    for source in SOURCES if folder else ():
        found += _short(_of_set(folder, source), tokens_max)
    return found


def own(files: Sequence[Path], licence: str, tokens_max: int, source: str = "") -> list[Question]:
    """The prompts of JSON lines or *.prompts.parquet, each named after its file unless `source` names them all.

    Raises ConfigError, with the line number where there is one, or when none is short enough.
    """
    found = [
        Question(prompt.text, source or path.name.split(".")[0], licence, prompt.application)
        for path in files
        for prompt in read_prompts(path)
    ]
    short = _short(found, tokens_max)
    if not short:
        raise ConfigError(f"no prompt has at most {tokens_max} tokens; raise --prompt-tokens-max")
    return short


def _short(questions: Iterator[Question] | Sequence[Question], tokens_max: int) -> list[Question]:
    return [question for question in questions if estimate_tokens(question.text) <= tokens_max]


def _of_set(folder: Path | None, source: Source) -> Iterator[Question]:
    paths = [Path(folder or "") / name for name in source.files]
    for path in paths:
        if not path.is_file():
            raise ConfigError(f"{path.name} is not in {path.parent}; name the folder of the prompt tables by --data")
    prompts = pd.read_parquet(paths[0], columns=["prompt_id", "prompt"])
    tasks = pd.read_parquet(paths[1], columns=["prompt_id", "task"]).drop_duplicates("prompt_id")
    both = prompts.merge(tasks, on="prompt_id")
    for text, task in zip(both.prompt, both.task, strict=True):
        yield Question(text, source.name, source.licence, task)
