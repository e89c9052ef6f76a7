"""Training of the forecasters' networks."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="training wants the extra: train")
pytest.importorskip("skl2onnx", reason="training wants the extra: train")

from forebay.core.units import US_PER_S
from forebay.predictor.traffic.lags import LAG_COUNT
from forebay.predictor.traffic.nets import StoredNet
from forebay.train.workload import BoostingSettings, examples, export, grow, mixtures, train_boosting

WINDOW_US = 600 * US_PER_S
SMALL = BoostingSettings(pair_count=300, tree_count=12, leaf_count=8, leaf_pairs_min=20)
SEED = 3


def clients() -> np.ndarray:
    chance = np.random.default_rng(SEED)
    times = 2 * np.pi * np.arange(400)[:, None] / 144
    return chance.poisson(50 * (1.2 + np.sin(times + np.arange(4))) * np.arange(1, 5)).astype(np.float64)


def series() -> list[np.ndarray]:
    return mixtures(clients(), np.random.default_rng(SEED), alone=2, mixed=2)


def test_the_exported_trees_answer_as_scikit_learn_does(tmp_path: Path) -> None:
    drawn = list(examples(series(), WINDOW_US, SMALL))
    features = np.concatenate([one for one, _ in drawn]).astype(np.float32)
    model = grow(features, np.concatenate([one for _, one in drawn]), SMALL)
    path = tmp_path / "trees.onnx"
    path.write_bytes(export(model, LAG_COUNT))
    wanted = model.predict(features)  # type: ignore[attr-defined]
    assert np.ptp(wanted) > 0.01
    assert StoredNet(str(path)).run(features) == pytest.approx(wanted, abs=1e-4)


def test_the_same_series_and_seed_give_the_same_network(tmp_path: Path) -> None:
    rows = np.random.default_rng(SEED).normal(0, 3, (50, LAG_COUNT))
    answers = []
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(train_boosting(series(), WINDOW_US, SMALL))
        answers.append(StoredNet(str(tmp_path / name)).run(rows))
    assert np.array_equal(*answers)


def test_what_is_trained_on_are_clients_and_their_sums_with_silence_as_gaps() -> None:
    told = clients()
    told[30] = 0
    found = mixtures(told, np.random.default_rng(SEED), alone=2, mixed=3)
    assert len(found) == 6
    assert all(np.isnan(one[30]) for one in found)
    assert found[2][:30] == pytest.approx(told.sum(axis=1)[:30])
