"""Where trained models are kept: the port, and an adapter in memory."""

import dataclasses
from collections.abc import Mapping
from typing import Protocol

from forebay.core.errors import FailedPrecondition
from forebay.core.prediction import ModelKind, PredictorModel


class ModelStore(Protocol):
    """Trained models with their descriptions; a model's content always has the digest of its description.

    Calls block. All raise FailedPrecondition when the place cannot be read or written.
    """

    def list(self) -> tuple[PredictorModel, ...]:
        """Descriptions of all models kept; one that cannot be read is left out."""
        ...

    def read(self, model: PredictorModel) -> bytes:
        """The content of a model. Raises FailedPrecondition when it is gone or is not what its description says."""
        ...

    def add(self, name: str, content: bytes, description: Mapping[str, object]) -> PredictorModel:
        """Keeps a model as the next version of its name, whole or not at all; says which version it became."""
        ...

    def chosen(self, kind: ModelKind) -> tuple[str, ...]:
        """Labels of the models that were made to answer, the newest choice first; what is kept outlives us."""
        ...

    def choose(self, kind: ModelKind, labels: tuple[str, ...]) -> None:
        """Keeps which model answers, and which did before."""
        ...


def next_version(name: str, models: tuple[PredictorModel, ...]) -> int:
    """The version after the newest of this name; versions that are no numbers do not count."""
    return 1 + max((int(one.version) for one in models if one.name == name and one.version.isdecimal()), default=0)


class MemoryModelStore:
    """Keeps contents by description in memory."""

    def __init__(self, contents: Mapping[str, tuple[PredictorModel, bytes]]) -> None:
        self._contents = dict(contents)
        self._chosen: dict[ModelKind, tuple[str, ...]] = {}

    def list(self) -> tuple[PredictorModel, ...]:
        """All descriptions."""
        return tuple(model for model, _ in self._contents.values())

    def read(self, model: PredictorModel) -> bytes:
        """The content kept under the digest."""
        if model.digest_sha256 not in self._contents:
            raise FailedPrecondition(f"the content of model {model.name}@{model.version} is gone")
        return self._contents[model.digest_sha256][1]

    def add(self, name: str, content: bytes, description: Mapping[str, object]) -> PredictorModel:
        """See `ModelStore`."""
        version = str(next_version(name, self.list()))
        digest = f"{name}@{version}"
        metadata = {key: str(value) for key, value in description.items()}
        model = PredictorModel(name, ModelKind.LENGTH, version, digest_sha256=digest, metadata=metadata)
        self._contents[digest] = (dataclasses.replace(model), content)
        return model

    def chosen(self, kind: ModelKind) -> tuple[str, ...]:
        """See `ModelStore`."""
        return self._chosen.get(kind, ())

    def choose(self, kind: ModelKind, labels: tuple[str, ...]) -> None:
        """See `ModelStore`."""
        self._chosen[kind] = labels
