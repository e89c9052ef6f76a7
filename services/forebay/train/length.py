"""Trains the model that predicts answer lengths and writes it, described: `python -m forebay.train.length`."""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from forebay.core.prediction import QUANTILE_LEVELS
from forebay.predictor.lengths.features import BATCH_COUNT_MAX, FEATURE_COUNT, FEATURES_VERSION
from forebay.predictor.sessions import CPU, OnnxSession
from forebay.train import data as datasets
from forebay.train import measured
from forebay.train.export import to_onnx
from forebay.train.fast import features_of, likely_tokens, sized, with_textless
from forebay.train.model import Rows, Settings, calibrated, fit, step_count
from forebay.train.scores import Score, score

OUTPUT = Path(__file__).parents[1] / "predictor" / "models"
NAME = "length_fast"
PARITY_SHARE_MAX = 0.001
"""Share of rows where float32 may send a row to another leaf than the trained model does."""
SPLIT = "test: int(prompt_id[-4:], 16) % 5 == 0; prompts that share their substance with a test prompt are left out"
SCORED = "answers that ended by themselves; cut ones are learnt from, so who expects them seems too long here"
SELECTION = "a handful of settings and features were compared on the test prompts, so the scores are a little kind"
ONE_SIDED = ("application", "system_digest", "temperature", "tokens_max")
MEASURED = datasets.Source("lengths_smollm2", "lengths of SmolLM2-135M-Instruct, measured here", "Apache-2.0")

OnStep = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Trained:
    """A model with its description and how well it does on each set's test prompts."""

    content: bytes
    description: dict[str, Any]
    scores: tuple[Score, ...]


def train(folder: Path, version: str, settings: Settings, on_step: OnStep) -> Trained:
    """Trains on the tables in `folder`; the same tables and settings give the same model on one machine.

    Raises ConfigError when a table is absent.
    """
    parts = datasets.split(_rows(folder))
    parts = replace(parts, test=parts.test.where(parts.test.complete))
    shown = with_textless(parts.train)
    features, held_back, tested = (features_of(part) for part in (shown, parts.calibration, parts.test))
    on_step("features")
    settings = sized(settings, len(parts.train))
    fitted = fit(features, likely_tokens(shown), shown.groups, settings, on_step)
    model = calibrated(fitted, held_back, likely_tokens(parts.calibration))
    content = to_onnx(model)
    predicted = _run(content, tested)
    _check_parity(predicted, model.predict(tested))
    on_step("export")
    scores = score(parts, predicted)
    return Trained(content, _describe(folder, version, settings, content, parts, scores), scores)


def _rows(folder: Path) -> pd.DataFrame:
    """The answers of the open sets, and those that were measured from the real LLM that runs here.

    What only one of them tells of a request would name the set that it is of, and so stays out.
    """
    known = measured.as_set(measured.read(folder)).drop(columns=list(ONE_SIDED))
    return pd.concat([datasets.read(folder), known], ignore_index=True)


def run(folder: Path, output: Path | None, version: str = "1", settings: Settings | None = None) -> Path:
    """Trains with a progress bar, prints the scores, and writes the model and its description.

    `folder` holds the prompt tables, or has them in open/prompts. Returns the model's path. Raises ConfigError when a
    table is absent.
    """
    console = Console() if Console().is_terminal else Console(width=120)
    inside = folder / "open" / "prompts"
    with _progress(console, 2 + step_count()) as on_step:
        trained = train(inside if inside.is_dir() else folder, version, settings or Settings(), on_step)
    console.print(_table(trained.scores))
    path = (output or OUTPUT) / f"{NAME}.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(trained.content)
    path.with_suffix(".json").write_text(json.dumps(trained.description, indent=2) + "\n")
    digest = trained.description["onnx_sha256"]
    console.print(f"wrote {path} ({len(trained.content) / 1e6:.2f} MB, sha256 {digest[:16]})", soft_wrap=True)
    return path


