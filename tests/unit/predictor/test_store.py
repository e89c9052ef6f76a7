import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from forebay.core.errors import FailedPrecondition
from forebay.core.prediction import ModelKind, PredictorModel
from forebay.predictor.store import MemoryModelStore, ModelStore
from forebay.predictor.store_files import FolderModelStore

CONTENT = b"a model"


def put(folder: Path, name: str = "m", **changes: object) -> None:
    entry = {"name": "onnx_quantile", "version": "1", "onnx_sha256": hashlib.sha256(CONTENT).hexdigest(), "scores": [1]}
    (folder / f"{name}.json").write_text(json.dumps({**entry, **changes}))
    (folder / f"{name}.onnx").write_bytes(CONTENT)


def in_folder(folder: Path) -> ModelStore:
    put(folder)
    return FolderModelStore(folder)


def in_memory(folder: Path) -> ModelStore:
    model = PredictorModel("onnx_quantile", ModelKind.LENGTH, "1", digest_sha256="d")
    return MemoryModelStore({"d": (model, CONTENT)})


@pytest.mark.parametrize("make", [in_folder, in_memory])
def test_a_model_that_is_kept_can_be_listed_and_read(make: Callable[[Path], ModelStore], tmp_path: Path) -> None:
    store = make(tmp_path)
    (model,) = store.list()
    assert (model.name, model.version, model.kind) == ("onnx_quantile", "1", ModelKind.LENGTH)
    assert store.read(model) == CONTENT


@pytest.mark.parametrize("make", [in_folder, in_memory])
def test_a_model_that_is_gone_cannot_be_read(make: Callable[[Path], ModelStore], tmp_path: Path) -> None:
    gone = PredictorModel("x", ModelKind.LENGTH, "9", digest_sha256="z", metadata={"file": "x.onnx"})
    with pytest.raises(FailedPrecondition, match=r"gone|restore"):
        make(tmp_path).read(gone)


def test_a_file_that_was_changed_is_refused(tmp_path: Path) -> None:
    put(tmp_path)
    (tmp_path / "m.onnx").write_bytes(CONTENT + b"!")
    store = FolderModelStore(tmp_path)
    with pytest.raises(FailedPrecondition, match="SHA-256") as caught:
        store.read(store.list()[0])
    assert caught.value.code == "DIGEST_MISMATCH"


def test_descriptions_that_cannot_be_read_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(tmp_path)
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "partial.json").write_text('{"name": "onnx_quantile"}')
    assert len(FolderModelStore(tmp_path).list()) == 1
    assert caplog.text.count("left out") == 3


def test_a_model_put_there_later_is_found(tmp_path: Path) -> None:
    store = FolderModelStore(tmp_path)
    assert store.list() == ()
    put(tmp_path)
    assert len(store.list()) == 1


def test_metadata_is_text(tmp_path: Path) -> None:
    put(tmp_path, trained_on="a (MIT)")
    (model,) = FolderModelStore(tmp_path).list()
    assert model.metadata["trained_on"] == "a (MIT)"
    assert model.metadata["scores"] == "[1]"
    assert model.metadata["file"] == "m.onnx"
