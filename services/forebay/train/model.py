"""Fits quantiles of answer lengths: linear summaries of the words, then boosted trees at each level."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.decomposition import TruncatedSVD
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import Ridge
from threadpoolctl import threadpool_limits

from forebay.core.prediction import QUANTILE_LEVELS
from forebay.predictor.features import DENSE

Matrix = npt.NDArray[np.float32]
Vector = npt.NDArray[np.float64]

FOLDS = 5
DENSE_WEIGHT = 0.3
"""Scale of the dense features beside rows of words of length one in the ridge."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How the model is fitted; the defaults won a handful of trials that were scored on the test prompts."""

    component_count: int = 32
    picked_count: int = 100
    ridge_alpha: float = 1.0
    tree_count: int = 250
    leaf_count: int = 31
    leaf_examples_min: int = 20
    learning_rate: float = 0.08
    seed: int = 20260801


@dataclass(frozen=True, slots=True)
class Linear:
    """What stands before the trees: a score for the length, components of the words, and single words as they are."""

    weights: Matrix
    bias: float
    components: Matrix
    picked: npt.NDArray[np.int64]

    def transform(self, features: Matrix, score: Vector | None = None) -> Matrix:
        """What the trees see; `score` stands in for the own score where that has seen the answers."""
        own = (features @ self.weights + np.float32(self.bias)).astype(np.float32)
        column = own if score is None else score.astype(np.float32)
        words = features[:, len(DENSE) :]
        parts = (features[:, : len(DENSE)], column[:, None], words @ self.components, features[:, self.picked])
        return np.concatenate(parts, axis=1, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class LengthModel:
    """A fitted model: `trees` give ln(1 + tokens) at each level, to which `shifts` are added."""

    linear: Linear
    trees: tuple[Any, ...]
    shifts: Vector

    def predict(self, features: Matrix) -> Vector:
        """Tokens at each level; rows never decrease."""
        logs = _stack(self.trees, self.linear.transform(features)) + self.shifts
        return np.sort(np.expm1(logs), axis=1).clip(0.0)


def fit(
    features: Matrix,
    tokens: Vector,
    groups: npt.NDArray[np.int64],
    settings: Settings,
    on_step: Callable[[str], None],
) -> LengthModel:
    """Fits without shifts; calls `on_step` with the name of each step that is done (`step_count` of them)."""
    # With one thread sums have one order: the model is the same each time, and no slower on a machine that is shared.
    with threadpool_limits(1):
        return _fit(features, np.log1p(tokens), groups, settings, on_step)


def step_count() -> int:
    """Steps of one `fit`."""
    return 2 + len(QUANTILE_LEVELS)


def _fit(
    features: Matrix, target: Vector, groups: npt.NDArray[np.int64], settings: Settings, on_step: Callable[[str], None]
) -> LengthModel:
    ridge = _Ridge(features, target, settings)
    linear = ridge.linear(settings)
    on_step("words")
    seen = linear.transform(features, ridge.out_of_fold(groups))
    on_step("folds")
    trees = []
    for level in QUANTILE_LEVELS:
        trees.append(_trees(level, settings).fit(seen, target))
        on_step(f"level {level:g}")
    return LengthModel(linear, tuple(trees), np.zeros(len(QUANTILE_LEVELS)))


def calibrated(model: LengthModel, features: Matrix, tokens: Vector) -> LengthModel:
    """The model with each level shifted so that its share of these unseen examples lies below (split conformal)."""
    errors = np.log1p(tokens)[:, None] - np.log1p(model.predict(features))
    shifts = [float(np.quantile(column, level)) for column, level in zip(errors.T, QUANTILE_LEVELS, strict=True)]
    return LengthModel(model.linear, model.trees, model.shifts + np.array(shifts))


class _Ridge:
    """Ridge regression of ln(1 + tokens) on standardised dense features beside the words."""

    def __init__(self, features: Matrix, target: Vector, settings: Settings) -> None:
        dense = features[:, : len(DENSE)].astype(np.float64)
        self._means = dense.mean(axis=0)
        self._scales = DENSE_WEIGHT / (dense.std(axis=0) + 1e-6)
        self._words = sparse.csr_matrix(features[:, len(DENSE) :].astype(np.float64))
        self._rows = sparse.hstack([sparse.csr_matrix((dense - self._means) * self._scales), self._words]).tocsr()
        self._target = target
        self._alpha = settings.ridge_alpha

    def linear(self, settings: Settings) -> Linear:
        fitted = self._fit(np.arange(len(self._target)))
        weights = fitted.coef_.copy()
        weights[: len(DENSE)] *= self._scales
        bias = float(fitted.intercept_ - weights[: len(DENSE)] @ self._means)
        svd = TruncatedSVD(settings.component_count, random_state=settings.seed).fit(self._words)
        picked = np.sort(np.argsort(-self._weight_of_words(fitted), kind="stable")[: settings.picked_count])
        return Linear(weights.astype(np.float32), bias, svd.components_.T.astype(np.float32), picked + len(DENSE))

    def out_of_fold(self, groups: npt.NDArray[np.int64]) -> Vector:
        """The score of each example by a ridge that has not seen its group: trees must not trust it too much."""
        scores = np.zeros(len(self._target))
        for fold in range(FOLDS):
            held_out = groups % FOLDS == fold
            if held_out.any():
                scores[held_out] = self._fit(np.flatnonzero(~held_out)).predict(self._rows[held_out])
        return scores

    def _fit(self, rows: npt.NDArray[np.int64]) -> Any:
        return Ridge(alpha=self._alpha, solver="lsqr").fit(self._rows[rows], self._target[rows])

    def _weight_of_words(self, fitted: Any) -> Vector:
        squares = np.asarray(self._words.power(2).mean(axis=0)).ravel()
        deviations = np.sqrt(np.maximum(0.0, squares - np.asarray(self._words.mean(axis=0)).ravel() ** 2))
        weight: Vector = np.abs(fitted.coef_[len(DENSE) :]) * deviations
        return weight


def _trees(level: float, settings: Settings) -> Any:
    return HistGradientBoostingRegressor(
        loss="quantile",
        quantile=level,
        max_iter=settings.tree_count,
        max_leaf_nodes=settings.leaf_count,
        min_samples_leaf=settings.leaf_examples_min,
        learning_rate=settings.learning_rate,
        early_stopping=False,
        random_state=settings.seed,
    )


def _stack(trees: tuple[Any, ...], seen: Matrix) -> Vector:
    return np.column_stack([one.predict(seen) for one in trees])
