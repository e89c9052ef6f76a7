"""Makes the chat prompts that the routing experiments run on: measured lengths, and what a predictor says of each.

The mix is the nearest to ShareGPT that is at hand, which has 7 to 911 tokens in a prompt and 5 to 632 in an answer from
its 5 % to its 95 % quantile (`experiments/motivation_study` of stephen-tju/PRISM) and some 285 tokens in an answer once
those of fewer than 16 are left out: alpaca_eval prompts answered by four chat models of Llama-2's family (70 %),
BIG-Bench Hard questions with their few-shot examples (20 %), GPTeacher's instructions (10 %). Prompts and answers have
16 to 4,096 tokens, and at most 4,096 together (the filter of PreServe's artifact).

Each prompt's length is predicted by the fast family, trained on the other four fifths of the prompts: never on the
prompt that it is asked for, nor on another answer to it. The predictor is not told which model or set it is from.

alpaca_eval is for measuring only: the file stays on this machine.
Run: PYTHONPATH=services:clients/python python -m benchmarks.chat_prompts [--output .forebay/prompts/chat.jsonl]
"""

import json
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import pandas as pd

from benchmarks.length_data import DATA, ROOT, _pair, examples
from forebay.core.prediction import ModelKind, PredictorModel
from forebay.predictor.build import opener
from forebay.predictor.config import Config
from forebay.predictor.policy.length import LengthPredictor
from forebay.train.data import Examples
from forebay.train.family import family
from forebay.train.folds import folds

OUTPUT = ROOT / ".forebay" / "prompts" / "chat.jsonl"
CHAT_MODELS = ("vicuna-7b-v1.5", "vicuna-13b-v1.5", "llama-2-7b-chat-hf", "llama-2-13b-chat-hf")
SHARES = {"chat": 0.7, "questions": 0.2, "instructions": 0.1}
TOKENS_MIN, TOKENS_MAX = 16, 4_096
FOLD_COUNT = 5
SEED = 1


def sets() -> pd.DataFrame:
    """All rows of the three sets that pass the filter, with the part of the mix that they belong to."""
    chat = _pair("measure_only", "alpaca_eval_models")
    parts = {
        "chat": chat[chat.model.isin(CHAT_MODELS)],
        "questions": _pair("open", "bbh_cot_code-davinci-002"),
        "instructions": _pair("open", "gpteacher_gpt4"),
    }
    rows = pd.concat([part.assign(part=name) for name, part in parts.items()], ignore_index=True)
    prompt, answer = rows.prompt_tokens_llama2, rows.response_tokens_llama2
    passes = prompt.between(TOKENS_MIN, TOKENS_MAX) & answer.between(TOKENS_MIN, TOKENS_MAX)
    return rows[passes & (prompt + answer <= TOKENS_MAX)].assign(model="chat").reset_index(drop=True)


def mixed(rows: pd.DataFrame) -> np.ndarray:
    """Which rows are in the mix: all chats, and of the others so many that the shares hold, drawn once."""
    rng = np.random.default_rng(SEED)
    total = (rows.part == "chat").sum() / SHARES["chat"]
    chosen = [
        rng.permutation(np.flatnonzero(rows.part == name))[: round(share * total)] for name, share in SHARES.items()
    ]
    return np.sort(np.concatenate(chosen))


def predicted(known: Examples, asked: np.ndarray) -> np.ndarray:
    """Quantiles of each asked row by a model that was trained without its prompt."""
    found = np.zeros((len(known), 4), dtype=np.int64)
    is_asked = np.isin(np.arange(len(known)), asked)
    for number, (fit, test) in enumerate(folds(known.groups, FOLD_COUNT)):
        wanted = np.flatnonzero(np.isin(np.arange(len(known)), _places(test)) & is_asked)
        policy = trained(known.where(np.isin(np.arange(len(known)), _places(fit))), number)
        answers = policy.predict([known.queries[place] for place in wanted])
        found[wanted] = [
            (one.quantiles.p10, one.quantiles.p50, one.quantiles.p90, one.quantiles.p97) for one in answers
        ]
    return np.maximum(found, 1)


def _places(mask: np.ndarray) -> np.ndarray:
    return np.flatnonzero(mask) if mask.dtype == bool else mask


def trained(learnt: Examples, seed: int, name: str = "fast") -> LengthPredictor:
    """The policy of a family that has learnt from these examples."""
    made = family(name).run(learnt, seed, lambda step: None)
    metadata = {key: value if isinstance(value, str) else str(value) for key, value in made.metadata.items()}
    model = PredictorModel(metadata["name"], ModelKind.LENGTH, "1", metadata=metadata)
    return opener(Config(provider="cpu"))(model, made.content).policy


@click.command(help="Write chat prompts with measured and predicted lengths.")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), default=OUTPUT, show_default=True)
def main(output: Path) -> None:
    if not DATA.is_dir():
        raise click.ClickException(f"there is no public data in {DATA}; set FOREBAY_DATA to its folder")
    rows = sets()
    known = examples(rows, application="")
    known = replace(known, sources=rows.part.to_numpy(dtype=str))
    asked = mixed(rows)
    quantiles = predicted(known, asked)
    output.parent.mkdir(parents=True, exist_ok=True)
    with output.open("w") as file:
        for place in asked:
            row = rows.iloc[place]
            line = {
                "prompt": row.prompt,
                "prompt_tokens": int(row.prompt_tokens_llama2),
                "output_tokens": int(row.response_tokens_llama2),
                "predicted_tokens": quantiles[place].tolist(),
            }
            file.write(json.dumps(line) + "\n")
    _tell(rows.iloc[asked], quantiles[asked], output)


def _tell(rows: pd.DataFrame, quantiles: np.ndarray, output: Path) -> None:
    truth = rows.response_tokens_llama2.to_numpy()
    error = np.abs(quantiles[:, 1] - truth)
    shown = {
        "prompt": np.quantile(rows.prompt_tokens_llama2, [0.05, 0.5, 0.95, 0.99]).round().astype(int).tolist(),
        "answer": np.quantile(truth, [0.05, 0.5, 0.95, 0.99]).round().astype(int).tolist(),
    }
    for name, values in shown.items():
        print(f"{name} tokens, quantiles 5, 50, 95, 99 %: {', '.join(map(str, values))}")
    print(f"mean prompt {rows.prompt_tokens_llama2.mean():.0f}, mean answer {truth.mean():.0f} tokens")
    print(
        f"predicted: MAE {error.mean():.1f} tokens, within 100 tokens {100 * (error <= 100).mean():.0f} %, "
        f"at most the 90 % quantile {100 * (truth <= quantiles[:, 2]).mean():.1f} %"
    )
    print(f"chat_prompts: rows={len(rows)} file={output}")


if __name__ == "__main__":
    main()
