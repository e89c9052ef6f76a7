"""Makes the file of prompts that Magnus' experiment runs on: six applications with measured and predicted lengths.

Magnus' applications, as far as public sets have them: translation (davinci-003 between English and German), grammar
correction (JFLEG), detoxification (ParaDetox), and of CodeXGLUE code translation (Java to C#), bug fixing, and code
generation where the paper has comments. The lengths are those of the reference answers or davinci-003's, in tokens of
Llama 2.

The forest of the family `magnus` (input length, folded semantics of application and user) learns from other prompts of
the same applications, and is told the application, as Magnus is.

JFLEG is for measuring only: the file stays on this machine.
Run: PYTHONPATH=services:clients/python python -m benchmarks.magnus_prompts [--output .forebay/prompts/magnus.jsonl]
"""

import json
from pathlib import Path

import click
import numpy as np
import pandas as pd

from benchmarks.chat_prompts import trained
from benchmarks.length_data import DATA, ROOT, _pair, examples
from forebay.predictor.policy.length import LengthPredictor

OUTPUT = ROOT / ".forebay" / "prompts" / "magnus.jsonl"
LEARNT_COUNT, ASKED_COUNT = 250, 300
"""Prompts of each application that the forest learns from, and that are in the file."""
QUERIES_AT_ONCE = 64
SEED = 1


def applications() -> dict[str, pd.DataFrame]:
    """All rows of each application."""
    code, spoken = _pair("open", "code_codexglue_gold"), _pair("open", "translation_gpt_mt")
    return {
        "translation": spoken[spoken.model.str.contains("davinci-003") & spoken.task.str.endswith(("en-de", "de-en"))],
        "grammar correction": _pair("measure_only", "grammar_jfleg_gold"),
        "detoxification": _pair("open", "detox_paradetox_gold"),
        "code translation": code[code.task == "java->c#"],
        "bug fixing": code[code.task.str.startswith("bugfix")],
        "code generation": code[code.task == "nl->java"],
    }


def drawn() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Prompts to learn from and others to ask for, drawn once, as many of each application."""
    rng = np.random.default_rng(SEED)
    learnt, asked = [], []
    for name, rows in applications().items():
        known = rows[rows.response_tokens_llama2 > 0].drop_duplicates("prompt").sort_values("prompt_id")
        chosen = known.iloc[rng.permutation(len(known))[: LEARNT_COUNT + ASKED_COUNT]].assign(task=name, model="llm")
        learnt.append(chosen[:LEARNT_COUNT])
        asked.append(chosen[LEARNT_COUNT:])
    return pd.concat(learnt, ignore_index=True), pd.concat(asked, ignore_index=True)


def predicted(policy: LengthPredictor, rows: pd.DataFrame) -> np.ndarray:
    """Quantiles of each row's answer."""
    queries, found = examples(rows, application="task").queries, []
    for start in range(0, len(queries), QUERIES_AT_ONCE):
        answers = policy.predict(queries[start : start + QUERIES_AT_ONCE])
        found += [(one.quantiles.p10, one.quantiles.p50, one.quantiles.p90, one.quantiles.p97) for one in answers]
    quantiles: np.ndarray = np.maximum(np.array(found), 1)
    return quantiles


@click.command(help="Write prompts of Magnus' applications with measured and predicted lengths.")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), default=OUTPUT, show_default=True)
def main(output: Path) -> None:
    if not DATA.is_dir():
        raise click.ClickException(f"there is no public data in {DATA}; set FOREBAY_DATA to its folder")
    learnt, asked = drawn()
    quantiles = predicted(trained(examples(learnt, application="task"), SEED, "magnus"), asked)
    output.parent.mkdir(parents=True, exist_ok=True)
    with output.open("w") as file:
        for row, four in zip(asked.itertuples(), quantiles.tolist(), strict=True):
            line = {
                "prompt": row.prompt,
                "application": row.task,
                "prompt_tokens": int(row.prompt_tokens_llama2),
                "output_tokens": int(row.response_tokens_llama2),
                "predicted_tokens": four,
            }
            file.write(json.dumps(line) + "\n")
    _tell(asked.assign(error=quantiles[:, 1] - asked.response_tokens_llama2), output)


def _tell(rows: pd.DataFrame, output: Path) -> None:
    print(f"{'application':20}{'prompts':>8}{'prompt':>8}{'answer':>8}{'longest':>8}{'RMSE':>8}{'MAE':>8}   (tokens)")
    for name, part in [*rows.groupby("task", sort=False), ("all", rows)]:
        answers = part.response_tokens_llama2
        lengths = (part.prompt_tokens_llama2.mean(), answers.mean(), answers.max())
        errors = (float(np.sqrt((part.error**2).mean())), part.error.abs().mean())
        print(f"{name:20}{len(part):8d}" + "".join(f"{value:8.1f}" for value in (*lengths, *errors)))
    print(f"magnus_prompts: rows={len(rows)} file={output}")


if __name__ == "__main__":
    main()
