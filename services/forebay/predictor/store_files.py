"""Trained models in folders: an ONNX file with its description X.json beside it, and the file CHOSEN."""

import hashlib
import json
import logging
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from forebay.core.errors import FailedPrecondition
from forebay.core.prediction import ModelKind, PredictorModel
from forebay.predictor import onnx_file
from forebay.predictor.store import next_version

log = logging.getLogger(__name__)

PACKAGED = Path(__file__).parent / "models"
"""The models that come with Forebay."""
CONTENT_BYTES_MAX = 512 << 20
DESCRIPTION_BYTES_MAX = 1 << 20
CHOSEN = "CHOSEN"
CHOSEN_COUNT_MAX = 10

_NAME = re.compile(r"[a-z0-9_]{1,64}")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\.onnx")
_DIGEST = re.compile(r"[0-9a-f]{64}")


class FolderModelStore:
    """Models in `folder`, and those in `others`, to which nothing is added; of equal labels the first one counts.

    Folders are read anew at each call, so that a model that is put there can be activated at once.
    """

    def __init__(self, folder: Path = PACKAGED, *others: Path) -> None:
        self._folder = folder
        self._folders = (folder, *(one for one in others if one != folder))

    def list(self) -> tuple[PredictorModel, ...]:
        """The models that have a description; one that cannot be read is left out with a warning."""
        found: dict[tuple[str, str], PredictorModel] = {}
        for folder in self._folders:
            for path in sorted(folder.glob("*.json")):
                model = _described(path)
                if model is not None:
                    found.setdefault((model.name, model.version), model)
        return tuple(found.values())

    def read(self, model: PredictorModel) -> bytes:
        """The content, once its SHA-256 is that of the description and it is a plain ONNX model.

        Raises FailedPrecondition when the file is gone, differs, is larger than `CONTENT_BYTES_MAX`, or is refused by
        `onnx_file.check`.
        """
        content = _content(self._place(model))
        digest = hashlib.sha256(content).hexdigest()
        if digest != model.digest_sha256:
            raise FailedPrecondition(
                f"{model.metadata['file']} has SHA-256 {digest}, but its description says {model.digest_sha256}; "
                "restore the file or train again with `forebay train length`",
                reason="DIGEST_MISMATCH",
            )
        onnx_file.check(content)
        return content

    def add(self, name: str, content: bytes, description: Mapping[str, object]) -> PredictorModel:
        """Keeps the model as the next version of its name: its content first, then, all at once, its description.

        Raises FailedPrecondition when the content is refused as `read` would, or the folder cannot be written.
        """
        if not _NAME.fullmatch(name):
            raise FailedPrecondition(f"a model cannot be named {name!r}; use small letters, digits and _")
        onnx_file.check(content)
        digest = hashlib.sha256(content).hexdigest()
        file = f"{name}-{digest[:16]}.onnx"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            _write(self._folder / file, content)
            path = self._describe(name, {**description, "name": name, "file": file, "onnx_sha256": digest})
        except OSError as error:
            raise FailedPrecondition(f"cannot write models to {self._folder}: {error.strerror}") from error
        model = _described(path)
        assert model is not None
        return model

    def chosen(self, kind: ModelKind) -> tuple[str, ...]:
        """The labels in the file CHOSEN; none where it is not there or cannot be read."""
        return self._kept().get(kind.name.lower(), ())

    def choose(self, kind: ModelKind, labels: tuple[str, ...]) -> None:
        """Writes the file CHOSEN; nothing where the only folder is that of the models that come with Forebay.

        Raises FailedPrecondition when it cannot be written.
        """
        if self._folder == PACKAGED:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            kept = {**self._kept(), kind.name.lower(): labels[:CHOSEN_COUNT_MAX]}
            _write(self._folder / CHOSEN, json.dumps(kept, indent=2).encode() + b"\n")
        except OSError as error:
            raise FailedPrecondition(f"cannot write to {self._folder}: {error.strerror}") from error

    def _kept(self) -> dict[str, tuple[str, ...]]:
        try:
            kept = json.loads((self._folder / CHOSEN).read_bytes())
            return {str(kind): tuple(map(str, labels)) for kind, labels in kept.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
            fields = {"folder": str(self._folder), "error": repr(error)}
            log.warning("the file CHOSEN cannot be read; the newest model is taken", extra={"fields": fields})
            return {}

    def _place(self, model: PredictorModel) -> Path:
        file = model.metadata["file"]
        if not _FILE.fullmatch(file):
            raise FailedPrecondition(f"{file[:80]!r} is no file of the models' folder", reason="FILE_OUTSIDE")
        for folder in self._folders:
            path = folder / file
            if path.is_file() and path.resolve().parent != folder.resolve():
                raise FailedPrecondition(f"{file[:80]!r} leads out of the models' folder", reason="FILE_OUTSIDE")
            if path.is_file() and _is_described(folder, model):
                return path
        return self._folder / file

    def _describe(self, name: str, description: Mapping[str, object]) -> Path:
        """Writes the description under the first version that nobody else takes meanwhile."""
        version = next_version(name, self.list())
        while True:
            path = self._folder / f"{name}-{version}.json"
            text = json.dumps({**description, "version": str(version)}, indent=2, default=str) + "\n"
            fresh = _written(self._folder, text.encode())
            try:
                os.link(fresh, path)
                _sync(self._folder)
                return path
            except FileExistsError:
                version += 1
            finally:
                fresh.unlink()


def _is_described(folder: Path, model: PredictorModel) -> bool:
    """Whether it is this folder that has the model: two folders may have files of one name."""
    found = (_described(path) for path in folder.glob("*.json"))
    return any(one is not None and one.digest_sha256 == model.digest_sha256 for one in found)


def _content(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > CONTENT_BYTES_MAX:
            raise FailedPrecondition(
                f"{path.name} has {size:,} bytes; models have at most {CONTENT_BYTES_MAX:,}", reason="MODEL_TOO_LARGE"
            )
        return path.read_bytes()
    except OSError as error:
        raise FailedPrecondition(f"{path.name} cannot be read ({error.strerror}); train or restore it") from error


def _described(path: Path) -> PredictorModel | None:
    try:
        if path.stat().st_size > DESCRIPTION_BYTES_MAX:
            raise ValueError(f"more than {DESCRIPTION_BYTES_MAX} bytes")
        entry = json.loads(path.read_bytes())
        metadata = {"file": path.with_suffix(".onnx").name, **{key: _text(value) for key, value in entry.items()}}
        return PredictorModel(
            name=_fitting(_NAME, entry["name"]),
            kind=ModelKind.LENGTH,
            version=_fitting(_VERSION, str(entry["version"])),
            digest_sha256=_fitting(_DIGEST, entry["onnx_sha256"]),
            metadata=metadata,
        )
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        log.warning("model description left out", extra={"fields": {"file": path.name, "error": repr(error)}})
        return None


def _fitting(pattern: re.Pattern[str], value: str) -> str:
    if not pattern.fullmatch(value):
        raise ValueError(f"{value[:80]!r} does not fit {pattern.pattern}")
    return value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _write(path: Path, content: bytes) -> None:
    """Writes a file so that a reader sees the old one or the new one, never half of it."""
    _written(path.parent, content).replace(path)
    _sync(path.parent)


def _written(folder: Path, content: bytes) -> Path:
    handle, name = tempfile.mkstemp(dir=folder, prefix=".new-")
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.chmod(name, 0o644)
    return Path(name)


def _sync(folder: Path) -> None:
    """Makes names in a folder survive a crash of the machine."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
