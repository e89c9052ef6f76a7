"""The family that learns as a whole: an encoder with all its layers after the lengths of a deployment's own answers."""

import dataclasses
import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt

from forebay.core.errors import ConfigError
from forebay.core.prediction import QUANTILE_LEVELS
from forebay.predictor.lengths.encoders.extractors import Tokens
from forebay.predictor.lengths.encoders.files import VOCABULARY, WEIGHTS, read
from forebay.predictor.lengths.encoders.plain import PLAIN_COUNT, plain
from forebay.predictor.lengths.encoders.tokens import WordPieces
from forebay.train.data import Examples
from forebay.train.export_finetuned import KNOWN, Frame, to_onnx
from forebay.train.export_network import OPSET
from forebay.train.family import OnStep, Trained
from forebay.train.network import Rows, shifts
from forebay.train.preserve import HEAD_COUNT, INSTALL_TORCH, INSTALL_WEIGHTS, standardised
from forebay.train.semantic import parts, require_text, varied
from forebay.train.transformer import Weights, read_weights, weights_of

NAME = "finetuned"
FIT_STEPS = 40
AGAIN = 3
"""What has learnt other lengths before needs so many times fewer passes."""

Matrix = npt.NDArray[np.float32]


def step_count() -> int:
    """Steps of one `run`."""
    return FIT_STEPS + 2


def run(examples: Examples, seed: int, on_step: OnStep) -> Trained:
    """See `family.Family`. Raises ConfigError or FailedPrecondition with the command to run where a package is missing.

    The encoder is MiniLM-L6; word and place vectors stay as published, all above them learns by the pinball loss of
    square roots, whose median costs nearly what the median of tokens does, while long answers do not drown the rest.
    """
    whole = _whole()
    require_text(NAME, examples)
    return _run(examples, seed, on_step, read_weights(read(WEIGHTS, INSTALL_WEIGHTS)[1]), whole.Settings())


def run_from(start: bytes, examples: Examples, seed: int, on_step: OnStep) -> Trained:
    """As `run`, but starts where another model of this family ended, such as one of another LLM's lengths.

    Raises ConfigError where `start` is none.
    """
    settings = _whole().Settings()
    require_text(NAME, examples)
    try:
        weights = weights_of(start)
    except ValueError as error:
        raise ConfigError(f"--start: {error}; give a model of the family {NAME}") from error
    if KNOWN not in weights or weights[KNOWN].shape[1] != PLAIN_COUNT:
        raise ConfigError(f"--start: that is no model of the family {NAME} as this version makes it")
    settings = dataclasses.replace(settings, seen_count=settings.seen_count // AGAIN)
    made = _run(examples, seed, on_step, weights, settings)
    return Trained(made.content, {**made.metadata, "start_sha256": hashlib.sha256(start).hexdigest()})


def _run(examples: Examples, seed: int, on_step: OnStep, weights: Weights, settings: Any) -> Trained:
    whole = _whole()
    held_back, _ = parts(examples)
    shown, kept = varied(examples.where(~held_back)), examples.where(held_back)
    everything = shown.joined(kept)
    ids = WordPieces().ids([query.prompt_head for query in everything.queries])
    on_step("tokens")
    frame, rows = framed(everything, np.arange(len(everything)) < len(shown))
    learns = slice(0, len(shown))
    model = whole.fit(
        weights,
        HEAD_COUNT,
        whole.Shown(ids[learns], rows.features[learns], rows.logs[learns], rows.is_cut[learns]),
        settings,
        seed,
        _Ticks(on_step),
    )
    calibrates = slice(len(shown), None)
    found = whole.predict(model, ids[calibrates], rows.features[calibrates])
    frame = dataclasses.replace(frame, shifts=shifts(found, rows.logs[calibrates], rows.is_cut[calibrates]))
    content = to_onnx({**weights, **model.weights()}, frame, HEAD_COUNT)
    on_step("export")
    return Trained(content, _described(dataclasses.asdict(settings), len(shown)))


def framed(examples: Examples, learns: npt.NDArray[np.bool_]) -> tuple[Frame, Rows]:
    """Rows whose targets and features are about one in size, by those that learn, and how they became so."""
    roots = np.sqrt(examples.tokens[learns])
    features = plain(examples.queries)
    _, (means, factors) = standardised(Rows(features[learns], roots.astype(np.float32), np.zeros(len(roots), bool)))
    centre, scale = float(np.median(roots)), max(0.5, float(roots.std()))
    frame = Frame(means, factors, centre, scale, np.zeros(len(QUANTILE_LEVELS), dtype=np.float32))
    standard = ((features - means) * factors).astype(np.float32)
    return frame, Rows(standard, frame.targets(examples.tokens), ~examples.complete)


class _Ticks:
    """Makes `FIT_STEPS` steps of shares that grow to one."""

    def __init__(self, on_step: OnStep) -> None:
        self._on_step = on_step
        self._count = 0

    def __call__(self, share: float) -> None:
        while self._count < int(FIT_STEPS * share + 1e-9):
            self._count += 1
            self._on_step("layers")


def _whole() -> Any:
    try:
        from forebay.train import whole
    except ImportError as error:
        raise ConfigError(f"--family {NAME} trains with torch, which is not here; run: {INSTALL_TORCH}") from error
    return whole


def _described(settings: dict[str, object], fitted_count: int) -> dict[str, object]:
    return {
        "name": NAME,
        "features": "tokens",
        "features_version": Tokens.version,
        "plain_count": PLAIN_COUNT,
        "vocabulary_sha256": VOCABULARY.sha256,
        "backbone_sha256": WEIGHTS.sha256,
        "opset": OPSET,
        "fitted_count": fitted_count,
        "settings": settings,
    }
