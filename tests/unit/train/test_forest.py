import numpy as np
import onnxruntime
import pytest

from forebay.core.prediction import QUANTILE_LEVELS
from forebay.train.forest import Forest, Settings, calibrated, fit, to_onnx
from forebay.train.network import Rows

SETTINGS = Settings(tree_count=12, leaf_count_max=40)


def rows(count: int, seed: int = 0) -> Rows:
    rng = np.random.default_rng(seed)
    features = rng.normal(0, 2, (count, 5)).astype(np.float32)
    logs = 3 + np.sign(features[:, 0]) + rng.normal(0, 0.2, count) * (1 + (features[:, 1] > 0))
    return Rows(features, logs.astype(np.float32), np.zeros(count, dtype=bool))


def answers(forest: Forest, features: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(to_onnx(forest), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"features": features})[0])


def test_quantiles_cover_their_share_of_unseen_answers() -> None:
    found = calibrated(fit(rows(4_000), SETTINGS, 1), rows(1_000, 1)).logs(rows(3_000, 2).features)
    shares = (rows(3_000, 2).logs[:, None] <= found).mean(axis=0)
    np.testing.assert_allclose(shares, QUANTILE_LEVELS, atol=0.05)


def test_onnxruntime_answers_as_scikit_learn_does() -> None:
    forest = calibrated(fit(rows(3_000), SETTINGS, 1), rows(300, 1))
    features = rows(500, 3).features
    found = answers(forest, features)
    np.testing.assert_allclose(np.log1p(found), forest.logs(features), atol=1e-4)


def test_features_on_a_threshold_go_the_same_way() -> None:
    forest = fit(rows(3_000), SETTINGS, 1)
    tree = forest.trees[0]
    inner = np.flatnonzero(tree.children_left >= 0)
    features = np.zeros((len(inner), 5), dtype=np.float32)
    features[np.arange(len(inner)), tree.feature[inner]] = tree.threshold[inner]
    np.testing.assert_allclose(np.log1p(answers(forest, features)), forest.logs(features), atol=1e-4)


def test_equal_rows_and_seeds_give_equal_files() -> None:
    assert to_onnx(fit(rows(500), SETTINGS, 1)) == to_onnx(fit(rows(500), SETTINGS, 1))


def test_without_answers_that_ended_nothing_is_shifted() -> None:
    cut = Rows(rows(50).features, rows(50).logs, np.ones(50, dtype=bool))
    assert calibrated(fit(rows(500), SETTINGS, 1), cut).shifts.tolist() == pytest.approx([0] * 4)
