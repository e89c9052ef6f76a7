"""Corrects a trained model's quantiles by what was lately seen of one served model or application."""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from forebay.core.prediction import QUANTILE_LEVELS

Floats = npt.NDArray[np.float64]

LEVELS = np.array(QUANTILE_LEVELS)
REFIT_COUNT = 8
"""A correction serves so many further outcomes before it is fitted anew."""
LINE_GAIN_MIN = 0.03
"""The line must beat the shift by this share of the loss: it has more to fit, so it fits chance better too."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One outcome in logarithms ln(1 + tokens): what the model said at each level, the prompt, the answer."""

    predicted: Floats
    prompt: float
    answer: float


@dataclass(frozen=True, slots=True)
class Shift:
    """Moves each level by its own amount: right where the model knows such prompts and is only off in scale."""

    amounts: Floats

    def apply(self, predicted: Floats, prompt: float) -> Floats:
        """The corrected levels."""
        return predicted + self.amounts


@dataclass(frozen=True, slots=True)
class Line:
    """A line through the model's median and the prompt's length, with the spread of its errors.

    Right where the model does not know such prompts: its slope falls to what the model is worth, and so does the trust
    in its spread.
    """

    weights: tuple[float, float, float]
    centre: tuple[float, float]
    spread: Floats

    def apply(self, predicted: Floats, prompt: float) -> Floats:
        """The corrected levels."""
        bias, of_median, of_prompt = self.weights
        median, around = float(predicted[1]), self.centre
        middle = median + bias + of_median * (median - around[0]) + of_prompt * (prompt - around[1])
        return middle + self.spread


class Window:
    """The newest outcomes of one key and the correction that fits them best."""

    def __init__(self, count_max: int, shrink_count: int) -> None:
        self._seen: deque[Seen] = deque(maxlen=count_max)
        self._shrink_count = shrink_count
        self._fresh_count = 0
        self._fitted: Shift | Line = Shift(np.zeros(len(LEVELS)))

    def __len__(self) -> int:
        return len(self._seen)

    def add(self, seen: Seen) -> None:
        """Takes one outcome; the oldest gives way."""
        self._seen.append(seen)
        self._fresh_count += 1

    @property
    def correction(self) -> Shift | Line:
        """The correction; fitted anew once enough outcomes came."""
        if self._fresh_count >= min(REFIT_COUNT, len(self._seen)) > 0:
            self._fitted = fit(self._seen, self._shrink_count)
            self._fresh_count = 0
        return self._fitted


def fit(seen: Sequence[Seen] | deque[Seen], shrink_count: int) -> Shift | Line:
    """The shift, shrunk by n / (n + `shrink_count`), or the line where there is enough to fit it and it loses less."""
    predicted = np.array([one.predicted for one in seen])
    prompts = np.array([one.prompt for one in seen])
    answers = np.array([one.answer for one in seen])
    shift = Shift(levels_of(answers[:, None] - predicted) * len(seen) / (len(seen) + shrink_count))
    if len(seen) < shrink_count:
        return shift
    line = _fit_line(predicted[:, 1], prompts, answers)
    lines = np.array([line.apply(*pair) for pair in zip(predicted, prompts, strict=True)])
    tokens = np.expm1(answers)
    shift_loss, line_loss = (loss(tokens, np.expm1(logs)) for logs in (predicted + shift.amounts, lines))
    return line if line_loss < (1 - LINE_GAIN_MIN) * shift_loss else shift


def levels_of(errors: Floats) -> Floats:
    """What covers its share of the next errors [n] or [n, 4], a level each (split conformal, as in MAPS)."""
    ordered = np.sort(errors, axis=0)
    count = len(ordered)
    ranks = [min(count, math.ceil(level * (count + 1))) - 1 for level in QUANTILE_LEVELS]
    found: Floats = ordered[ranks] if ordered.ndim == 1 else ordered[ranks, range(len(ranks))]
    return found


def loss(tokens: Floats, predicted: Floats) -> float:
    """Mean pinball loss over answers and levels, in tokens."""
    under = tokens[:, None] - predicted
    return float(np.maximum(LEVELS * under, (LEVELS - 1) * under).mean())


def _fit_line(medians: Floats, prompts: Floats, answers: Floats) -> Line:
    """Least squares on what the median leaves over, with a ridge that prefers the median as it is."""
    centre = (float(medians.mean()), float(prompts.mean()))
    inputs = np.column_stack((np.ones(len(medians)), medians - centre[0], prompts - centre[1]))
    left = answers - medians
    ridge = np.diag((0.1, 1.0, 1.0))
    weights = np.linalg.solve(inputs.T @ inputs + ridge, inputs.T @ left)
    bias, of_median, of_prompt = weights.tolist()
    return Line((bias, of_median, of_prompt), centre, levels_of(left - inputs @ weights))
