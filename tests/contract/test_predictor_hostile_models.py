"""A predictor whose models' folder has hostile or damaged files says so and goes on."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx")

from forebay.core.errors import FailedPrecondition, NotFound
from forebay.predictor.config import Config
from forebay.predictor.lengths.features import FEATURE_COUNT, FEATURES_VERSION
from tests.contract.test_predictor_api import Start, activate, models, predict, query, refused, start
from tests.unit.predictor.onnx_models import model, nested, node

__all__ = ["start"]

RIGHT = model(width=FEATURE_COUNT)


def put(folder: Path, content: bytes, **changes: Any) -> None:
    described = {
        "name": "onnx_quantile",
        "version": "90",
        "features": "hashed",
        "features_version": FEATURES_VERSION,
        "onnx_sha256": hashlib.sha256(content).hexdigest(),
        **changes,
    }
    (folder / "evil.json").write_text(json.dumps(described))
    (folder / "evil.onnx").write_bytes(content)


@pytest.mark.parametrize(
    ("content", "changes", "reason"),
    [
        pytest.param(RIGHT, {"onnx_sha256": "0" * 64}, "DIGEST_MISMATCH", id="another digest"),
        pytest.param(b"\x80\x04N.", {}, "NOT_ONNX", id="a pickle"),
        pytest.param(RIGHT[:-9], {}, "NOT_ONNX", id="cut"),
        pytest.param(model(external=True), {}, "EXTERNAL_DATA", id="weights elsewhere"),
        pytest.param(model(opset=99), {}, "OPSET_UNSUPPORTED", id="an opset to come"),
        pytest.param(model(nodes=[node(domain="evil")], domains=["evil"]), {}, "OPERATOR_REFUSED", id="own operators"),
        pytest.param(model(nodes=[nested(node(), 9)]), {}, "OPERATOR_REFUSED", id="too deep"),
        pytest.param(model(output_shape=(None, 3)), {}, "SIGNATURE_WRONG", id="three quantiles"),
        pytest.param(RIGHT, {"file": "../../../etc/passwd"}, "FILE_OUTSIDE", id="a file outside"),
        pytest.param(RIGHT, {"file": "none.onnx"}, "FAILED_PRECONDITION", id="no file"),
        pytest.param(model(width=3), {}, "FAILED_PRECONDITION", id="three features"),
        pytest.param(RIGHT, {"features_version": "0"}, "FAILED_PRECONDITION", id="old features"),
        pytest.param(RIGHT, {"features": "tarot"}, "FAILED_PRECONDITION", id="unknown features"),
        pytest.param(RIGHT, {"name": "oracle"}, "FAILED_PRECONDITION", id="an unknown kind"),
        pytest.param(model(nodes=[node("Nonsense")]), {}, "FAILED_PRECONDITION", id="an unknown operator"),
    ],
)
async def test_it_is_refused_with_its_reason_and_the_service_lives(
    start: Start, tmp_path: Path, content: bytes, changes: dict[str, Any], reason: str
) -> None:
    stage = await start(Config(provider="cpu", models_folder=str(tmp_path), length="histogram"))
    put(tmp_path, content, **changes)
    name = changes.get("name", "onnx_quantile")
    error = await refused(activate(stage, name, "a1", "90"), FailedPrecondition)
    assert error.code == reason
    answer = await predict(stage, query())
    assert answer.predicted_by == "histogram"
    assert answer.predictions


@pytest.mark.parametrize("text", ["{", "[]", '{"name": "../x", "version": "90"}', "[" * 100_000, "\0"])
async def test_a_damaged_description_is_no_model(start: Start, tmp_path: Path, text: str) -> None:
    stage = await start(Config(provider="cpu", models_folder=str(tmp_path), length="histogram"))
    (tmp_path / "evil.json").write_text(text)
    await refused(activate(stage, "onnx_quantile", "a1", "90"), NotFound)
    assert "90" not in [one.version for one in (await models(stage)).models]


async def test_a_start_with_hostile_files_leaves_the_models_that_ship(start: Start, tmp_path: Path) -> None:
    put(tmp_path, b"\x80\x04N.")
    stage = await start(Config(provider="cpu", models_folder=str(tmp_path)))
    answered_by = (await predict(stage, query())).predicted_by
    assert answered_by != "onnx_quantile@90"
    assert (await models(stage)).models


async def test_a_right_model_is_taken(start: Start, tmp_path: Path) -> None:
    put(tmp_path, RIGHT)
    stage = await start(Config(provider="cpu", models_folder=str(tmp_path)))
    assert (await predict(stage, query())).predicted_by == "onnx_quantile@90"
