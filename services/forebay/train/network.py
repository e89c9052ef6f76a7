"""A small network that gives quantiles of answer lengths: two hidden layers, fitted by the pinball loss, in numpy."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from forebay.core.prediction import QUANTILE_LEVELS, TOKENS_MAX
from forebay.train.data import Examples

Matrix = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]

LEVELS = np.array(QUANTILE_LEVELS, dtype=np.float32)
LOG_MAX = float(np.log1p(TOKENS_MAX))
STEPS_UP = np.triu(np.ones((len(LEVELS), len(LEVELS)), dtype=np.float32))
"""Turns a first level and what each level is above the one before into levels."""
GAP_MIN = 0.05


@dataclass(frozen=True, slots=True)
class Settings:
    """How a network is fitted; `patience_count` epochs without a better validation end it."""

    hidden_counts: tuple[int, int] = (256, 64)
    epoch_count_max: int = 40
    patience_count: int = 8
    batch_count: int = 256
    learning_rate: float = 1e-3
    decay: float = 1e-4
    dropout: float = 0.4


@dataclass(frozen=True, slots=True)
class Rows:
    """Features beside ln(1 + tokens) of the answers; a cut answer is at least so long."""

    features: Matrix
    logs: Matrix
    is_cut: Flags

    def where(self, rows: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> "Rows":
        """Some of the rows."""
        return Rows(self.features[rows], self.logs[rows], self.is_cut[rows])


@dataclass(frozen=True, slots=True)
class Network:
    """Weights and biases of three layers for features as they are; `shifts` are added to the logarithms."""

    weights: tuple[Matrix, ...]
    biases: tuple[Matrix, ...]
    shifts: Matrix

    def logs(self, features: Matrix) -> Matrix:
        """ln(1 + tokens) at each level."""
        return levels(_forward((*self.weights, *self.biases), features)) + self.shifts

    def tokens(self, features: Matrix) -> Matrix:
        """Tokens at each level."""
        found: Matrix = np.expm1(np.clip(self.logs(features), 0.0, LOG_MAX))
        return found


def rows_of(examples: Examples, features: Matrix) -> Rows:
    """What a network learns from."""
    return Rows(features, np.log1p(examples.tokens).astype(np.float32), ~examples.complete)


def fit(train: Rows, validation: Rows, settings: Settings, seed: int, on_epoch: Callable[[int], None]) -> Network:
    """Fits on one set of rows and keeps the epoch that does best on another; neither may be empty."""
    means, scales = train.features.mean(axis=0), train.features.std(axis=0)
    # What never varies tells nothing, and must not once it does.
    factors = np.where(scales > 1e-4, 1 / np.maximum(scales, 1e-4), 0.0).astype(np.float32)
    inner, outer = (replace(one, features=(one.features - means) * factors) for one in (train, validation))
    fitting = _Fitting((len(means), *settings.hidden_counts, len(LEVELS)), train.logs, seed)
    # With one thread sums have one order: the network is the same each time, and no slower on a machine that is shared.
    with threadpool_limits(1):
        first, second, last, *biases = _epochs(fitting, inner, outer, settings, on_epoch)
    first = first * factors[:, None]
    biases[0] = (biases[0] - means @ first).astype(np.float32)
    return Network((first, second, last), tuple(biases), np.zeros(len(LEVELS), dtype=np.float32))


def calibrated(network: Network, rows: Rows) -> Network:
    """The network with each level shifted so that its share of these unseen answers lies below (split conformal)."""
    moves = shifts(network.logs(rows.features), rows.logs, rows.is_cut)
    return replace(network, shifts=network.shifts + moves)


def shifts(found: Matrix, targets: Matrix, is_cut: Flags) -> Matrix:
    """What each level must move so that its share of these unseen answers lies below; nothing where all are cut."""
    if is_cut.all():
        return np.zeros(len(QUANTILE_LEVELS), dtype=np.float32)
    errors = targets[~is_cut, None] - found[~is_cut]
    moved = [np.quantile(column, level) for column, level in zip(errors.T, QUANTILE_LEVELS, strict=True)]
    return np.array(moved, dtype=np.float32)


def levels(raw: Matrix) -> Matrix:
    """Levels that never decrease, of a first level and what the others are above it (softplus)."""
    found: Matrix = np.concatenate((raw[:, :1], np.logaddexp(0.0, raw[:, 1:])), axis=1) @ STEPS_UP
    return found


def pinball(found: Matrix, rows: Rows) -> float:
    """Mean loss over answers and levels; a level above a cut loses nothing."""
    under = rows.logs[:, None] - found
    over = np.where(rows.is_cut[:, None], 0.0, (LEVELS - 1) * under)
    return float(np.maximum(LEVELS * under, over).mean())


class _Fitting:
    """Parameters (three layers' weights, then their biases), their moments (Adam), and the generator of draws."""

    def __init__(self, widths: tuple[int, ...], logs: Matrix, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        sizes = list(pairwise(widths))
        self.parameters: list[Matrix] = [
            self.rng.normal(0, np.sqrt(2 / wide), (wide, narrow)).astype(np.float32) for wide, narrow in sizes
        ]
        self.parameters[-1] *= 0.1
        self.parameters += [np.zeros(narrow, dtype=np.float32) for _, narrow in sizes]
        start = np.quantile(logs.astype(np.float64), QUANTILE_LEVELS)
        gaps = np.log(np.expm1(np.maximum(np.diff(start), GAP_MIN)))
        self.parameters[-1] += np.concatenate((start[:1], gaps)).astype(np.float32)
        self._first = [np.zeros_like(one) for one in self.parameters]
        self._second = [np.zeros_like(one) for one in self.parameters]
        self._count = 0

    def step(self, gradients: Sequence[Matrix], rate: float, decay: float) -> None:
        """One step of Adam, with the decay of weights apart from it (AdamW)."""
        self._count += 1
        fade = (1 - 0.9**self._count, 1 - 0.999**self._count)
        for one, slope, first, second in zip(self.parameters, gradients, self._first, self._second, strict=True):
            first += 0.1 * (slope - first)
            second += 0.001 * (slope * slope - second)
            one -= rate * (first / fade[0] / (np.sqrt(second / fade[1]) + 1e-8))
            if one.ndim == 2:
                one *= 1 - rate * decay


def _epochs(
    fitting: _Fitting, train: Rows, validation: Rows, settings: Settings, on_epoch: Callable[[int], None]
) -> list[Matrix]:
    best, best_loss, waited_count = fitting.parameters, np.inf, 0
    for epoch in range(settings.epoch_count_max):
        rate = settings.learning_rate * 0.5 * (1 + np.cos(np.pi * epoch / settings.epoch_count_max))
        for batch in _batches(fitting.rng, len(train.logs), settings.batch_count):
            fitting.step(_gradients(fitting, train.where(batch), settings.dropout), rate, settings.decay)
        loss = pinball(levels(_forward(fitting.parameters, validation.features)), validation)
        waited_count = 0 if loss < best_loss else waited_count + 1
        if not waited_count:
            best, best_loss = [one.copy() for one in fitting.parameters], loss
        on_epoch(epoch)
        if waited_count == settings.patience_count:
            break
    return best


def _batches(rng: np.random.Generator, count: int, size: int) -> Iterator[npt.NDArray[np.int64]]:
    order = rng.permutation(count)
    for start in range(0, count, size):
        yield order[start : start + size]


def _forward(parameters: Sequence[Matrix], features: Matrix) -> Matrix:
    first, second, last, *biases = parameters
    seen = np.maximum(features @ first + biases[0], 0.0)
    seen = np.maximum(seen @ second + biases[1], 0.0)
    raw: Matrix = seen @ last + biases[2]
    return raw


def _gradients(fitting: _Fitting, rows: Rows, dropout: float) -> list[Matrix]:
    """Of the mean loss by each parameter, in their order, with some of the hidden units left out."""
    first, second, last, *biases = fitting.parameters
    keep = np.float32(1 - dropout)
    low = np.maximum(rows.features @ first + biases[0], 0.0)
    low *= (fitting.rng.random(low.shape, dtype=np.float32) < keep) / keep
    high = np.maximum(low @ second + biases[1], 0.0)
    high *= (fitting.rng.random(high.shape, dtype=np.float32) < keep) / keep
    raw = high @ last + biases[2]
    over = np.where(rows.is_cut[:, None], 0.0, 1 - LEVELS)
    slopes = np.where(rows.logs[:, None] > levels(raw), -LEVELS, over) @ STEPS_UP.T / len(rows.logs)
    slopes[:, 1:] /= 1 + np.exp(-raw[:, 1:])
    slopes = slopes.astype(np.float32)
    back_high = slopes @ last.T * (high > 0) / keep
    back_low = back_high @ second.T * (low > 0) / keep
    weights = (rows.features.T @ back_low, low.T @ back_high, high.T @ slopes)
    return [*weights, *(back.sum(axis=0) for back in (back_low, back_high, slopes))]
