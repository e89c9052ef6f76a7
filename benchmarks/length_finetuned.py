"""How far a small encoder gets on Alpaca when all its layers learn, with and without another model's lengths before.

The family `finetuned` (MiniLM-L6, 22 million weights) as `forebay train length --family finetuned` makes it, on the
prompts that `length_accuracy` learns from and asks, beside TF-IDF + boosting of the same run. The last row starts from
a model that has learnt davinci-003's lengths on the other Alpaca prompts (`--start`): rivals have not seen those, so it
stands apart. Medians and bounds are those of the ONNX model through the predictor's engine. All is thrown away, for
this data is for measuring only. Half an hour on one core; `--keep FOLDER` keeps each model as soon as it is made and
takes those that are there.

Needs what `forebay train length --family finetuned` needs; says so where it is missing.
Run: PYTHONPATH=services:clients/python python -m benchmarks.length_finetuned [--quick] [--json FILE] [--keep FOLDER]
"""

import json
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np

from benchmarks import common
from benchmarks.length_accuracy import bound_row, engine_with, follow, medians, score
from forebay.core.errors import ForebayError
from forebay.core.prediction import ModelKind, PredictorModel
from forebay.predictor.build import opener
from forebay.predictor.config import Config
from forebay.predictor.policy.length import LengthPredictor
from forebay.train import finetuned
from forebay.train.candidate import text
from forebay.train.family import Trained

SEED = 1
QUICK_COUNT = 1_000
THIRDS = [f"{kind} {part}" for kind in ("predicted", "true") for part in ("short", "middle", "long")]


class Shelf:
    """Makes models, and keeps them in a folder where one is given, so that an interruption costs one at most."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def model(self, name: str, make: Callable[[], Trained]) -> Trained:
        """The model of this name: the one that is kept, or else a new one."""
        if self._folder is None:
            return make()
        path = self._folder / f"{name}.onnx"
        about = path.with_suffix(".json")
        if about.is_file():
            return Trained(path.read_bytes(), json.loads(about.read_text()))
        made = make()
        self._folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(made.content)
        about.write_text(json.dumps(made.metadata, default=str))
        return made


def policy_of(made: Trained) -> LengthPredictor:
    metadata = {key: text(value) for key, value in made.metadata.items()}
    model = PredictorModel(metadata["name"], ModelKind.LENGTH, "1", metadata=metadata)
    return opener(Config(provider="cpu"))(model, made.content).policy


def said(name: str) -> Callable[[str], None]:
    """Prints how far it is, for it takes long."""
    began, seen = time.perf_counter(), [0]

    def on_step(step: str) -> None:
        seen[0] += 1
        if seen[0] % 4 == 1:
            print(f"{name}: {seen[0]} of {finetuned.step_count()}, {time.perf_counter() - began:.0f} s", flush=True)

    return on_step


def measure(report: common.Report, quick: bool, folder: Path | None) -> None:
    from benchmarks import length_baselines as usual
    from benchmarks.length_data import alpaca, other_model

    examples, _, tested = alpaca()
    learnt, asked, earlier = examples.where(~tested), examples.where(tested), other_model()
    if quick:
        learnt, earlier = (some.where(np.arange(len(some)) < QUICK_COUNT) for some in (learnt, earlier))
    shelf = Shelf(folder)
    points: list[list[common.Cell]] = [["TF-IDF + boosting", *score(usual.boosting(learnt, asked, SEED), asked.tokens)]]
    bounds: list[list[common.Cell]] = []

    def alone() -> Trained:
        return finetuned.run(learnt, SEED, said("all layers"))

    def other() -> Trained:
        return finetuned.run(earlier, SEED, said("davinci-003"))

    def after() -> Trained:
        start = shelf.model("earlier", other).content
        return finetuned.run_from(start, learnt, SEED, said("after davinci-003"))

    for key, title, make in (("alone", "finetuned", alone), ("after", "the same, after davinci-003's lengths", after)):
        made = shelf.model(key, make)
        points.append([title, *score(medians(policy_of(made), asked.queries), asked.tokens)])
        bounds.append([title, *bound_row(follow(engine_with(policy_of(made)), asked), asked.tokens)])
        _note(report, key, points[-1], bounds[-1])
    title = f"Alpaca, longest of 4 answers of Vicuna-7B: {len(learnt)} to learn from, {len(asked)} asked"
    columns = ("predictor", "MAE tokens", "Acc-50", "Acc-100", "tau")
    report.table(title, columns, points)
    report.figures["boosting_mae_tokens"] = float(points[0][1])
    report.table(
        "90 % bound", ("predictor", "covered", "reserve ratio", "in hindsight", *THIRDS, "by the model"), bounds
    )


def _note(report: common.Report, key: str, point: list[common.Cell], bound: list[common.Cell]) -> None:
    report.figures[f"{key}_mae_tokens"], report.figures[f"{key}_tau"] = float(point[1]), float(point[4])
    report.figures[f"{key}_coverage"], report.figures[f"{key}_reserve_ratio"] = map(float, bound[1:3])


@click.command()
@common.options
@click.option("--keep", "folder", type=click.Path(path_type=Path, file_okay=False), help="Where models are kept.")
def main(quick: bool, json_path: str | None, folder: Path | None) -> None:
    """Scores an encoder that learns as a whole."""
    report = common.Report("length_finetuned", quick)
    try:
        measure(report, quick, folder)
    except (ImportError, ForebayError, OSError) as error:
        print(f"length_finetuned: nothing is measured: {error}; see `forebay train length --family finetuned`")
        return
    report.close(json_path)


if __name__ == "__main__":
    main()
