"""Trains one model on examples, measures it on prompts that it has not seen, and describes it for the registry."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import numpy.typing as npt

from forebay.core.errors import ConfigError
from forebay.core.prediction import QUANTILE_LEVELS, ModelKind, PredictorModel
from forebay.core.values import InferenceRequest
from forebay.predictor.build import opener
from forebay.predictor.config import Config
from forebay.predictor.policy.length import Histogram, LengthPredictor, OnnxQuantile
from forebay.predictor.sessions import CPU, OnnxSession
from forebay.train.data import Examples, Features
from forebay.train.evaluation import Figures, Predicted, baselines, figures, follow, scored
from forebay.train.family import Continuing, OnStep, Trained, family
from forebay.train.tables import Table

TEST_COUNT_MIN = 20
ALONE, LIVE = "model alone", "model, live"
"""The file by itself, and with what the predictor makes of it: corrected by outcomes and its bounds calibrated."""
PACKAGES = ("forebay", "numpy", "scikit-learn", "skl2onnx", "onnx", "onnxruntime-gpu", "torch")
SPLIT = "by prompt: a fifth of the prompts, drawn by the hash of their substance and the seed, is tested"


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be trained: a family on a table; `licence` of the data and `made_by` go into the description.

    `start`, where given, is the content of the model to learn on from, and `start_note` says which, of what data.
    """

    family: str
    table: Table
    seed: int
    licence: str
    made_by: str
    start: bytes | None = None
    start_note: str = ""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A trained model with its description, and how it did on the test examples."""

    content: bytes
    description: Mapping[str, object]
    test: Examples
    predicted: tuple[Predicted, ...]
    rows: tuple[Figures, ...]


def step_count(name: str) -> int:
    """How often `train` calls `on_step`."""
    return family(name).step_count() + 3


def train(job: Job, on_step: OnStep) -> Candidate:
    """The same table and seed give the same model on one machine. Raises ConfigError when the examples do not do."""
    if job.table.examples.features is not None and job.family != "fast":
        raise ConfigError(f"--family {job.family} reads prompts, but the database has only features; take fast")
    learnt, test = job.table.split(job.seed)
    if len(test) < TEST_COUNT_MIN or not len(learnt):
        raise ConfigError(
            f"of {len(job.table.examples)} examples {len(learnt)} are left to learn from and {len(test)} to test on; "
            f"there must be {TEST_COUNT_MIN} or more to test on: give more prompts"
        )
    trained = _trained(job, learnt, on_step)
    predicted = _predicted(trained, test, on_step)
    rows = tuple(figures(one, test, scored(test)) for one in predicted)
    return Candidate(trained.content, _describe(job, trained, learnt, test, rows), test, predicted, rows)


def _trained(job: Job, learnt: Examples, on_step: OnStep) -> Trained:
    found = family(job.family)
    if job.start is None:
        return found.run(learnt, job.seed, on_step)
    if not isinstance(found, Continuing):
        raise ConfigError(f"--start: the family {job.family} starts from nothing; take finetuned")
    return found.run_from(job.start, learnt, job.seed, on_step)


def _predicted(trained: Trained, test: Examples, on_step: OnStep) -> tuple[Predicted, ...]:
    alone = follow(ALONE, _policy(trained, test), test, learns=False)
    on_step("test alone")
    live = follow(LIVE, _policy(trained, test), test, learns=True)
    on_step("test live")
    others = (*baselines(test), follow("histogram", Histogram(), test, learns=True))
    on_step("baselines")
    return (alone, live, *others)


def _policy(trained: Trained, test: Examples) -> LengthPredictor:
    if test.features is not None:
        return OnnxQuantile(_Remembered(trained.content, test))
    metadata = {key: text(value) for key, value in trained.metadata.items()}
    model = PredictorModel(str(trained.metadata["name"]), ModelKind.LENGTH, "0", metadata=metadata)
    return opener(Config(provider="cpu"))(model, trained.content).policy


class _Remembered:
    """A model that is fed with the features that were kept instead of a prompt."""

    def __init__(self, content: bytes, examples: Examples) -> None:
        self._session = OnnxSession(content, [CPU], 1)
        self._features: Features = examples.features
        self._rows = {query.request_id: row for row, query in enumerate(examples.queries)}

    def infer(self, queries: Sequence[InferenceRequest]) -> npt.NDArray[np.float64]:
        """Tokens for queries of the examples."""
        rows = [self._rows[query.request_id] for query in queries]
        return self._session.run({"features": self._features[rows].toarray()}).astype(np.float64)


def _describe(
    job: Job, trained: Trained, learnt: Examples, test: Examples, rows: Sequence[Figures]
) -> dict[str, object]:
    table = job.table
    alone, live = rows[0], rows[1]
    return {
        **trained.metadata,
        "family": job.family,
        "quantile_levels": QUANTILE_LEVELS,
        "trained_on": ", ".join(table.digests),
        "licence": job.licence,
        "data_sha256": hashlib.sha256(json.dumps(dict(table.digests), sort_keys=True).encode()).hexdigest(),
        "data_files_sha256": dict(table.digests),
        "prompt_head_bytes": table.head_bytes,
        "split": SPLIT,
        "seed": job.seed,
        "train_count": len(learnt),
        "test_count": len(test),
        "censored_count": int((~table.examples.complete).sum()),
        "mae_tokens": f"{alone.mae_tokens:.2f}",
        "coverage_p90": f"{live.coverage_p90:.3f}",
        "scores": [dataclasses.asdict(one) for one in rows],
        **({"started_from": job.start_note} if job.start_note else {}),
        "made_by": job.made_by,
        "made_with": versions(),
    }


def doubts(rows: Sequence[Figures]) -> tuple[str, ...]:
    """Why not to trust a model with these figures; nothing where it does better than what needs no model."""
    live = next(row for row in rows if row.name == LIVE)
    better = [row.name for row in rows if row.name not in (ALONE, LIVE) and row.pinball_tokens <= live.pinball_tokens]
    if not better:
        return ()
    return (f"the model is no better than: {', '.join(better)}; train on more examples before it answers",)


def versions() -> dict[str, str]:
    """What is installed of what training depends on."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def text(value: Any) -> str:
    """A value of a description as the registry tells it."""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
