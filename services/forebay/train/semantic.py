"""The semantic family: the sentence encoder's embedding beside plain features, into a small network."""

import dataclasses
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from forebay.core.errors import ConfigError
from forebay.predictor.lengths.encoders.files import ENCODER, VOCABULARY
from forebay.predictor.lengths.features import BATCH_COUNT_MAX
from forebay.predictor.lengths.trained import EXTRACTORS, Extractor, Opening
from forebay.predictor.sessions import CPU
from forebay.train.data import Examples
from forebay.train.export_network import to_onnx
from forebay.train.family import OnStep, Trained
from forebay.train.folds import CALIBRATION_SALT, CALIBRATION_SHARE, drawn
from forebay.train.network import Settings, calibrated, fit, rows_of

NAME = "semantic"
EXAMPLES_MIN = 200
TEXTLESS_SHARE = 10
"""One example in so many is shown once more without its text, so that the model knows what length alone tells."""
NAMELESS_SHARE = 3
"""One example in so many is shown without the names of its model and application, as new ones are."""
VALIDATION_SALT = 0x76616C
READ_STEPS = 10

Matrix = npt.NDArray[np.float32]


def step_count() -> int:
    """Steps of one `run`."""
    return READ_STEPS + 2


def run(examples: Examples, seed: int, on_step: OnStep) -> Trained:
    """See `family.Family`. Raises FailedPrecondition with the command to run where the encoder is not installed."""
    require_text(NAME, examples)
    settings = Settings()
    extractor = EXTRACTORS[NAME](Opening([CPU], 1))
    held_back, validates = parts(examples)
    shown = varied(examples.where(~held_back & ~validates))
    everything = shown.joined(examples.where(validates)).joined(examples.where(held_back))
    rows = rows_of(everything, read(everything, extractor, on_step))
    place = np.arange(len(everything))
    learns, calibrates = place < len(shown), place >= len(everything) - int(held_back.sum())
    network = fit(rows.where(learns), rows.where(~learns & ~calibrates), settings, seed, lambda epoch: None)
    on_step("network")
    network = calibrated(network, rows.where(calibrates))
    content = to_onnx(network)
    on_step("export")
    return Trained(content, described(NAME, extractor, dataclasses.asdict(settings)))


def require_text(name: str, examples: Examples) -> None:
    """Raises ConfigError where there are too few examples, or prompts of which only features are kept."""
    if examples.features is not None:
        raise ConfigError(f"--family {name} reads prompts, but only features of these are kept; take fast")
    if len(examples) < EXAMPLES_MIN:
        raise ConfigError(f"{len(examples)} examples to train on are too few; {name} needs {EXAMPLES_MIN} or more")


def parts(examples: Examples) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Which examples calibrate and which say when to stop; no prompt is in two of the three parts."""
    held_back = drawn(examples.groups, CALIBRATION_SHARE, CALIBRATION_SALT)
    validates = drawn(examples.groups, CALIBRATION_SHARE, VALIDATION_SALT) & ~held_back
    if held_back.all() or not validates.any() or (held_back | validates).all():
        raise ConfigError("the examples have too few different prompts; give more")
    return held_back, validates


def varied(examples: Examples) -> Examples:
    """The examples, some without names, and some once more without their text."""
    queries = [
        dataclasses.replace(query, model="", application="") if row % NAMELESS_SHARE == 0 else query
        for row, query in enumerate(examples.queries)
    ]
    shown = dataclasses.replace(examples, queries=tuple(queries))
    every = np.arange(len(examples)) % TEXTLESS_SHARE == 1
    return shown.joined(shown.where(every).without_text())


def read(examples: Examples, extractor: Extractor, on_step: Callable[[str], None]) -> Matrix:
    """The features of all examples; calls `on_step` `READ_STEPS` times."""
    found = []
    for rows in np.array_split(np.arange(len(examples)), READ_STEPS):
        for start in range(0, len(rows), BATCH_COUNT_MAX):
            chosen = rows[start : start + BATCH_COUNT_MAX]
            found.append(extractor.extract([examples.queries[row] for row in chosen])["features"])
        on_step("reading")
    return np.concatenate(found)


def described(name: str, extractor: Extractor, settings: dict[str, object]) -> dict[str, object]:
    """What the predictor must know to run a model that stands on the encoder."""
    return {
        "name": name,
        "features": name,
        "features_version": extractor.version,
        "encoder_sha256": ENCODER.sha256,
        "vocabulary_sha256": VOCABULARY.sha256,
        "settings": settings,
    }
