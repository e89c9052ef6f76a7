"""Where trained models are kept: the port, and an adapter in memory."""

from collections.abc import Mapping
from typing import Protocol

from forebay.core.errors import FailedPrecondition
from forebay.core.prediction import PredictorModel


class ModelStore(Protocol):
    """Trained models with their descriptions; a model's content always has the digest of its description."""

    def list(self) -> tuple[PredictorModel, ...]:
        """Descriptions of all models kept; one that cannot be read is left out."""
        ...

    def read(self, model: PredictorModel) -> bytes:
        """The content of a model. Raises FailedPrecondition when it is gone or is not what its description says."""
        ...


class MemoryModelStore:
    """Keeps contents by description in memory."""

    def __init__(self, contents: Mapping[str, tuple[PredictorModel, bytes]]) -> None:
        self._contents = dict(contents)

    def list(self) -> tuple[PredictorModel, ...]:
        """All descriptions."""
        return tuple(model for model, _ in self._contents.values())

    def read(self, model: PredictorModel) -> bytes:
        """The content kept under the digest."""
        if model.digest_sha256 not in self._contents:
            raise FailedPrecondition(f"the content of model {model.name}@{model.version} is gone")
        return self._contents[model.digest_sha256][1]
