"""`forebay evaluate length`: how good a length model is on anybody's answers, beside what needs no model."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from forebay.cli.console import make_console, make_table, print_json
from forebay.cli.models import Chosen, choose_model
from forebay.cli.options import head_bytes_option, json_option, names, state_dir_option
from forebay.cli.stack_config import MODELS_FOLDER
from forebay.core.errors import ConfigError

if TYPE_CHECKING:
    from forebay.train.data import Examples
    from forebay.train.evaluation import Figures, Predicted
    from forebay.train.tables import Table

KEYS = ("application", "model", "tenant")
SEED = 20260801
PARTS_MAX = 40


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The figures of all predictors over all examples, and those of the model by part."""

    rows: "Sequence[Figures]"
    by: "Mapping[str, Sequence[Figures]]"
    notes: Sequence[str]


@click.command("length")
@click.option("--model", "wanted", required=True, metavar="NAME[@VERSION]|FILE", help="Which predictor.")
@click.option("--data", type=click.Path(path_type=Path), multiple=True, help="File (or folder of the open sets).")
@click.argument("more", nargs=-1, type=click.Path(path_type=Path), metavar="[FILE]...")
@click.option("--by", "keys_text", metavar="application,model,tenant", help="Figures by these columns too.")
@click.option("--models", "folder", type=click.Path(path_type=Path), help="The registry. Default: that of --state-dir.")
@head_bytes_option
@state_dir_option
@json_option
def length(
    wanted: str,
    data: tuple[Path, ...],
    more: tuple[Path, ...],
    keys_text: str | None,
    folder: Path | None,
    head_bytes: int,
    state_dir: Path,
    as_json: bool,
) -> None:
    """Score predictions of answer lengths on your own data, beside a constant, histograms and the prompt's length.

    The examples come in the order of the files, as if they were live: each is predicted before its outcome teaches the
    correction and the calibration of the bounds ("live"), or nobody ("alone"). The first fifth only teaches. Of files
    that the model was trained on, only the prompts held back then are scored.

    \b
    Examples:
      forebay evaluate length --model onnx_quantile --data mine.jsonl
      forebay evaluate length --model magnus@2 --data a.csv b.csv --by application,model --json
    """
    files = (*data, *more)
    if not files:
        raise ConfigError("--data: give a file of examples (.jsonl, .csv, .parquet)")
    keys = names(keys_text)
    for key in keys:
        if key not in KEYS:
            raise ConfigError(f"--by: unknown column {key!r}; known: {', '.join(KEYS)}")
    try:
        from forebay.train.tables import read_tables
    except ImportError as error:
        raise ConfigError(f"evaluating needs {error.name}, which is not here; run: make setup") from error
    chosen = choose_model(wanted, folder or state_dir / MODELS_FOLDER)
    found = evaluate(chosen, read_tables(files, head_bytes), keys)
    if as_json:
        print_json(_plain({"model": chosen.label, "digest_sha256": chosen.model.digest_sha256,
                           "notes": list(found.notes), "figures": found.rows, "by": dict(found.by)}))  # fmt: skip
        return
    console = make_console()
    print_figures(console, f"{chosen.label} on {', '.join(file.name for file in files)}", found.rows)
    if found.by:
        parts = [dataclasses.replace(rows[0], name=part) for part, rows in found.by.items() if rows]
        print_figures(console, f"{chosen.label}, live, by {' and '.join(keys)}", parts, " ".join(keys))
    for note in found.notes:
        console.print(f"note: {note}", style="dim", markup=False, soft_wrap=True)


def evaluate(chosen: Chosen, table: "Table", keys: Sequence[str]) -> Evaluation:
    """Follows the predictor, and the baselines, through the examples of the table."""
    from forebay.predictor.policy.length import Histogram
    from forebay.train.evaluation import baselines, figures, follow, scored

    examples, notes = _unseen(chosen, table)
    live = follow("live", chosen.make(), examples, learns=True)
    alone = follow("alone", chosen.make(), examples, learns=False)
    histogram = follow("histogram", Histogram(), examples, learns=True)
    kept = scored(examples)
    rows = [figures(one, examples, kept) for one in (live, alone, histogram, *baselines(examples))]
    if kept.sum() < len(examples):
        notes.append(
            f"the first {len(examples) - int(kept.sum()):,} examples only teach; the other {int(kept.sum()):,} count"
        )
    return Evaluation(rows, _by(live, examples, keys) if keys else {}, (*table.notes, *notes))


def _by(live: "Predicted", examples: "Examples", keys: Sequence[str]) -> "dict[str, list[Figures]]":
    from forebay.train.evaluation import figures, parts, scored

    kept = scored(examples)
    found = {part: [figures(live, examples, mask & kept)] for part, mask in parts(examples, keys).items()}
    ordered = sorted(found.items(), key=lambda one: -one[1][0].count)
    return {part: rows for part, rows in ordered[:PARTS_MAX] if rows[0].count}


def _unseen(chosen: Chosen, table: "Table") -> "tuple[Examples, list[str]]":
    """The examples that the model was not trained on: of known files, only those held back."""
    known = chosen.model.metadata.get("data_files_sha256", "")
    if not any(digest in known for digest in table.digests.values()):
        return table.examples, []
    seed = chosen.model.metadata.get("seed", "")
    _, test = table.split(int(seed) if seed.isdecimal() else SEED)
    if not len(test):
        raise ConfigError(f"{chosen.label} was trained on these very files, and no prompt of them was held back")
    return test, [f"{chosen.label} was trained on these files: only the {len(test):,} answers held back are used"]


def print_figures(console: Console, title: str, rows: "Sequence[Figures]", first: str = "predictor") -> None:
    """Prints one row a predictor, or a part of the examples: `first` says which."""
    from forebay.train.figures_table import COLUMNS, cells

    table = make_table(title, first, *COLUMNS[1:], right="|".join(COLUMNS[1:]))
    for row in rows:
        table.add_row(*cells(row))
    console.print(table)


def _plain(value: Any) -> Any:
    """The value as JSON can hold it: what is not a number is null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value
