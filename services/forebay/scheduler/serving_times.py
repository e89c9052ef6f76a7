"""How long a static batch takes, learnt from those that ended."""

from collections import deque
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from forebay.core.units import US_PER_S

Numbers: TypeAlias = npt.NDArray[np.float64]

NEIGHBOUR_COUNT = 5
"""k of the regression, as in a public port of Magnus (Magnus' summary, section 5)."""
REFIT_US = 120 * US_PER_S
"""The estimator is fitted anew every two minutes (Magnus' summary, section 5)."""
ERROR_S = 2.0
ERROR_SHARE = 0.2
"""Only batches whose time was missed by more than both are learnt from, once the start is over (section 5)."""
START_COUNT = 50
"""Ours: so many batches are learnt from as they end, in place of a fit before the start; five tell no two apart."""
SAMPLE_COUNT_MAX = 512
"""Ours: the newest that are kept."""
STEP_S = 0.02
"""Ours: seconds a token of the longest answer, while nothing is known; only the proportion matters for an order."""


class ServingTimes:
    """k-nearest-neighbour regression of a batch's seconds on (|B|, L(B), G(B)), Cheng et al., arXiv 2406.04785.

    Features are scaled by their spread. The first START_COUNT batches are learnt from at once, later ones where they
    were missed, at the next fit. Not thread-safe; times must not go back.
    """

    def __init__(self) -> None:
        self._samples: deque[tuple[int, int, int, float]] = deque(maxlen=SAMPLE_COUNT_MAX)
        self._missed: list[tuple[int, int, int, float]] = []
        self._fitted_us = 0
        self._scale = np.ones(3)
        self._points: Numbers = np.empty((0, 3))
        self._seconds: Numbers = np.empty(0)

    def __len__(self) -> int:
        return len(self._samples)

    def estimate(self, request_count: npt.ArrayLike, prompt_max: npt.ArrayLike, answer_max: npt.ArrayLike) -> Numbers:
        """Seconds of each batch, above 0: the mean of the nearest that ended."""
        asked = np.array([request_count, prompt_max, answer_max], dtype=np.float64).T
        if not len(self._seconds):
            return STEP_S * np.maximum(1.0, asked[:, 2])
        apart = ((asked[:, None, :] / self._scale - self._points[None, :, :]) ** 2).sum(axis=2)
        count = min(NEIGHBOUR_COUNT, len(self._seconds))
        nearest = np.argpartition(apart, count - 1, axis=1)[:, :count]
        means: Numbers = self._seconds[nearest].mean(axis=1)
        return means

    def learn(self, request_count: int, prompt_max: int, answer_max: int, seconds: float, now_us: int) -> None:
        """A batch ended after so many seconds; its longest answer had `answer_max` tokens."""
        sample = (request_count, prompt_max, answer_max, max(seconds, 1e-6))
        if len(self._samples) < START_COUNT:
            self._samples.append(sample)
            self._fit(now_us)
            return
        error_s = abs(float(self.estimate([request_count], [prompt_max], [answer_max])[0]) - seconds)
        if error_s > ERROR_S and error_s > ERROR_SHARE * seconds:
            self._missed.append(sample)
        if now_us - self._fitted_us >= REFIT_US:
            self._samples.extend(self._missed)
            self._missed.clear()
            self._fit(now_us)

    def _fit(self, now_us: int) -> None:
        table = np.array(self._samples, dtype=np.float64)
        spread = table[:, :3].std(axis=0)
        self._scale = np.where(spread > 0, spread, 1.0)
        self._points, self._seconds = table[:, :3] / self._scale, table[:, 3]
        self._fitted_us = now_us
