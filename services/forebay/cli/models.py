"""The models that commands name: those that were trained here, those that ship, files, and predictors without one."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from forebay.core.errors import ConfigError
from forebay.core.prediction import ModelKind, PredictorModel
from forebay.predictor.build import opener
from forebay.predictor.config import Config
from forebay.predictor.engine import label
from forebay.predictor.policy.length import LENGTH_PREDICTORS, TRAINED, LengthPredictor
from forebay.predictor.store_files import PACKAGED, FolderModelStore


@dataclass(frozen=True, slots=True)
class Chosen:
    """A predictor that a command names; `make` gives a fresh one, which has learned nothing from outcomes."""

    model: PredictorModel
    make: Callable[[], LengthPredictor]

    @property
    def label(self) -> str:
        """Name and version."""
        return label(self.model)


def choose_model(text: str, folder: Path) -> Chosen:
    """The predictor called NAME or NAME@VERSION (without a version the newest), or the ONNX file of this path.

    Raises ConfigError where there is none, and FailedPrecondition where it cannot be opened.
    """
    if text.endswith(".onnx"):
        return _of_file(Path(text))
    name, _, version = text.partition("@")
    if name in LENGTH_PREDICTORS and name not in TRAINED and not version:
        return Chosen(PredictorModel(name, ModelKind.LENGTH), LENGTH_PREDICTORS[name])
    store = FolderModelStore(folder, PACKAGED)
    stored = sorted(store.list(), key=lambda one: (one.name, _number(one.version), one.version))
    fitting = [one for one in stored if one.name == name and version in ("", one.version)]
    if not fitting:
        known = ", ".join([*map(label, stored), *(one for one in LENGTH_PREDICTORS if one not in TRAINED)])
        raise ConfigError(f"--model: there is no {text!r} in {folder} or among those that ship; known: {known}")
    return _opened(store, fitting[-1])


def _of_file(path: Path) -> Chosen:
    store = FolderModelStore(path.parent)
    for model in store.list():
        if model.metadata["file"] == path.name:
            return _opened(store, model)
    raise ConfigError(f"--model: {path} is not there, or has no description (.json) beside it")


def _opened(store: FolderModelStore, model: PredictorModel) -> Chosen:
    content = store.read(model)
    open_model = opener(Config(provider="cpu"))
    return Chosen(model, lambda: open_model(model, content).policy)


def _number(version: str) -> int:
    return int(version) if version.isdecimal() else 0
