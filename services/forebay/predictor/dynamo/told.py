"""The traffic that a planner tells, tick by tick, as a history of windows with a clock of its own."""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from forebay.core.units import US_PER_S
from forebay.core.values import WorkloadPoint
from forebay.predictor.traffic.history import SeriesName

MODEL = "dynamo"
"""The planner does not say which model it plans for: it has one."""


@dataclass(frozen=True, slots=True)
class Observed:
    """The traffic of one window: its length in seconds, requests, and mean tokens of prompts and answers."""

    duration_s: float
    requests: float
    prompt_tokens_mean: float
    response_tokens_mean: float


class Told:
    """Puts observations on a grid of windows, however irregular the ticks are.

    An observation belongs to the window whose end is nearest; a second one is a newer sight of it. One of another
    length begins a new history, and a pause leaves a gap. The clock stands just before the end of the newest window, so
    that the next window is the first that has not begun.
    """

    def __init__(self, points_max: int) -> None:
        self._points: deque[WorkloadPoint] = deque(maxlen=points_max)
        self._window_us = 0
        self._first_us = 0
        self._end_us = 0

    def observe(self, observed: Observed, now_us: int) -> SeriesName | None:
        """Takes one; gives the series that it belongs to, or None for one that makes no sense."""
        window_us = _window_us(observed)
        if window_us is None:
            return None
        if window_us != self._window_us:
            self._points.clear()
            self._window_us, self._first_us, self._end_us = window_us, now_us, 0
        passed = round((now_us - self._first_us) / window_us)
        end_us = self._first_us // window_us * window_us + passed * window_us
        if end_us <= self._end_us:
            self._points.pop()
        self._end_us = max(self._end_us, end_us)
        self._points.append(_point(observed, self._end_us - window_us))
        return SeriesName(MODEL, "", 0, window_us)

    def clock(self) -> int:
        """The time of the history."""
        return self._end_us - 1

    async def read(self, series: SeriesName, start_us: int, end_us: int) -> Sequence[WorkloadPoint]:
        """All windows from `start_us` on; the newest is complete."""
        return [point for point in self._points if point.start_us >= start_us]


def _window_us(observed: Observed) -> int | None:
    values = (observed.duration_s, observed.requests, observed.prompt_tokens_mean, observed.response_tokens_mean)
    # A window without requests has no mean lengths, which some tell as not a number.
    if not math.isfinite(values[0]) or not math.isfinite(values[1]) or min(values[:2]) < 0:
        return None
    return round(observed.duration_s * US_PER_S) or None


def _point(observed: Observed, start_us: int) -> WorkloadPoint:
    tokens = [
        round(observed.requests * mean) if math.isfinite(mean) and mean > 0 else 0
        for mean in (observed.prompt_tokens_mean, observed.response_tokens_mean)
    ]
    return WorkloadPoint(start_us, round(observed.requests), *tokens)
