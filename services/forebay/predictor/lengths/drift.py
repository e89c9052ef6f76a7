"""Rings when bounds fail more often than chance allows, until they hold again."""

from collections import deque
from functools import lru_cache


class DriftAlarm:
    """Watches the last `window_count` bounds of one key, each of which should fail with probability `alpha`.

    It begins to ring when so many failures or more have a chance below `chance` (a one-sided binomial test), and ends
    when at most the promised share failed. So a window that wavers between the two does not ring on and off.
    """

    def __init__(self, window_count: int, alpha: float, chance: float) -> None:
        self._window: deque[bool] = deque(maxlen=window_count)
        self._alpha = alpha
        self._chance = chance
        self._failed_count = 0
        self.is_ringing = False

    def add(self, has_failed: bool) -> None:
        """Takes whether one bound failed."""
        if not self._window.maxlen:
            return
        if len(self._window) == self._window.maxlen:
            self._failed_count -= self._window[0]
        self._window.append(has_failed)
        self._failed_count += has_failed
        if self.is_ringing:
            self.is_ringing = self._failed_count > self._alpha * len(self._window)
        else:
            self.is_ringing = self._failed_count >= least_unlikely(len(self._window), self._alpha, self._chance)


@lru_cache(maxsize=10_000)
def least_unlikely(count: int, alpha: float, chance: float) -> int:
    """The least number of failures among `count` that, or more, have less than `chance`; `count` + 1 if none do."""
    exactly = (1 - alpha) ** count
    or_more = 1.0
    for number in range(count + 1):
        if or_more < chance:
            return number
        or_more -= exactly
        exactly *= (count - number) / (number + 1) * alpha / (1 - alpha)
    return count + 1
