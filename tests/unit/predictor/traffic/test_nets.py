"""Networks that forecasters run."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from forebay.predictor.traffic.fitting import ForecastFailed
from forebay.predictor.traffic.lags import LAG_COUNT, LAGS_VERSION
from forebay.predictor.traffic.nets import BYTES_MAX, FOLDER, StoredNet


@pytest.mark.parametrize(("name", "width"), [("boosting", LAG_COUNT), ("lstm", 25)])
def test_the_networks_that_ship_answer_each_row_alone(name: str, width: int) -> None:
    rows = np.random.default_rng(1).random((7, width))
    net = StoredNet(f"{name}.onnx")
    together = net.run(rows)
    assert together.shape == (7,)
    assert together == pytest.approx(np.concatenate([net.run(row[None]) for row in rows]), abs=1e-5)


@pytest.mark.parametrize("name", ["boosting", "lstm"])
def test_the_networks_that_ship_are_those_described(name: str) -> None:
    told = json.loads((FOLDER / f"{name}.json").read_text())
    content = (FOLDER / f"{name}.onnx").read_bytes()
    assert told["onnx_sha256"] == hashlib.sha256(content).hexdigest()
    assert told["licence"] == "Apache-2.0"
    assert told.get("lags_version", LAGS_VERSION) == LAGS_VERSION


def test_a_network_that_is_not_there_or_none_fails_as_a_forecast(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"no network")
    (tmp_path / "big.onnx").write_bytes(bytes(BYTES_MAX + 1))
    for name, why in (("bad", "cannot be opened"), ("big", "more than any"), ("none", "cannot be opened")):
        with pytest.raises(ForecastFailed, match=why):
            StoredNet(str(tmp_path / f"{name}.onnx")).run(np.zeros((1, 3)))


def test_a_network_that_its_description_does_not_know_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lstm.onnx").write_bytes((FOLDER / "lstm.onnx").read_bytes())
    (tmp_path / "lstm.json").write_text(json.dumps({"onnx_sha256": "0" * 64}))
    with pytest.raises(ForecastFailed, match=r"not the network that lstm\.json describes"):
        StoredNet(str(tmp_path / "lstm.onnx")).run(np.zeros((1, 25)))


def test_features_of_another_width_fail_as_a_forecast() -> None:
    with pytest.raises(ForecastFailed, match="onnxruntime failed"):
        StoredNet("lstm.onnx").run(np.zeros((1, 7)))
