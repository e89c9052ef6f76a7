"""A random forest whose leaves keep quantiles: fitted with scikit-learn, written as ONNX."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import helper
from sklearn.ensemble import RandomForestRegressor
from threadpoolctl import threadpool_limits

from forebay.core.prediction import QUANTILE_LEVELS
from forebay.train.export_network import serialized
from forebay.train.network import LOG_MAX, Rows

Matrix = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Settings:
    """How a forest is grown; the defaults keep its file small enough to ship."""

    tree_count: int = 40
    leaf_count_max: int = 300
    leaf_examples_min: int = 12
    feature_share: float = 0.4


@dataclass(frozen=True, slots=True)
class Forest:
    """Trees of scikit-learn and what each of their nodes says: ln(1 + tokens) [node, level], where it is a leaf.

    A prompt's quantiles are the means of those of its leaves, one forest for all levels; `shifts` are added.
    """

    trees: tuple[Any, ...]
    leaves: tuple[Matrix, ...]
    shifts: Matrix

    def logs(self, features: Matrix) -> Matrix:
        """ln(1 + tokens) at each level."""
        found = [said[tree.apply(features)] for tree, said in zip(self.trees, self.leaves, strict=True)]
        mean: Matrix = np.mean(found, axis=0, dtype=np.float64).astype(np.float32) + self.shifts
        return mean

    def tokens(self, features: Matrix) -> Matrix:
        """Tokens at each level."""
        found: Matrix = np.expm1(np.clip(self.logs(features), 0.0, LOG_MAX))
        return found


def fit(rows: Rows, settings: Settings, seed: int) -> Forest:
    """Grows the trees on ln(1 + tokens); each leaf keeps the quantiles of all answers that fall into it."""
    forest = RandomForestRegressor(
        n_estimators=settings.tree_count,
        max_leaf_nodes=settings.leaf_count_max,
        min_samples_leaf=settings.leaf_examples_min,
        max_features=settings.feature_share,
        random_state=seed,
        n_jobs=1,
    )
    with threadpool_limits(1):
        forest.fit(rows.features, rows.logs)
    trees = tuple(one.tree_ for one in forest.estimators_)
    leaves = tuple(_quantiles(tree.apply(rows.features), tree.node_count, rows.logs) for tree in trees)
    return Forest(trees, leaves, np.zeros(len(QUANTILE_LEVELS), dtype=np.float32))


def calibrated(forest: Forest, rows: Rows) -> Forest:
    """The forest with each level shifted so that its share of these unseen answers lies below (split conformal)."""
    ended = rows.where(~rows.is_cut)
    if not len(ended.logs):
        return forest
    errors = ended.logs[:, None] - forest.logs(ended.features)
    shifts = [np.quantile(column, level) for column, level in zip(errors.T, QUANTILE_LEVELS, strict=True)]
    return replace(forest, shifts=np.array(shifts, dtype=np.float32))


def to_onnx(forest: Forest) -> bytes:
    """Input "features" [n, columns], output "tokens" [n, 4]."""
    nodes = [
        helper.make_node("TreeEnsembleRegressor", ["features"], ["raw"], domain="ai.onnx.ml", **_attributes(forest)),
        helper.make_node("Add", ["raw", "shifts"], ["shifted"]),
        helper.make_node("Clip", ["shifted", "least", "most"], ["logs"]),
        helper.make_node("Exp", ["logs"], ["plus_one"]),
        helper.make_node("Sub", ["plus_one", "one"], ["tokens"]),
    ]
    constants = {
        "shifts": forest.shifts[None, :],
        "least": np.array(0.0, dtype=np.float32),
        "most": np.array(LOG_MAX, dtype=np.float32),
        "one": np.array([1.0], dtype=np.float32),
    }
    return serialized(nodes, constants, {"features": [None, forest.trees[0].n_features]})


def _quantiles(leaf_of: Ints, node_count: int, logs: Matrix) -> Matrix:
    """The quantiles of the answers in each leaf; inner nodes keep zeros."""
    found = np.zeros((node_count, len(QUANTILE_LEVELS)), dtype=np.float32)
    order = np.argsort(leaf_of, kind="stable")
    starts = np.flatnonzero(np.diff(leaf_of[order], prepend=-1))
    for inside in np.split(order, starts[1:]):
        found[leaf_of[inside[0]]] = np.quantile(logs[inside], QUANTILE_LEVELS)
    return found


def _attributes(forest: Forest) -> dict[str, Any]:
    parts = [_nodes(number, tree) for number, tree in enumerate(forest.trees)]
    targets = [_targets(number, *pair) for number, pair in enumerate(zip(forest.trees, forest.leaves, strict=True))]
    joined = {name: np.concatenate([part[name] for part in parts]).tolist() for name in parts[0]}
    joined |= {name: np.concatenate([part[name] for part in targets]).tolist() for name in targets[0]}
    return {**joined, "n_targets": len(QUANTILE_LEVELS), "aggregate_function": "AVERAGE", "post_transform": "NONE"}


def _nodes(number: int, tree: Any) -> dict[str, npt.NDArray[Any]]:
    count = tree.node_count
    is_leaf = tree.children_left < 0
    return {
        "nodes_treeids": np.full(count, number),
        "nodes_nodeids": np.arange(count),
        "nodes_featureids": np.where(is_leaf, 0, tree.feature),
        "nodes_values": np.where(is_leaf, 0.0, _below(tree.threshold)),
        "nodes_modes": np.where(is_leaf, "LEAF", "BRANCH_LEQ"),
        "nodes_truenodeids": np.where(is_leaf, 0, tree.children_left),
        "nodes_falsenodeids": np.where(is_leaf, 0, tree.children_right),
    }


def _targets(number: int, tree: Any, said: Matrix) -> dict[str, npt.NDArray[Any]]:
    leaves = np.flatnonzero(tree.children_left < 0)
    level_count = len(QUANTILE_LEVELS)
    return {
        "target_treeids": np.full(len(leaves) * level_count, number),
        "target_nodeids": np.repeat(leaves, level_count),
        "target_ids": np.tile(np.arange(level_count), len(leaves)),
        "target_weights": said[leaves].ravel(),
    }


def _below(thresholds: npt.NDArray[np.float64]) -> Matrix:
    """The largest float32 at or below each threshold: features of float32 go the same way as in scikit-learn."""
    rounded = thresholds.astype(np.float32)
    lower = np.nextafter(rounded, np.float32(-np.inf))
    found: Matrix = np.where(rounded > thresholds, lower, rounded)
    return found
