"""Corrects a trained model's quantiles by what was lately seen of one served model or application."""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from forebay.core.prediction import QUANTILE_LEVELS
from forebay.predictor.lengths.snapshots import checked, table

Floats = npt.NDArray[np.float64]
F = TypeVar("F", float, Floats)

LEVELS = np.array(QUANTILE_LEVELS)
REFIT_COUNT = 8
"""A correction serves so many further outcomes before it is fitted anew, and fewer while it rests on few."""
SEEN_WIDTH = len(QUANTILE_LEVELS) + 2
PLACE_COUNT = 4
"""Where errors lie is trusted by n / (n + this): tens of outcomes suffice for it, while their spread needs more."""
LINE_COUNT_MIN = 10
TILT_GAIN = 0.8
"""A line from so few outcomes must leave at most this share of what one move of all leaves."""
LINE_GAIN_MIN = 0.03
"""The line must beat the shift by this share of the loss: it has more to fit, so it fits chance better too."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One outcome in logarithms ln(1 + tokens): what the model said at each level, the prompt, the answer."""

    predicted: Floats
    prompt: float
    answer: float


class Correction(Protocol):
    """Maps what the model says, in logarithms, to what outcomes make of it."""

    def apply(self, predicted: Floats, prompt: float) -> Floats:
        """The corrected levels of a prompt of so long a logarithm."""
        ...


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
        return self.middles(float(predicted[1]), prompt) + self.spread

    def middles(self, medians: F, prompts: F) -> F:
        """The corrected medians."""
        bias, of_median, of_prompt = self.weights
        return medians + bias + of_median * (medians - self.centre[0]) + of_prompt * (prompts - self.centre[1])


@dataclass(frozen=True, slots=True)
class Moved:
    """Another key's correction, moved as a whole: right while few outcomes say where the own errors lie."""

    base: Correction
    amount: float

    def apply(self, predicted: Floats, prompt: float) -> Floats:
        """The corrected levels."""
        return self.base.apply(predicted, prompt) + self.amount


@dataclass(frozen=True, slots=True)
class Tilted:
    """Another key's correction, moved along a line through its median and the prompt's length; its spread stays."""

    base: Correction
    weights: tuple[float, float, float]
    centre: tuple[float, float]

    def apply(self, predicted: Floats, prompt: float) -> Floats:
        """The corrected levels."""
        found = self.base.apply(predicted, prompt)
        bias, of_median, of_prompt = self.weights
        return found + bias + of_median * (float(found[1]) - self.centre[0]) + of_prompt * (prompt - self.centre[1])


AS_IS = Shift(np.zeros(len(LEVELS)))
"""The model is taken at its word."""


class Window:
    """The newest outcomes of one key and the correction that fits them best.

    Below `count_min` outcomes it starts from another key's correction; from then on it stands alone.
    """

    def __init__(self, count_max: int, count_min: int) -> None:
        self._seen: deque[Seen] = deque(maxlen=count_max)
        self._count_min = count_min
        self._fresh_count = 0
        self._base: Correction = AS_IS
        self._fitted: Correction = AS_IS

    def __len__(self) -> int:
        return len(self._seen)

    @property
    def known(self) -> bool:
        """Whether it stands alone."""
        return len(self._seen) >= self._count_min

    def add(self, seen: Seen) -> None:
        """Takes one outcome; the oldest gives way."""
        self._seen.append(seen)
        self._fresh_count += 1

    def saved(self) -> Floats:
        """The outcomes, the oldest first."""
        return table([(*one.predicted, one.prompt, one.answer) for one in tuple(self._seen)], SEEN_WIDTH)

    def restore(self, rows: Floats) -> None:
        """Takes outcomes that were saved. Raises ValueError for what was not."""
        for *predicted, prompt, answer in checked(rows, SEEN_WIDTH):
            self.add(Seen(np.array(predicted), prompt, answer))
        self._fresh_count = max(self._fresh_count, REFIT_COUNT)

    def correction(self, base: Correction = AS_IS) -> Correction:
        """The correction; fitted anew once enough outcomes came, or when it has to start from another `base`."""
        due = self._fresh_count >= min(REFIT_COUNT, 1 + len(self._seen) // 8)
        if due or (not self.known and base is not self._base):
            self._fitted = fit(self._seen, self._count_min) if self.known else moved(self._seen, base)
            self._base, self._fresh_count = base, 0
        return self._fitted


def moved(seen: Sequence[Seen] | deque[Seen], base: Correction) -> Correction:
    """The base moved to where the errors that it leaves lie, shrunk by n / (n + `PLACE_COUNT`).

    It is moved along a line where that leaves less of each outcome that the line has not seen.
    """
    if not seen:
        return base
    medians = np.array([float(base.apply(one.predicted, one.prompt)[1]) for one in seen])
    prompts = np.array([one.prompt for one in seen])
    answers = np.array([one.answer for one in seen])
    amount = place(answers - medians)
    if len(seen) < LINE_COUNT_MIN:
        return Moved(base, amount)
    weights, centre, unseen = _line(medians, prompts, answers - medians)
    tokens = np.expm1(answers)
    left, left_by_line = (
        np.abs(np.expm1(answers - error) - tokens).mean() for error in (answers - medians - amount, unseen)
    )
    return Tilted(base, weights, centre) if left_by_line < TILT_GAIN * left else Moved(base, amount)


def place(errors: Floats) -> float:
    """Where errors lie: their median, shrunk while they are few."""
    return float(np.median(errors)) * len(errors) / (len(errors) + PLACE_COUNT)


def fit(seen: Sequence[Seen] | deque[Seen], shrink_count: int) -> Shift | Line:
    """The shift, or the line where there is enough to fit it and it loses less.

    The shift's levels are shrunk by n / (n + `shrink_count`) towards where the errors lie as a whole.
    """
    predicted = np.array([one.predicted for one in seen])
    prompts = np.array([one.prompt for one in seen])
    answers = np.array([one.answer for one in seen])
    middle = place(answers - predicted[:, 1])
    trust = len(seen) / (len(seen) + shrink_count)
    shift = Shift(middle + (levels_of(answers[:, None] - predicted) - middle) * trust)
    if len(seen) < shrink_count:
        return shift
    line = _fit_line(predicted[:, 1], prompts, answers)
    tokens = np.expm1(answers)
    lines = line.middles(predicted[:, 1], prompts)[:, None] + line.spread
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
    left = answers - medians
    weights, centre, _ = _line(medians, prompts, left)
    bias, of_median, of_prompt = weights
    line = bias + of_median * (medians - centre[0]) + of_prompt * (prompts - centre[1])
    return Line(weights, centre, levels_of(left - line))


def _line(
    medians: Floats, prompts: Floats, left: Floats
) -> tuple[tuple[float, float, float], tuple[float, float], Floats]:
    """Weights of bias, median and prompt, their centre, and what each outcome leaves that the line has not seen."""
    centre = (float(medians.mean()), float(prompts.mean()))
    inputs = np.column_stack((np.ones(len(medians)), medians - centre[0], prompts - centre[1]))
    inverse = np.linalg.inv(inputs.T @ inputs + np.diag((0.1, 1.0, 1.0)))
    bias, of_median, of_prompt = (inverse @ inputs.T @ left).tolist()
    leverage = np.einsum("ij,jk,ik->i", inputs, inverse, inputs)
    unseen = (left - inputs @ np.array((bias, of_median, of_prompt))) / (1 - leverage)
    return (bias, of_median, of_prompt), centre, unseen
