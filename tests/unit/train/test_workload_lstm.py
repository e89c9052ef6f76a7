"""Training of PreServe's workload predictor."""

import numpy as np
import pytest

from forebay.predictor.policy.forecaster.lstm import HISTORY_COUNT
from forebay.train.workload_lstm import LstmSettings, train_lstm, windows_of


def series() -> list[np.ndarray]:
    chance = np.random.default_rng(3)
    return [chance.poisson(level * (1.2 + np.sin(np.arange(300) / 23))).astype(np.float64) for level in (20, 90)]


def test_windows_for_the_lstm_are_scaled_by_the_first_half() -> None:
    one = np.concatenate((np.linspace(10, 20, 100), np.linspace(20, 30, 100)))
    rows = windows_of([one], LstmSettings(window_count=200))
    assert rows.shape == (175, HISTORY_COUNT + 1)
    assert (rows.min(), rows.max()) == pytest.approx((0.0, 2.0))


def test_the_exported_lstm_answers_as_torch_does() -> None:
    pytest.importorskip("torch", reason="the LSTM is trained where torch is")
    _, distance = train_lstm(series(), LstmSettings(hidden_count=8, window_count=500, epoch_count=1))
    assert distance < 1e-4
