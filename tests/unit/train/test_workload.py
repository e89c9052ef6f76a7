"""Training of the forecasters' networks."""

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="training wants the extra: train")
pytest.importorskip("skl2onnx", reason="training wants the extra: train")

from forebay.core.units import US_PER_S
from forebay.predictor.lags import LAG_COUNT
from forebay.predictor.nets import StoredNet
from forebay.predictor.policy.forecaster.lstm import HISTORY_COUNT
from forebay.train.workload import BoostingSettings, examples, export, grow, mixtures, train_boosting
from forebay.train.workload_lstm import LstmSettings, train_lstm, windows_of

WINDOW_US = 600 * US_PER_S
SMALL = BoostingSettings(pair_count=300, tree_count=12, leaf_count=8, leaf_pairs_min=20)
SEED = 3


def clients() -> np.ndarray:
    chance = np.random.default_rng(SEED)
    times = 2 * np.pi * np.arange(400)[:, None] / 144
    return chance.poisson(50 * (1.2 + np.sin(times + np.arange(4))) * np.arange(1, 5)).astype(np.float64)


def series() -> list[np.ndarray]:
    return mixtures(clients(), np.random.default_rng(SEED), alone=2, mixed=2)


def test_the_exported_trees_answer_as_scikit_learn_does(tmp_path) -> None:  # type: ignore[no-untyped-def]
    drawn = list(examples(series(), WINDOW_US, SMALL))
    features = np.concatenate([one for one, _ in drawn]).astype(np.float32)
    model = grow(features, np.concatenate([one for _, one in drawn]), SMALL)
    path = tmp_path / "trees.onnx"
    path.write_bytes(export(model, LAG_COUNT))
    wanted = model.predict(features)  # type: ignore[attr-defined]
    assert np.ptp(wanted) > 0.01
    assert StoredNet(str(path)).run(features) == pytest.approx(wanted, abs=1e-4)


def test_the_same_series_and_seed_give_the_same_network() -> None:
    assert train_boosting(series(), WINDOW_US, SMALL) == train_boosting(series(), WINDOW_US, SMALL)


def test_what_is_trained_on_are_clients_and_their_sums_with_silence_as_gaps() -> None:
    told = clients()
    told[30] = 0
    found = mixtures(told, np.random.default_rng(SEED), alone=2, mixed=3)
    assert len(found) == 6
    assert all(np.isnan(one[30]) for one in found)
    assert found[2][:30] == pytest.approx(told.sum(axis=1)[:30])


def test_windows_for_the_lstm_are_scaled_by_the_first_half() -> None:
    one = np.concatenate((np.linspace(10, 20, 100), np.linspace(20, 30, 100)))
    rows = windows_of([one], LstmSettings(window_count=200))
    assert rows.shape == (175, HISTORY_COUNT + 1)
    assert (rows.min(), rows.max()) == pytest.approx((0.0, 2.0))


def test_the_exported_lstm_answers_as_torch_does() -> None:
    pytest.importorskip("torch", reason="the LSTM is trained where torch is")
    _, distance = train_lstm(series(), LstmSettings(hidden_count=8, window_count=500, epoch_count=1))
    assert distance < 1e-4
