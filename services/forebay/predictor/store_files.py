"""Trained models in a folder: X.onnx with its description X.json beside it."""

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

from forebay.core.errors import FailedPrecondition
from forebay.core.prediction import ModelKind, PredictorModel

log = logging.getLogger(__name__)

PACKAGED = Path(__file__).parent / "models"
"""The models that come with Forebay."""


class FolderModelStore:
    """Reads a folder anew at each call, so that a model that is put there can be activated at once."""

    def __init__(self, folder: Path = PACKAGED) -> None:
        self._folder = folder

    def list(self) -> tuple[PredictorModel, ...]:
        """The models that have a description; one that cannot be read is left out with a warning."""
        found = (_described(path) for path in sorted(self._folder.glob("*.json")))
        return tuple(model for model in found if model is not None)

    def read(self, model: PredictorModel) -> bytes:
        """The content, once its SHA-256 is that of the description.

        Raises FailedPrecondition when the file is gone or differs.
        """
        path = self._folder / model.metadata["file"]
        try:
            content = path.read_bytes()
        except OSError as error:
            raise FailedPrecondition(f"{path.name} cannot be read ({error.strerror}); train or restore it") from error
        digest = hashlib.sha256(content).hexdigest()
        if digest != model.digest_sha256:
            raise FailedPrecondition(
                f"{path.name} has SHA-256 {digest}, but its description says {model.digest_sha256}; restore the file "
                "or train again with `forebay train length`",
                reason="DIGEST_MISMATCH",
            )
        return content


def _described(path: Path) -> PredictorModel | None:
    try:
        entry = json.loads(path.read_text())
        metadata = {"file": path.with_suffix(".onnx").name, **{key: _text(value) for key, value in entry.items()}}
        return PredictorModel(
            name=entry["name"],
            kind=ModelKind.LENGTH,
            version=str(entry["version"]),
            digest_sha256=entry["onnx_sha256"],
            metadata=metadata,
        )
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        log.warning("model description left out", extra={"fields": {"file": path.name, "error": repr(error)}})
        return None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
