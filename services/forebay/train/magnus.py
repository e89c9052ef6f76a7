"""The family of Magnus: user input length and folded semantics of application and user, into a random forest."""

import dataclasses

import numpy as np

from forebay.predictor.lengths.trained import EXTRACTORS, Opening
from forebay.predictor.sessions import CPU
from forebay.train.data import Examples
from forebay.train.family import OnStep, Trained
from forebay.train.folds import CALIBRATION_SALT, CALIBRATION_SHARE, drawn
from forebay.train.forest import Settings, calibrated, fit, to_onnx
from forebay.train.network import rows_of
from forebay.train.semantic import READ_STEPS, described, read, require_text

NAME = "magnus"
EXAMPLES_MAX = 12_000
"""A forest that is small enough to ship learns no more from more; each example costs two passes of the encoder."""


def step_count() -> int:
    """Steps of one `run`."""
    return READ_STEPS + 2


def run(examples: Examples, seed: int, on_step: OnStep) -> Trained:
    """See `family.Family`. Raises FailedPrecondition with the command to run where the encoder is not installed.

    Source: Magnus (ICWS'24). What it learns anew every 3 minutes is the work of the predictor that serves it
    (`predictor/policy/length/magnus.py`). A cut answer counts as if it had ended there.
    """
    require_text(NAME, examples)
    extractor = EXTRACTORS[NAME](Opening([CPU], 1))
    some = _some(examples, seed)
    rows = rows_of(some, read(some, extractor, on_step))
    held_back = drawn(some.groups, CALIBRATION_SHARE, CALIBRATION_SALT)
    settings = Settings()
    forest = fit(rows.where(~held_back), settings, seed)
    on_step("forest")
    content = to_onnx(calibrated(forest, rows.where(held_back)))
    on_step("export")
    return Trained(content, {**described(NAME, extractor, dataclasses.asdict(settings)), "fitted_count": len(some)})


def _some(examples: Examples, seed: int) -> Examples:
    if len(examples) <= EXAMPLES_MAX:
        return examples
    chosen = np.zeros(len(examples), dtype=bool)
    chosen[np.random.default_rng(seed).permutation(len(examples))[:EXAMPLES_MAX]] = True
    return examples.where(chosen)
