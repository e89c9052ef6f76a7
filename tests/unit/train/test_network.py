import numpy as np
import onnxruntime
import pytest

from forebay.core.prediction import QUANTILE_LEVELS
from forebay.train.export_network import to_onnx
from forebay.train.network import (
    STEPS_UP,
    Network,
    Rows,
    Settings,
    _Fitting,
    _forward,
    _gradients,
    calibrated,
    fit,
    levels,
    pinball,
)

SETTINGS = Settings(hidden_counts=(16, 8), epoch_count_max=30, learning_rate=1e-2, dropout=0.0)


def rows(count: int, seed: int = 0) -> Rows:
    """Answers around exp(2 + x) with a spread that another feature tells; the last feature never varies."""
    rng = np.random.default_rng(seed)
    features = rng.normal(5, 3, (count, 4)).astype(np.float32)
    features[:, 3] = 0.5
    spread = 0.1 + 0.2 * (features[:, 1] > 5)
    logs = 2 + features[:, 0] / 6 + rng.normal(0, 1, count) * spread
    return Rows(features, logs.astype(np.float32), np.zeros(count, dtype=bool))


def fitted(count: int = 3_000) -> Network:
    return fit(rows(count), rows(500, 1), SETTINGS, 1, lambda epoch: None)


def test_quantiles_cover_their_share_and_never_cross() -> None:
    unseen = rows(2_000, 2)
    found = calibrated(fitted(), rows(500, 1)).logs(unseen.features)
    shares = (unseen.logs[:, None] <= found).mean(axis=0)
    np.testing.assert_allclose(shares, QUANTILE_LEVELS, atol=0.05)
    assert (np.diff(found - calibrated(fitted(), rows(500, 1)).shifts, axis=1) >= 0).all()


def test_the_spread_follows_what_tells_it() -> None:
    unseen = rows(2_000, 2)
    found = fitted().logs(unseen.features)
    widths = found[:, 2] - found[:, 0]
    wide = unseen.features[:, 1] > 5
    assert widths[wide].mean() > 1.5 * widths[~wide].mean()


def test_what_never_varied_changes_nothing_once_it_does() -> None:
    network, unseen = fitted(500), rows(10, 2)
    before = network.logs(unseen.features)
    unseen.features[:, 3] = 99.0
    np.testing.assert_array_equal(network.logs(unseen.features), before)


def test_equal_rows_and_seeds_give_equal_networks() -> None:
    np.testing.assert_array_equal(fitted(500).weights[0], fitted(500).weights[0])


def test_epochs_end_once_validation_gets_no_better() -> None:
    epochs: list[int] = []
    noise = Rows(rows(100).features, np.random.default_rng(4).normal(3, 1, 100).astype(np.float32), np.zeros(100, bool))
    fit(rows(300), noise, Settings(patience_count=3, epoch_count_max=40), 1, epochs.append)
    assert len(epochs) < 40


def test_a_level_above_a_cut_loses_nothing() -> None:
    found = np.array([[1.0, 3.0, 4.0, 5.0]], dtype=np.float32)
    features = np.zeros((1, 1), dtype=np.float32)
    cut, ended = (Rows(features, np.array([2.0], np.float32), np.array([flag])) for flag in (True, False))
    assert pinball(found, cut) == pytest.approx(0.1 / 4)
    assert pinball(found, ended) == pytest.approx((0.1 + 0.5 + 0.1 * 2 + 0.03 * 3) / 4, rel=1e-5)


def test_cut_answers_draw_levels_up_only() -> None:
    some = rows(2_000)
    cut = Rows(some.features, np.minimum(some.logs, 2.9), some.logs > 2.9)
    blind = Rows(some.features, np.minimum(some.logs, 2.9), np.zeros(2_000, dtype=bool))
    aware, unaware = (fit(one, one, SETTINGS, 1, lambda epoch: None).logs(some.features).mean() for one in (cut, blind))
    assert aware > unaware


def test_gradients_are_those_of_the_loss() -> None:
    some = rows(12)
    fitting = _Fitting((4, 5, 3, 4), some.logs, 3)
    found = _gradients(fitting, some, 0.0)
    for place, parameter in enumerate(fitting.parameters):
        where = np.unravel_index(parameter.size // 2, parameter.shape)
        before, step = parameter[where], 1e-2
        losses = []
        for value in (before - step, before + step):
            parameter[where] = value
            losses.append(pinball(levels(_forward(fitting.parameters, some.features)), some) * len(STEPS_UP))
        parameter[where] = before
        assert found[place][where] == pytest.approx((losses[1] - losses[0]) / (2 * step), abs=2e-2)


def test_onnxruntime_answers_as_the_network_does() -> None:
    network = calibrated(fitted(500), rows(200, 1))
    session = onnxruntime.InferenceSession(to_onnx(network), providers=["CPUExecutionProvider"])
    features = rows(64, 5).features
    np.testing.assert_allclose(
        np.log1p(session.run(None, {"features": features})[0]), network.logs(features), atol=1e-4
    )


def test_absurd_features_stay_within_the_contract() -> None:
    network = fitted(500)
    session = onnxruntime.InferenceSession(to_onnx(network), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"features": np.full((1, 4), 1e6, dtype=np.float32)})
    assert np.isfinite(found).all()
    assert found.max() <= 1_048_577
