"""Answer lengths measured from the real LLM that runs here, beside the prompts that they belong to.

`samples/lengths_smollm2.parquet` holds one row an answer, without the prompts' text: its columns are those of
`measurements.Row`. A row's prompt is found by its id, in the samples that ship or in the open sets. The file's metadata
says which weights answered, how, and under which licences the prompts stand.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from forebay.core.errors import ConfigError
from forebay.core.prompts import group_of
from forebay.core.values import InferenceRequest
from forebay.simulator.traces.prompts import read_prompts
from forebay.train.data import SOURCES, TEST_SHARE, Examples
from forebay.train.measurements import Question
from forebay.train.questions import SAMPLES, SAMPLES_FILE

TABLE = SAMPLES_FILE.with_name("lengths_smollm2.parquet")
DESCRIPTION_KEY = b"forebay"
ORDER = ["source", "prompt_id", "model", "system_digest", "temperature", "sample"]
TYPES = {"temperature": "float64", "sample": "int32", "seed": "int32", "tokens_max": "int32"}
COUNTS = {"prompt_tokens": "int32", "response_tokens": "int32"}


def read(folder: Path | None, table: Path = TABLE) -> pd.DataFrame:
    """The rows of a table with `prompt`, and `is_test` for prompts that no model learns from: the same as of the sets.

    `folder` has the open sets' prompts; with None only rows of the samples are left. Raises ConfigError where a file is
    absent, or a prompt unknown.
    """
    rows = pd.read_parquet(table)
    if folder is None:
        rows = rows[rows.source == SAMPLES.name]
    texts = _texts(folder, rows.source.unique())
    rows = rows.assign(prompt=rows.prompt_id.map(texts))
    if rows.prompt.isna().any():
        raise ConfigError(f"{table.name} has prompts that the sets in {folder} lack, such as {_first_unknown(rows)}")
    is_test = rows.prompt_id.map(lambda name: int(name[-4:], 16) % TEST_SHARE == 0)
    return rows.assign(is_test=is_test).reset_index(drop=True)


def as_set(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of `read` under the names that `data.read` gives, so that `data.split` takes both as one table.

    Tokens stay those that the model counted, not the sets' Llama-2 tokens; `set` is that of the prompt.
    """
    names = {"source": "set", "prompt_tokens": "prompt_tokens_llama2", "response_tokens": "response_tokens_llama2"}
    return rows.rename(columns=names).drop(columns=["licence", "sample", "seed", "finish", "is_test"])


def examples(rows: pd.DataFrame) -> Examples:
    """The rows of `read` as examples; `sources` are those of the prompts, with "measured:" before them."""
    return Examples(
        queries=tuple(_query(row) for row in rows.itertuples(index=False)),
        tokens=rows.response_tokens.to_numpy(np.float64),
        sources=("measured:" + rows.source.astype(str)).to_numpy(str),
        groups=np.array([group_of(prompt) for prompt in rows.prompt], dtype=np.int64),
        censored=rows.censored.to_numpy(np.bool_),
    )


def pack(tables: Sequence[Path], description: Mapping[str, object], output: Path) -> pd.DataFrame:
    """Sorts CSV tables of `forebay train measure-lengths` into one Parquet file with a description in its metadata."""
    import pyarrow
    from pyarrow import parquet

    found = pd.concat([pd.read_csv(path, dtype=str, keep_default_na=False) for path in tables], ignore_index=True)
    rows = found.drop(columns="prompt", errors="ignore").astype(TYPES | COUNTS)
    rows = rows.assign(censored=rows.censored == "true").sort_values(ORDER, ignore_index=True)
    arrow = pyarrow.Table.from_pandas(rows, preserve_index=False)
    metadata = {DESCRIPTION_KEY: json.dumps(description, sort_keys=True).encode()}
    parquet.write_table(arrow.replace_schema_metadata(metadata), output, compression="zstd", compression_level=19)
    return rows


def description(table: Path = TABLE) -> dict[str, object]:
    """What the file says of itself. Raises ConfigError where it says nothing."""
    from pyarrow import parquet

    metadata = parquet.read_schema(table).metadata or {}
    if DESCRIPTION_KEY not in metadata:
        raise ConfigError(f"{table} does not say how it was measured")
    found: dict[str, object] = json.loads(metadata[DESCRIPTION_KEY])
    return found


def _texts(folder: Path | None, names: Sequence[str]) -> dict[str, str]:
    samples = (Question(prompt.text, SAMPLES.name, SAMPLES.licence) for prompt in read_prompts(SAMPLES_FILE))
    texts = {question.prompt_id: question.text for question in samples}
    for source in SOURCES:
        if folder is not None and source.name in names:
            path = folder / source.files[0]
            if not path.is_file():
                raise ConfigError(f"{path.name} is not in {folder}; pass the folder of the prompt tables with --data")
            both = pd.read_parquet(path, columns=["prompt_id", "prompt"])
            texts |= dict(zip(both.prompt_id, both.prompt, strict=True))
    return texts


def _first_unknown(rows: pd.DataFrame) -> str:
    return str(rows[rows.prompt.isna()].prompt_id.iloc[0])


def _query(row: "pd.Series[str]") -> InferenceRequest:
    return InferenceRequest(
        request_id=row.prompt_id,
        model=row.model,
        prompt_tokens=max(1, int(row.prompt_tokens)),
        prompt_head=row.prompt,
        application=row.application,
        temperature=float(row.temperature),
        tokens_max=int(row.tokens_max),
        system_digest=row.system_digest,
    )
