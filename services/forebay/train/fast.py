"""The fast family: hashed words and counts into boosted trees; trains on text or on features that were kept."""

import dataclasses

import numpy as np
import numpy.typing as npt
from scipy import sparse

from forebay.core.errors import ConfigError
from forebay.predictor.lengths.features import BATCH_COUNT_MAX, FEATURE_COUNT, FEATURES_VERSION, extract
from forebay.train.data import Examples
from forebay.train.export import to_onnx
from forebay.train.family import OnStep, Trained
from forebay.train.folds import CALIBRATION_SALT, CALIBRATION_SHARE, drawn
from forebay.train.model import Rows, Settings, calibrated, fit
from forebay.train.model import step_count as fit_step_count

TEXTLESS_SHARE = 10
"""One example in so many is shown once more without its text, so that the model knows what length alone tells."""
CUT_FACTOR = 1.5
EXAMPLES_MIN = 200
FEW_COUNT, MANY_COUNT = 5_000, 25_000
"""Fewer say nothing that counting would not."""


def step_count() -> int:
    """Steps of one `run`."""
    return 2 + fit_step_count()


def run(examples: Examples, seed: int, on_step: OnStep) -> Trained:
    """See `family.Family`."""
    if len(examples) < EXAMPLES_MIN:
        raise ConfigError(
            f"{len(examples)} examples to train on are too few for a model; it needs {EXAMPLES_MIN} or more"
        )
    settings = sized(Settings(seed=seed), len(examples))
    held_back = drawn(examples.groups, CALIBRATION_SHARE, CALIBRATION_SALT)
    shown, calibration = with_textless(examples.where(~held_back)), examples.where(held_back)
    features, features_held_back = features_of(shown), features_of(calibration)
    on_step("features")
    fitted = fit(features, likely_tokens(shown), shown.groups, settings, on_step)
    model = calibrated(fitted, features_held_back, likely_tokens(calibration)) if len(calibration) else fitted
    content = to_onnx(model)
    on_step("export")
    return Trained(
        content,
        {
            "name": "onnx_quantile",
            "features": "hashed",
            "features_version": FEATURES_VERSION,
            "feature_count": FEATURE_COUNT,
            "settings": dataclasses.asdict(settings),
        },
    )


def sized(settings: Settings, count: int) -> Settings:
    """The settings with smaller trees where there are few examples, which they learn by heart otherwise.

    Where there are many there are more trees: on the open sets with the measured lengths, which are 32,000, half more
    lose 2 % less.
    """
    if count >= MANY_COUNT:
        trees, tail_trees = 22 * settings.tree_count // 15, 11 * settings.tail_tree_count // 8
        return dataclasses.replace(settings, tree_count=trees, tail_tree_count=tail_trees)
    if count >= FEW_COUNT:
        return settings
    return dataclasses.replace(settings, tree_count=100, tail_tree_count=50, leaf_count=7)


def likely_tokens(examples: Examples) -> npt.NDArray[np.float64]:
    """The answers' tokens, cut ones longer by half.

    Quantile regression needs to know only that they lie above the quantile, as they do where that is below the cut.
    """
    return np.where(examples.complete, examples.tokens, CUT_FACTOR * examples.tokens)


def with_textless(examples: Examples) -> Examples:
    """The examples, and some once more without their text; those of which only features are kept stay alone."""
    if examples.features is not None:
        return examples
    every = np.arange(len(examples)) % TEXTLESS_SHARE == 0
    return examples.joined(examples.where(every).without_text())


def features_of(examples: Examples) -> Rows:
    """The features as they were kept, otherwise of the text."""
    if examples.features is not None:
        return sparse.csr_matrix(examples.features)
    starts = range(0, len(examples), BATCH_COUNT_MAX)
    parts = [sparse.csr_matrix(extract(examples.queries[start : start + BATCH_COUNT_MAX])) for start in starts]
    return sparse.vstack(parts).tocsr() if parts else sparse.csr_matrix((0, FEATURE_COUNT), dtype=np.float32)
