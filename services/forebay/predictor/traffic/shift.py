"""Where a series last changed its level for good."""

import numpy as np

from forebay.core.units import US_PER_S
from forebay.predictor.traffic.series import Floats, Series

DAY_US = 86_400 * US_PER_S
PART_COUNT = 4
"""Parts that a day is looked at in."""
PARTS_MIN = 2 * PART_COUNT
"""A level holds so many parts at least, before and after: a day comes and goes, and a shift stays."""
FAR = 3.0
"""Levels differ when they are so many times as far apart as the parts of each are from their middle."""
FACTOR = 1.5


def since_shift(series: Series) -> Series:
    """The series as it was after its last lasting shift of level, or all of it; a daily cycle is no shift.

    Windows before the shift become gaps, so that rows keep their numbers and times of day.
    """
    width = max(1, DAY_US // series.window_us // PART_COUNT)
    count = len(series) // width
    if count < 2 * PARTS_MIN:
        return series
    first = len(series) - count * width
    parts = np.nanmean(np.sqrt(series.known[first:, 0]).reshape(count, width), axis=1)
    for place in range(count - PARTS_MIN, PARTS_MIN - 1, -1):
        if _differ(parts[max(0, place - 4 * PARTS_MIN) : place], parts[place:]):
            start = first + place * width
            values = series.values.copy()
            values[:start] = np.nan
            return Series(values, series.start_us, series.window_us)
    return series


def _differ(before: Floats, after: Floats) -> bool:
    """Whether the two are apart by far more than the days within each."""
    low, high = float(np.median(before)), float(np.median(after))
    wide = max(float(np.abs(before - low).max()), float(np.abs(after - high).max()))
    return abs(high - low) > FAR * wide and max(low, high) > FACTOR**0.5 * max(min(low, high), 1e-9)
