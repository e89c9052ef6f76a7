"""What lengths are measured on: prompts with the lengths of their answers, read where they lie and never kept here."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from forebay.core.values import InferenceRequest
from forebay.train.data import Examples

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("FOREBAY_DATA", ROOT.parent / "shared" / "data"))
ALPACA = DATA / "measure_only" / "prompts" / "alpaca10k_train_vicuna7b_lengths.parquet"
SAMPLES = ("vicuna7b_T0.0", "vicuna7b_T0.3", "vicuna7b_T0.5", "vicuna7b_T0.7")
APPLICATION_COUNT = 1_100
"""Prompts of each application in the mix, the first in order of their ids."""


def alpaca() -> tuple[Examples, np.ndarray, np.ndarray]:
    """10,000 Alpaca prompts with the longest of Vicuna's four answers, the four, and which rows are the test split."""
    rows = pd.read_parquet(ALPACA)
    rows["prompt"] = (rows.instruction + "\n" + rows.input.fillna("")).str.strip()
    rows["prompt_tokens_llama2"] = (rows.prompt.str.len() // 4).clip(lower=1)
    samples = rows[list(SAMPLES)].to_numpy(np.float64)
    found = examples(rows.assign(model="vicuna-7b", response_tokens_llama2=samples.max(axis=1)), application="")
    return found, samples, (rows.alpaca_index % 5 == 0).to_numpy()


def other_model() -> Examples:
    """davinci-003's answers to Alpaca prompts, without the prompts of the test split, by number or by text."""
    rows = pd.read_parquet(ALPACA.with_name("alpaca42k_davinci003_lengths.parquet"))
    rows["prompt"] = (rows.instruction + "\n" + rows.input.fillna("")).str.strip()
    known, _, tested = alpaca()
    texts = {query.prompt_head for query, is_tested in zip(known.queries, tested, strict=True) if is_tested}
    numbers = pd.read_parquet(ALPACA, columns=["alpaca_index"]).alpaca_index[tested]
    kept = ~rows.alpaca_index.isin(set(numbers)) & ~rows.prompt.map(_head).isin(texts)
    rows = rows[kept & (rows.davinci003_tokens_llama2 > 0)].reset_index(drop=True)
    rows["prompt_tokens_llama2"] = (rows.prompt.str.len() // 4).clip(lower=1)
    named = rows.assign(model="davinci-003", response_tokens_llama2=rows.davinci003_tokens_llama2)
    return examples(named, application="")


def mix() -> tuple[Examples, np.ndarray]:
    """Eight applications with the reference answers or davinci-003's, and which rows are the test split."""
    gold = _pair("measure_only", "grammar_jfleg_gold").assign(task="grammar")
    code = _pair("open", "code_codexglue_gold")
    detox = _pair("open", "detox_paradetox_gold").assign(task="detox")
    spoken = _pair("open", "translation_gpt_mt")
    spoken = spoken[spoken.model.str.contains("davinci-003") & spoken.task.str.endswith(("en-de", "de-en"))]
    rows = pd.concat([gold, detox, code, spoken], ignore_index=True)
    rows = rows.sort_values("prompt_id", kind="stable").groupby("task").head(APPLICATION_COUNT)
    rows = rows.sort_values(["task", "prompt_id"], kind="stable").reset_index(drop=True)
    return examples(rows, application="task"), _tested(rows)


def chats() -> tuple[Examples, np.ndarray]:
    """607 prompts answered by 20 chat models, and which rows are the test split."""
    rows = _pair("measure_only", "alpaca_eval_models")
    return examples(rows, application=""), _tested(rows)


def streams(count: int) -> Iterator[tuple[str, Examples]]:
    """What the shipped model meets, in an order drawn once: the test split of its own sets, then what it never saw."""
    own = {
        "gpt-MT": "translation_gpt_mt",
        "BIG-Bench Hard": "bbh_cot_code-davinci-002",
        "GPTeacher": "gpteacher_gpt4",
    }
    for title, name in own.items():
        rows = _pair("open", name)
        yield f"{title}, test split", _drawn(examples(rows[_tested(rows)], application=""), count)
    yield "JFLEG, gold, unseen", _drawn(examples(_pair("measure_only", "grammar_jfleg_gold"), application=""), count)
    known, tested = chats()
    yield "alpaca_eval, 20 models, unseen", _drawn(known.where(tested), count)
    known, _, tested = alpaca()
    yield "Alpaca, longest of 4 of Vicuna, unseen", _drawn(known.where(tested), count)


def _drawn(some: Examples, count: int) -> Examples:
    return reordered(some, np.random.default_rng(1).permutation(len(some))[:count])


def reordered(some: Examples, order: np.ndarray) -> Examples:
    """The examples at these places, in this order."""
    queries = tuple(some.queries[place] for place in order)
    return Examples(queries, some.tokens[order], some.sources[order], some.groups[order])


def examples(rows: Any, application: str) -> Examples:
    """Rows as examples; `application` names the column that holds it, if any."""
    names = rows[application] if application else [""] * len(rows)
    fields = zip(rows.prompt, rows.model, rows.prompt_tokens_llama2, names, strict=True)
    queries = tuple(
        InferenceRequest(f"q{number}", model, max(1, int(count)), application=name, prompt_head=_head(prompt))
        for number, (prompt, model, count, name) in enumerate(fields)
    )
    tokens = rows.response_tokens_llama2.to_numpy(np.float64)
    return Examples(queries, tokens, np.array(list(names), dtype=str), pd.factorize(rows.prompt)[0].astype(np.int64))


def _head(prompt: str) -> str:
    return prompt.encode()[:8_192].decode(errors="ignore")


def _pair(folder: str, name: str) -> pd.DataFrame:
    base = DATA / folder / "prompts" / name
    prompts, answers = (pd.read_parquet(f"{base}.{kind}.parquet") for kind in ("prompts", "answers"))
    return prompts.merge(answers, on="prompt_id").drop_duplicates(["model", "task", "prompt_id"])


def _tested(rows: pd.DataFrame) -> np.ndarray:
    return np.asarray(rows.prompt_id.map(lambda name: int(name[-4:], 16)) % 5 == 0)