@click.command("length")
@click.option("--data", "folder", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option("--out", "output", type=click.Path(path_type=Path, file_okay=False), help="Folder for the model.")
@click.option("--version", default="1", show_default=True, help="Version of the model; grows with each training.")
@click.option("--seed", default=Settings().seed, show_default=True, help="Seed of all that is drawn.")
def train_length(folder: Path, output: Path | None, version: str, seed: int) -> None:
    """Train the model that predicts answer lengths from prompts."""
    run(folder, output, version, Settings(seed=seed))


def _run(content: bytes, features: Rows) -> npt.NDArray[np.float64]:
    session = OnnxSession(content, [CPU], 1)
    starts = range(0, features.shape[0], BATCH_COUNT_MAX)
    parts = [session.run({"features": features[start : start + BATCH_COUNT_MAX].toarray()}) for start in starts]
    return np.sort(np.concatenate(parts, dtype=np.float64), axis=1)


def _check_parity(exported: npt.NDArray[np.float64], fitted: npt.NDArray[np.float64]) -> None:
    apart = ~np.isclose(exported, fitted, rtol=1e-3, atol=0.5).all(axis=1)
    if apart.mean() > PARITY_SHARE_MAX:
        raise AssertionError(f"the exported model differs from the trained one in {apart.mean():.2%} of the rows")


def _describe(
    folder: Path,
    version: str,
    settings: Settings,
    content: bytes,
    parts: datasets.Split,
    scores: tuple[Score, ...],
) -> dict[str, Any]:
    digests = datasets.digest(folder)
    overall = scores[-1]
    return {
        "name": "onnx_quantile",
        "version": version,
        "features": "hashed",
        "features_version": FEATURES_VERSION,
        "feature_count": FEATURE_COUNT,
        "quantile_levels": QUANTILE_LEVELS,
        "onnx_sha256": hashlib.sha256(content).hexdigest(),
        "trained_on": ", ".join(f"{source.origin} ({source.licence})" for source in (*datasets.SOURCES, MEASURED)),
        "licence": "Apache-2.0",
        "data_sha256": datasets.digest_of(digests),
        "data_files_sha256": digests,
        "measured_sha256": hashlib.sha256(measured.TABLE.read_bytes()).hexdigest(),
        "split": SPLIT,
        "selection": SELECTION,
        "scored": SCORED,
        "train_count": len(parts.train),
        "calibration_count": len(parts.calibration),
        "test_count": len(parts.test),
        "mae_tokens": f"{overall.mae_tokens:.2f}",
        "coverage_p90": f"{overall.coverage_p90:.3f}",
        "scores": [asdict(one) for one in scores],
        "settings": asdict(settings),
        "made_by": f"python -m forebay.train.length --data DATA --version {version}",
        "made_with": {name: version_of(name) for name in ("scikit-learn", "skl2onnx", "numpy", "scipy")},
    }


@contextmanager
def _progress(console: Console, total: int) -> Iterator[OnStep]:
    columns = (TextColumn("{task.description:<12}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("reading", total=total)
        yield lambda name: progress.update(task, advance=1, description=name)


def _table(scores: tuple[Score, ...]) -> Table:
    table = Table(title="Test prompts: mean absolute error in tokens and coverage", title_justify="left")
    columns = ("set", "answers", "MAE", "constant", "length only", "MAE /constant", "≤p10", "≤p90", "≤p97")
    for column in columns:
        table.add_column(column, justify="left" if column == "set" else "right")
    for one in scores:
        errors = (f"{one.mae_tokens:.1f}", f"{one.mae_constant:.1f}", f"{one.mae_length_only:.1f}")
        shares = (one.mae_tokens / one.mae_constant, one.coverage_p10, one.coverage_p90, one.coverage_p97)
        table.add_row(one.name, f"{one.count:,}", *errors, *(f"{share:.3f}" for share in shares))
    return table


if __name__ == "__main__":
    train_length()
