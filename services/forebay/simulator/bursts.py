"""What sudden load does: how long promises stay broken after a burst begins, and the worst seconds of a run."""

from itertools import pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from forebay.core.units import US_PER_S

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]
Mask: TypeAlias = npt.NDArray[np.bool_]

BIN_US = 10 * US_PER_S
"""A burst begins at the start of such a bin."""
WINDOW_BINS = 6
"""Attainment is looked at in windows of a minute, counted from the start of the burst."""
BEFORE_BINS = 60
"""The rate before is that of the ten minutes, of which half must be there."""
BURST_FACTOR = 2.0
"""So many times the rate before over the minute to come, and in its first ten seconds, is a burst."""
BURST_COUNT_MIN = 20
"""Requests of a minute, below which nothing is a burst."""
RECOVERED = 0.95
"""The share of a window's requests that keep their promises, in serving goal G7."""
PEAK_BIN_US = 5 * US_PER_S


def find_bursts(arrival_us: Ints) -> list[int]:
    """When bursts begin, by the arrivals alone, in microseconds; the next one may begin ten minutes later."""
    if not len(arrival_us):
        return []
    counts = np.bincount(arrival_us // BIN_US).astype(np.float64)
    total = np.concatenate(([0.0], np.cumsum(counts)))
    found: list[int] = []
    at = BEFORE_BINS // 2
    while at < len(counts):
        first, last = max(0, at - BEFORE_BINS), min(len(counts), at + WINDOW_BINS)
        before = (total[at] - total[first]) / (at - first)
        after = total[last] - total[at]
        enough = after >= max(BURST_COUNT_MIN, BURST_FACTOR * before * WINDOW_BINS)
        if enough and counts[at] >= BURST_FACTOR * before:
            found.append(at * BIN_US)
            at += BEFORE_BINS
        else:
            at += 1
    return found


def recovery_s(arrival_us: Ints, met: Mask, starts_us: list[int], end_us: int) -> float | None:
    """The longest time from the start of a burst until at least RECOVERED of the arrivals keep their promises again.

    It ends with the last one-minute window below that share before two in a row that are not, or before the next burst;
    0 where no window is, None where there was no burst or nobody came in any. Windows without arrivals are not below.
    """
    spans = []
    for start_us, stop_us in pairwise([*starts_us, end_us + 1]):
        chosen = (arrival_us >= start_us) & (arrival_us < stop_us)
        if chosen.any():
            spans.append(_recovery_s(arrival_us[chosen] - start_us, met[chosen]))
    return max(spans) if spans else None


def _recovery_s(since_us: Ints, met: Mask) -> float:
    """The same for one burst, whose arrivals are told from its start."""
    windows = since_us // (WINDOW_BINS * BIN_US)
    came = np.bincount(windows)
    kept = np.bincount(windows, weights=met)
    below = kept < RECOVERED * came - 1e-9
    recovered = 0
    for window, is_below in enumerate(below.tolist()):
        if is_below:
            recovered = window + 1
        elif window >= recovered + 1:
            break
    return recovered * WINDOW_BINS * BIN_US / US_PER_S


def peak(at_us: Ints, values: Floats, bin_us: int = PEAK_BIN_US) -> float | None:
    """The highest mean of the values in any bin of time; None where there are none."""
    if not len(values):
        return None
    bins = at_us // bin_us
    counts = np.bincount(bins)
    sums = np.bincount(bins, weights=values)
    return float((sums[counts > 0] / counts[counts > 0]).max())
