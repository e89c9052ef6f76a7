"""History as evenly spaced series."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from forebay.core.errors import InvalidArgument
from forebay.core.values import WorkloadPoint

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

WINDOW_COUNT_MAX = 100_000
"""Older windows than the last so many are left out."""


@dataclass(frozen=True, slots=True)
class Series:
    """Requests, prompt and response tokens (columns) of consecutive windows (rows); NaN where nothing is known.

    Row 0 starts at `start_us`; a gap is a gap in all three columns.
    """

    values: Floats
    start_us: int
    window_us: int

    def __len__(self) -> int:
        return len(self.values)

    @property
    def known(self) -> Floats:
        """The rows with each gap filled by the last row before it, zeros where there is none."""
        gaps = np.isnan(self.values[:, 0])
        if not gaps.any():
            return self.values
        rows = np.maximum.accumulate(np.where(gaps, -1, np.arange(len(gaps))))
        return np.where(rows[:, None] < 0, 0.0, self.values[np.maximum(rows, 0)])

    @property
    def last(self) -> Floats:
        """The last known row; zeros where there is none."""
        rows = np.flatnonzero(~np.isnan(self.values[:, 0]))
        return self.values[rows[-1]] if len(rows) else np.zeros(3)

    def until(self, count: int) -> "Series":
        """The first `count` windows: what was known when the next one began."""
        return Series(self.values[:count], self.start_us, self.window_us)


def align(points: Sequence[WorkloadPoint], window_us: int) -> Series:
    """Points in any order as a series from the first window with traffic; windows without a point are gaps.

    Raises InvalidArgument for counts that are negative or no numbers.
    """
    rows = [(point.start_us, point.request_count, point.prompt_tokens, point.response_tokens) for point in points]
    counts = np.array([row[1:] for row in rows], dtype=np.float64).reshape(-1, 3)
    refuse_senseless(counts)
    return _placed([row[0] // window_us for row in rows], counts, window_us)


def refuse_senseless(counts: Floats, *, gaps: bool = False) -> None:
    """Raises InvalidArgument where a row holds NaN, negative or infinite counts; whole rows of NaN may be `gaps`."""
    bad = ~(np.isfinite(counts) & (counts >= 0)).all(axis=1)
    if gaps:
        bad &= ~np.isnan(counts).all(axis=1)
    if bad.any():
        row = int(np.argmax(bad))
        raise InvalidArgument(
            f"window {row} of the history has the counts {', '.join(f'{count:g}' for count in counts[row])}; "
            "requests and tokens must be numbers that are not negative"
        )


def _placed(numbers: Sequence[int], counts: Floats, window_us: int) -> Series:
    busy = [number for number, row in zip(numbers, counts, strict=True) if row[0]]
    if not busy:
        return Series(np.empty((0, 3)), 0, window_us)
    first = max(min(busy), max(numbers) - WINDOW_COUNT_MAX + 1)
    values = np.full((max(numbers) - first + 1, 3), np.nan)
    for number, row in zip(numbers, counts, strict=True):
        if number >= first:
            values[number - first] = row
    return Series(values, first * window_us, window_us)


def lagged(series: Series, window_count: int, horizon_count: int) -> Floats:
    """For each window after the series, that of the last season of `window_count` windows at the same place in it."""
    return series.known[len(series) - window_count + np.arange(horizon_count) % window_count]
