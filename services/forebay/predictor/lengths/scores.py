"""What covers enough of a sample, some of which may be cut: bounds are then broken as seldom as they promise."""

import math
from bisect import bisect_left, insort
from collections import deque
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

SLACK = 1e-9
"""Keeps a rank or a bound that is a whole number from being rounded away."""

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Score: TypeAlias = tuple[float, bool]
"""How far an answer lay from what was predicted, and whether it was cut there; who ended sorts before who was cut."""


def covering(by_size: Floats, is_cut: Bools, share: float) -> float:
    """The least of these scores that at most `share` of them survive; of sorted scores, one at least.

    Where answers were cut, by the Kaplan-Meier estimate: a cut one counts up to its cut and then no more. Where that
    never gets so far, the largest score stands.
    """
    at_risk = np.arange(len(by_size), 0, -1)
    alive = np.multiply.accumulate(np.where(is_cut, 1.0, 1.0 - 1.0 / at_risk))
    reached = alive <= share + SLACK
    return float(by_size[reached.argmax() if reached[-1] else -1])


class Scores:
    """The newest `count_max` scores of one key, and the shift that would have covered the promised share of them."""

    def __init__(self, count_max: int, alpha: float) -> None:
        self._count_max = count_max
        self._alpha = alpha
        self._by_age: deque[Score] = deque()
        self._by_size: list[Score] = []
        self._cut_count = 0
        self._shift: float | None = None

    @property
    def count(self) -> int:
        """Scores of answers that ended by themselves; a cut one alone says nothing."""
        return len(self._by_size) - self._cut_count

    def add(self, score: float, is_cut: bool) -> None:
        """Takes one score; the oldest gives way."""
        if len(self._by_age) == self._count_max:
            oldest = self._by_age.popleft()
            del self._by_size[bisect_left(self._by_size, oldest)]
            self._cut_count -= oldest[1]
        self._by_age.append((score, is_cut))
        insort(self._by_size, (score, is_cut))
        self._cut_count += is_cut
        self._shift = None

    @property
    def shift(self) -> float:
        """The rank ⌈(1 - alpha)(n + 1)⌉ of the n scores; needs at least one that was not cut.

        Where answers were cut, what covers the same share (`covering`).
        """
        if self._shift is None:
            rank = min(self.count, math.ceil((1 - self._alpha) * (self.count + 1) - SLACK))
            self._shift = self._covering(1 - rank / self.count) if self._cut_count else self._by_size[rank - 1][0]
        return self._shift

    def _covering(self, share: float) -> float:
        scores, cuts = np.array(self._by_size).T
        return covering(scores, cuts > 0, share)
