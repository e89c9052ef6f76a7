"""`forebay train measure-lengths`: asks a real model and writes down how long its answers are."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import click
import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from forebay.cli.console import make_console, make_table, share
from forebay.cli.datasets import data_dir
from forebay.core.errors import ConfigError
from forebay.train.endpoint import Endpoint
from forebay.train.measurements import Ask, Setting, Table, choose, plan
from forebay.train.measuring import Tally, measure
from forebay.train.questions import LICENCE_UNSTATED, own, public

REPORT_EVERY = 100
"""Answers between two lines of progress where the output is no terminal."""


@click.command("measure-lengths")
@click.option("--url", required=True, help="OpenAI-compatible API, such as http://127.0.0.1:8080/v1.")
@click.option("--model", required=True, help="Model to ask, as the endpoint names it.")
@click.option("--label", help="Name of the model in the table. Default: --model.")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), required=True, help="CSV file to append to.")
@click.option(
    "--prompts",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    multiple=True,
    help="Own prompts: JSON lines or X.prompts.parquet; may be given several times.",
)
@click.option("--licence", default=LICENCE_UNSTATED, show_default=True, help="Licence of your own prompts.")
@click.option("--data", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Folder of public data.")
@click.option("--prompt-count", type=click.IntRange(1), help="Ask so many prompts, balanced over applications.")
@click.option("--prompt-tokens-max", type=click.IntRange(1), default=300, show_default=True, help="Longest prompt.")
@click.option("--temperatures", default="0,0.3,0.7", show_default=True, help="Temperatures, separated by commas.")
@click.option("--samples", "sample_count", type=click.IntRange(1), default=1, show_default=True, help="Answers each.")
@click.option("--system", default="", help="System prompt.")
@click.option("--max-tokens", type=click.IntRange(1), default=512, show_default=True, help="Answers are cut there.")
@click.option("--in-flight", type=click.IntRange(1, 1_000), default=8, show_default=True, help="Questions at once.")
@click.option("--timeout", "timeout_s", type=click.FloatRange(min=1), default=300.0, show_default=True, help="Seconds.")
@click.option("--key-env", metavar="NAME", help="Environment variable that holds the API key.")
@click.option("--text/--no-text", default=None, help="Keep the prompts' text. Default: that of --prompts.")
@click.option("--limit", type=click.IntRange(1), help="End after so many answers.")
@click.option("--seed", type=int, default=1, show_default=True, help="Equal seeds ask the same questions.")
def measure_lengths(
    url: str,
    model: str,
    label: str | None,
    output: Path,
    prompts: tuple[Path, ...],
    licence: str,
    data: Path | None,
    prompt_count: int | None,
    prompt_tokens_max: int,
    temperatures: str,
    sample_count: int,
    system: str,
    max_tokens: int,
    in_flight: int,
    timeout_s: float,
    key_env: str | None,
    text: bool | None,
    limit: int | None,
    seed: int,
) -> None:
    """Measure how long a real model's answers are, to train a length predictor on them.

    Asks an OpenAI-compatible endpoint (vLLM, llama.cpp, the gateway, …) and appends one line an answer to a CSV file:
    the prompt's id, source and licence, the setting, and the model's own count of tokens. Answers that --max-tokens
    cuts are marked as censored. Without --prompts it asks the samples that ship and, where at hand, the open sets.

    Stop it whenever you like: the same command goes on where it was.

    \b
    Examples:
      forebay train measure-lengths --url http://127.0.0.1:8080/v1 --model llama --output lengths.csv
      forebay train measure-lengths --url http://127.0.0.1:8080/v1 --model llama --output mine.csv \\
        --prompts mine.jsonl --temperatures 0.7 --samples 3
      forebay train length --data mine.csv --output models
    """
    found = own(prompts, licence, prompt_tokens_max) if prompts else public(_tables(data), prompt_tokens_max)
    settings = [Setting(label or model, one, max_tokens, system) for one in _temperatures(temperatures)]
    asks = list(plan(choose(found, prompt_count, seed), settings, sample_count, seed))
    with Table(output, has_text=bool(prompts) if text is None else text) as table:
        check_cap(table, settings)
        left = [ask for ask in asks if ask not in table]
        console = make_console()
        console.print(f"{len(asks)} answers in all, {len(asks) - len(left)} of them are in {output}")
        endpoint = Endpoint(url, model, timeout_s, _key(key_env))
        try:
            tally = asyncio.run(_run(console, left[:limit], endpoint, table, in_flight))
        except KeyboardInterrupt:
            raise click.ClickException("interrupted; the same command goes on where it was") from None
        summarise(console, table, tally)


def check_cap(table: Table, settings: Sequence[Setting]) -> None:
    """Raises ConfigError where a model of the table was cut at another length: its lengths would not compare."""
    caps = {row["model"]: int(row["tokens_max"]) for row in table.rows}
    for setting in settings:
        if caps.get(setting.model, setting.tokens_max) != setting.tokens_max:
            raise ConfigError(
                f"answers of {setting.model} were measured with --max-tokens {caps[setting.model]}; give the same, or "
                "another --output"
            )


def summarise(console: Console, table: Table, tally: Tally) -> None:
    """Prints what the table holds."""
    if tally.refused_count:
        console.print(f"{tally.refused_count} prompts were refused; the last one: {tally.refusal}")
    if not table.rows:
        return
    rows = pd.DataFrame(table.rows).astype({"response_tokens": int})
    rows["is_cut"] = rows.censored == "true"
    view = make_table("Response tokens", "model", "temperature", "answers", "p10", "p50", "p90", "cut", right=_RIGHT)
    for (name, temperature), some in rows.groupby(["model", "temperature"]):
        p10, p50, p90 = some.response_tokens.quantile([0.1, 0.5, 0.9])
        figures = (f"{value:.0f}" for value in (len(some), p10, p50, p90))
        view.add_row(name, temperature, *figures, share(some.is_cut.mean()))
    console.print(view)


_RIGHT = "temperature|answers|p10|p50|p90|cut"


async def _run(console: Console, asks: Sequence[Ask], endpoint: Endpoint, table: Table, in_flight: int) -> Tally:
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    started_s = asyncio.get_running_loop().time()
    async with endpoint:
        await endpoint.check()
        with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
            bar = progress.add_task("", total=len(asks), rate="")

            def on_step(tally: Tally) -> None:
                done = tally.answered_count + tally.refused_count
                rate = rates(tally, asyncio.get_running_loop().time() - started_s)
                progress.update(bar, completed=done, rate=rate)
                if not console.is_terminal and done % REPORT_EVERY == 0:
                    console.print(f"{done} of {len(asks)}, {rate}")

            return await measure(asks, endpoint, table, in_flight, on_step)


def rates(tally: Tally, elapsed_s: float) -> str:
    """How fast it goes."""
    elapsed_s = max(elapsed_s, 1e-3)
    cut = share(tally.censored_count / max(tally.answered_count, 1))
    return f"{tally.answered_count / elapsed_s:.2f} answers/s, {tally.token_count / elapsed_s:.0f} tokens/s, cut {cut}"


def _tables(data: Path | None) -> Path | None:
    folder = data or data_dir()
    return folder / "open" / "prompts" if folder else None


def _temperatures(text: str) -> list[float]:
    try:
        found = sorted({float(part) for part in text.split(",")})
    except ValueError:
        found = []
    if not found or not all(0 <= one <= 2 for one in found):
        raise ConfigError(f"--temperatures: {text!r} must be numbers from 0 to 2, separated by commas")
    return found


def _key(name: str | None) -> str:
    if name and name not in os.environ:
        raise ConfigError(f"--key-env: there is no variable {name} in the environment")
    return os.environ[name] if name else ""
