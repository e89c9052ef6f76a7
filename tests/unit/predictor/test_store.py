import hashlib
import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("onnx")

from forebay.core.errors import FailedPrecondition
from forebay.core.prediction import ModelKind, PredictorModel
from forebay.predictor.store import MemoryModelStore, ModelStore
from forebay.predictor.store_files import CHOSEN, FolderModelStore
from tests.unit.predictor.onnx_models import model

CONTENT = model()


def put(folder: Path, **changes: object) -> None:
    entry = {"name": "onnx_quantile", "version": "1", "onnx_sha256": hashlib.sha256(CONTENT).hexdigest(), "scores": [1]}
    (folder / "m.json").write_text(json.dumps({**entry, **changes}))
    (folder / "m.onnx").write_bytes(CONTENT)


def in_folder(folder: Path) -> ModelStore:
    put(folder)
    return FolderModelStore(folder)


def in_memory(folder: Path) -> ModelStore:
    kept = PredictorModel("onnx_quantile", ModelKind.LENGTH, "1", digest_sha256="d")
    return MemoryModelStore({"d": (kept, CONTENT)})


@pytest.mark.parametrize("make", [in_folder, in_memory])
def test_a_model_that_is_kept_can_be_listed_and_read(make: Callable[[Path], ModelStore], tmp_path: Path) -> None:
    store = make(tmp_path)
    (kept,) = store.list()
    assert (kept.name, kept.version, kept.kind) == ("onnx_quantile", "1", ModelKind.LENGTH)
    assert store.read(kept) == CONTENT


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
    (kept,) = FolderModelStore(tmp_path).list()
    assert kept.metadata["trained_on"] == "a (MIT)"
    assert kept.metadata["scores"] == "[1]"
    assert kept.metadata["file"] == "m.onnx"


@pytest.mark.parametrize("make", [in_folder, in_memory])
def test_what_is_added_is_the_next_version_of_its_name(make: Callable[[Path], ModelStore], tmp_path: Path) -> None:
    store = make(tmp_path)
    second = store.add("onnx_quantile", model(bias=1.0), {"licence": "MIT"})
    other = store.add("magnus", CONTENT, {})
    assert (second.version, other.version) == ("2", "1")
    assert second.metadata["licence"] == "MIT"
    assert store.read(second) == model(bias=1.0)
    assert {(one.name, one.version) for one in store.list()} == {
        ("onnx_quantile", "1"),
        ("onnx_quantile", "2"),
        ("magnus", "1"),
    }


@pytest.mark.parametrize("make", [in_folder, in_memory])
def test_choices_are_kept_newest_first(make: Callable[[Path], ModelStore], tmp_path: Path) -> None:
    store = make(tmp_path)
    assert store.chosen(ModelKind.LENGTH) == ()
    store.choose(ModelKind.LENGTH, ("m@2", "m@1"))
    store.choose(ModelKind.WORKLOAD, ("season",))
    assert store.chosen(ModelKind.LENGTH) == ("m@2", "m@1")
    assert store.chosen(ModelKind.WORKLOAD) == ("season",)


def test_choices_outlive_the_process(tmp_path: Path) -> None:
    FolderModelStore(tmp_path / "new").choose(ModelKind.LENGTH, ("m@2",))
    assert FolderModelStore(tmp_path / "new").chosen(ModelKind.LENGTH) == ("m@2",)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"length": 3}', "\xff"])
def test_a_damaged_choice_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / CHOSEN).write_bytes(text.encode("latin-1"))
    assert FolderModelStore(tmp_path).chosen(ModelKind.LENGTH) == ()


def test_the_models_that_ship_are_left_as_they_are() -> None:
    FolderModelStore().choose(ModelKind.LENGTH, ("m@2",))
    assert FolderModelStore().chosen(ModelKind.LENGTH) == ()


def test_versions_go_on_after_those_of_the_other_folders(tmp_path: Path) -> None:
    shipped, own = tmp_path / "shipped", tmp_path / "own"
    shipped.mkdir()
    put(shipped, version="7")
    store = FolderModelStore(own, shipped)
    added = store.add("onnx_quantile", model(bias=1.0), {})
    assert added.version == "8"
    assert [store.read(one) for one in store.list()] == [model(bias=1.0), CONTENT]
    assert sorted(path.name for path in shipped.iterdir()) == ["m.json", "m.onnx"]


