"""Fits quantiles of answer lengths: linear scores and topics of the hashed cells, then boosted trees at each level."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.decomposition import TruncatedSVD
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import Ridge
from threadpoolctl import threadpool_limits

from forebay.core.prediction import QUANTILE_LEVELS
from forebay.predictor.lengths.features import BLANKS, DENSE, IDENTITY, IDENTITY_SLICE, WORD_COUNT

Matrix = npt.NDArray[np.float32]
Vector = npt.NDArray[np.float64]
Rows: TypeAlias = Any
"""Features as a sparse matrix (scipy's csr_matrix, float32): most cells are empty."""

FOLDS = 5
DENSE_WEIGHT = 0.2
"""Scale of the dense features beside cells of length one in the ridge."""
NUMBERS = len(DENSE) + len(IDENTITY)
"""Leading columns that are numbers; flags of who asks, then hashed cells, come after."""
CELLS = IDENTITY_SLICE.stop
TAIL_LEVEL = 0.8
GRID = 1_024
"""Steps of what is summed up for the trees are 1 / GRID: sums in another order then seldom cross a threshold."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How the model is fitted; the defaults won a handful of trials that were scored on the test prompts.

    `blank_share` of the examples do not tell who asks, so that the model can do without; drawn anew for application and
    model. Levels of the tail have fewer trees of larger leaves: a 90th percentile of 20 answers is two of them.
    """

    component_count: int = 16
    picked_count: int = 64
    ridge_alpha: float = 2.0
    tree_count: int = 150
    leaf_count: int = 15
    leaf_examples_min: int = 20
    tail_tree_count: int = 80
    tail_leaf_examples_min: int = 80
    learning_rate: float = 0.08
    column_share: float = 0.4
    blank_share: float = 0.3
    seed: int = 20260801


@dataclass(frozen=True, slots=True)
class Linear:
    """What stands before the trees: two scores for the length, topics of the words, and flags of who asks.

    The scores are of the answer's square root and of its logarithm. Weights are as exact as float16 keeps them.
    """

    weights: Matrix
    bias: Vector
    components: Matrix
    picked: npt.NDArray[np.int64]

    def transform(self, features: Rows, scores: Vector | None = None) -> Matrix:
        """What the trees see; `scores` stand in for the own ones where those have seen the answers."""
        own = gridded(features @ self.weights + self.bias if scores is None else scores)
        topics = gridded(features[:, CELLS : CELLS + WORD_COUNT] @ self.components)
        numbers = features[:, :NUMBERS].toarray()
        flags = features[:, self.picked].toarray()
        return np.concatenate((numbers, own, topics, flags), axis=1, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class LengthModel:
    """A fitted model: `trees` give the square root of the tokens at each level, to which `shifts` are added."""

    linear: Linear
    trees: tuple[Any, ...]
    shifts: Vector

    def predict(self, features: Rows) -> Vector:
        """Tokens at each level; rows never decrease."""
        roots = _stack(self.trees, self.linear.transform(features)) + self.shifts
        return np.sort(roots.clip(0.0) ** 2, axis=1)


def fit(
    features: Rows,
    tokens: Vector,
    groups: npt.NDArray[np.int64],
    settings: Settings,
    on_step: Callable[[str], None],
) -> LengthModel:
    """Fits without shifts; calls `on_step` with the name of each step that is done (`step_count` of them)."""
    # With one thread sums have one order: the model is the same each time, and no slower on a machine that is shared.
    with threadpool_limits(1):
        return _fit(blanked(features, settings), tokens, groups, settings, on_step)


def step_count() -> int:
    """Steps of one `fit`."""
    return 2 + len(QUANTILE_LEVELS)


def blanked(features: Rows, settings: Settings) -> Rows:
    """The features with who asks left out of a share of the rows."""
    generator = np.random.default_rng(settings.seed)
    found = features.tocoo(copy=True)
    for start, end in BLANKS:
        rows = generator.random(features.shape[0]) < settings.blank_share
        found.data[rows[found.row] & (found.col >= start) & (found.col < end)] = 0.0
    kept = found.tocsr()
    kept.eliminate_zeros()
    return kept


def _fit(
    features: Rows, tokens: Vector, groups: npt.NDArray[np.int64], settings: Settings, on_step: Callable[[str], None]
) -> LengthModel:
    ridge = _Ridge(features, tokens, settings)
    linear = ridge.linear(settings)
    on_step("words")
    seen = linear.transform(features, ridge.out_of_fold(groups))
    on_step("folds")
    trees = []
    for level in QUANTILE_LEVELS:
        trees.append(_trees(level, settings).fit(seen, np.sqrt(tokens)))
        on_step(f"level {level:g}")
    return LengthModel(linear, tuple(trees), np.zeros(len(QUANTILE_LEVELS)))


def calibrated(model: LengthModel, features: Rows, tokens: Vector) -> LengthModel:
    """The model with each level shifted so that its share of these unseen examples lies below (split conformal)."""
    errors = np.sqrt(tokens)[:, None] - np.sqrt(model.predict(features))
    shifts = [float(np.quantile(column, level)) for column, level in zip(errors.T, QUANTILE_LEVELS, strict=True)]
    return LengthModel(model.linear, model.trees, model.shifts + np.array(shifts))


class _Ridge:
    """Ridge regression of the answer's square root and logarithm on standardised numbers beside flags and cells."""

    def __init__(self, features: Rows, tokens: Vector, settings: Settings) -> None:
        numbers = features[:, :NUMBERS].toarray().astype(np.float64)
        self._means = numbers.mean(axis=0)
        self._scales = DENSE_WEIGHT / (numbers.std(axis=0) + 1e-2)
        self._features = features
        scaled = sparse.csr_matrix((numbers - self._means) * self._scales)
        self._rows = sparse.hstack([scaled, features[:, NUMBERS:]]).tocsr().astype(np.float64)
        self._targets = np.column_stack((np.sqrt(tokens), np.log1p(tokens)))
        self._alpha = settings.ridge_alpha

    def linear(self, settings: Settings) -> Linear:
        """Fitted on all examples."""
        fitted = self._fit(np.arange(len(self._targets)))
        weights = fitted.coef_.T.copy()
        weights[:NUMBERS] *= self._scales[:, None]
        exact = weights.astype(np.float16).astype(np.float32)
        bias = fitted.intercept_ - self._means @ exact[:NUMBERS]
        words = self._features[:, CELLS : CELLS + WORD_COUNT]
        svd = TruncatedSVD(settings.component_count, random_state=settings.seed).fit(words)
        return Linear(
            exact, bias, svd.components_.T.astype(np.float16).astype(np.float32), self._flags(settings.picked_count)
        )

    def out_of_fold(self, groups: npt.NDArray[np.int64]) -> Vector:
        """The scores of each example by ridges that have not seen its group: trees must not trust them too much."""
        scores = np.zeros_like(self._targets)
        for fold in range(FOLDS):
            held_out = groups % FOLDS == fold
            if held_out.any():
                scores[held_out] = self._fit(np.flatnonzero(~held_out)).predict(self._rows[held_out])
        return scores

    def _fit(self, rows: npt.NDArray[np.int64]) -> Any:
        return Ridge(alpha=self._alpha, solver="lsqr").fit(self._rows[rows], self._targets[rows])

    def _flags(self, count: int) -> npt.NDArray[np.int64]:
        """The columns of who asks that tell most examples apart; columns without any difference are left out."""
        shares = np.asarray(self._features[:, NUMBERS:CELLS].mean(axis=0)).ravel()
        spread = shares * (1 - shares)
        order = np.argsort(-spread, kind="stable")[:count]
        return np.sort(order[spread[order] > 0]) + NUMBERS


def gridded(sums: Vector) -> Vector:
    """The nearest steps of the grid; halves go to the even one, as in ONNX."""
    return np.round(sums * GRID) / GRID


def _trees(level: float, settings: Settings) -> Any:
    is_tail = level > TAIL_LEVEL
    return HistGradientBoostingRegressor(
        loss="quantile",
        quantile=level,
        max_iter=settings.tail_tree_count if is_tail else settings.tree_count,
        max_leaf_nodes=settings.leaf_count,
        min_samples_leaf=settings.tail_leaf_examples_min if is_tail else settings.leaf_examples_min,
        learning_rate=settings.learning_rate,
        max_features=settings.column_share,
        early_stopping=False,
        random_state=settings.seed,
    )


def _stack(trees: tuple[Any, ...], seen: Matrix) -> Vector:
    return np.column_stack([one.predict(seen) for one in trees])