def test_of_equal_labels_the_own_folder_counts(tmp_path: Path) -> None:
    shipped, own = tmp_path / "shipped", tmp_path / "own"
    shipped.mkdir()
    own.mkdir()
    put(shipped, licence="theirs")
    put(own, licence="ours")
    (kept,) = FolderModelStore(own, shipped).list()
    assert kept.metadata["licence"] == "ours"


def test_files_of_one_name_are_told_apart_by_their_folder(tmp_path: Path) -> None:
    shipped, own = tmp_path / "shipped", tmp_path / "own"
    shipped.mkdir()
    own.mkdir()
    put(shipped)
    other = model(bias=1.0)
    put(own, version="2", onnx_sha256=hashlib.sha256(other).hexdigest())
    (own / "m.onnx").write_bytes(other)
    store = FolderModelStore(own, shipped)
    assert {one.version: store.read(one) for one in store.list()} == {"1": CONTENT, "2": other}


def test_trainings_that_end_at_once_get_versions_of_their_own(tmp_path: Path) -> None:
    store = FolderModelStore(tmp_path)
    adders = [threading.Thread(target=store.add, args=("m", model(bias=n), {})) for n in range(8)]
    for adder in adders:
        adder.start()
    for adder in adders:
        adder.join()
    found = store.list()
    assert {one.version for one in found} == {str(number) for number in range(1, 9)}
    assert len({store.read(one) for one in found}) == 8
    assert not list(tmp_path.glob(".new-*"))


def test_what_is_refused_leaves_nothing_behind(tmp_path: Path) -> None:
    store = FolderModelStore(tmp_path)
    for name, content in (("m", b"no model"), ("../m", CONTENT), ("", CONTENT), ("M", CONTENT)):
        with pytest.raises(FailedPrecondition):
            store.add(name, content, {})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FailedPrecondition, match="cannot write models to"):
        FolderModelStore(tmp_path / "file" / "models").add("m", CONTENT, {})


@pytest.mark.parametrize("file", ["../secret.onnx", "/etc/passwd", "sub/x.onnx", "..", "m.json", "\0.onnx"])
def test_no_description_leads_out_of_the_folder(tmp_path: Path, file: str) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    (tmp_path / "secret.onnx").write_bytes(CONTENT)
    put(folder, file=file)
    store = FolderModelStore(folder)
    (kept,) = store.list()
    with pytest.raises(FailedPrecondition) as caught:
        store.read(kept)
    assert caught.value.code == "FILE_OUTSIDE"


def test_no_link_leads_out_of_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    put(folder)
    (tmp_path / "secret.onnx").write_bytes(CONTENT)
    (folder / "m.onnx").unlink()
    (folder / "m.onnx").symlink_to(tmp_path / "secret.onnx")
    store = FolderModelStore(folder)
    with pytest.raises(FailedPrecondition, match="out of the models' folder"):
        store.read(store.list()[0])


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "../x"},
        {"name": 3},
        {"version": "../1"},
        {"version": "v" * 33},
        {"onnx_sha256": "abc"},
        {"onnx_sha256": None},
        {"notes": "x" * (1 << 20)},
    ],
)
def test_a_description_that_does_not_fit_is_left_out(tmp_path: Path, changes: dict[str, object]) -> None:
    put(tmp_path, **changes)
    assert FolderModelStore(tmp_path).list() == ()


def test_a_description_nested_without_end_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text("[" * 200_000)
    assert FolderModelStore(tmp_path).list() == ()


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    put(tmp_path)
    with (tmp_path / "m.onnx").open("r+b") as file:
        file.truncate((512 << 20) + 1)
    store = FolderModelStore(tmp_path)
    with pytest.raises(FailedPrecondition) as caught:
        store.read(store.list()[0])
    assert caught.value.code == "MODEL_TOO_LARGE"


def test_a_file_with_the_right_digest_that_is_no_model_is_refused(tmp_path: Path) -> None:
    content = b"\x80\x04."
    put(tmp_path, onnx_sha256=hashlib.sha256(content).hexdigest())
    (tmp_path / "m.onnx").write_bytes(content)
    store = FolderModelStore(tmp_path)
    with pytest.raises(FailedPrecondition) as caught:
        store.read(store.list()[0])
    assert caught.value.code == "NOT_ONNX"
