"""The history of a series as it was read, piece by piece."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from forebay.core.values import WorkloadPoint
from forebay.predictor.traffic.series import Series, align

COUNT_MAX = 1e15
"""No window has more requests or tokens."""


@dataclass(frozen=True, slots=True)
class SeriesName:
    """One series of workload; an empty region and class 0 (the contract's UNSPECIFIED) mean all together."""

    model: str
    region: str
    slo_class: int
    window_us: int


@dataclass(frozen=True, slots=True)
class Told:
    """A history as it was read: so many points, of which so many cannot be and are taken for gaps.

    With `since_us` it is only what came lately of a history that begins there; else it is all of it.
    """

    series: Series
    count: int
    masked_count: int
    since_us: int | None = None


def told_of(points: Sequence[WorkloadPoint], window_us: int, since_us: int | None = None) -> Told:
    """The history in windows; points that cannot be (negative, not finite, absurd, off the grid) are gaps.

    A whole history begins with the first traffic; the end of one that begins at `since_us` where its points do.
    """
    sound = [point for point in points if _is_sound(point, window_us)]
    series = align(sound, window_us) if since_us is None else _placed(sound, window_us)
    return Told(series, len(points), len(points) - len(sound), since_us)


def from_traffic(series: Series, since_us: int) -> Series:
    """What came at that time or later, from the first window with traffic on."""
    first = max(0, (since_us - series.start_us) // series.window_us)
    busy = np.flatnonzero(series.values[first:, 0] > 0)
    return since(series, first + int(busy[0])) if len(busy) else Series(series.values[:0], 0, series.window_us)


def grown_by(kept: Series, fresh: Series) -> Series:
    """What was kept, from its own start, with what came since; where both tell of a window, the fresh one counts."""
    if not len(fresh) or not len(kept):
        return fresh if len(fresh) else kept
    shift = (fresh.start_us - kept.start_us) // kept.window_us
    if shift < 0:
        fresh, shift = since(fresh, -shift), 0
    values = np.full((max(len(kept), shift + len(fresh)), 3), np.nan)
    values[: len(kept)] = kept.values
    known = ~np.isnan(fresh.values[:, 0])
    values[shift : shift + len(fresh)][known] = fresh.values[known]
    return replace(kept, values=values)


def since(series: Series, row: int) -> Series:
    """The series without the rows before."""
    return Series(series.values[row:], series.start_us + row * series.window_us, series.window_us)


def _placed(points: Sequence[WorkloadPoint], window_us: int) -> Series:
    if not points:
        return Series(np.empty((0, 3)), 0, window_us)
    first, last = (choose(point.start_us for point in points) for choose in (min, max))
    values = np.full(((last - first) // window_us + 1, 3), np.nan)
    for point in points:
        values[(point.start_us - first) // window_us] = point.request_count, point.prompt_tokens, point.response_tokens
    return Series(values, first, window_us)


def _is_sound(point: WorkloadPoint, window_us: int) -> bool:
    # Written out: histories are long, and simulated ones are read thousands of times.
    return (
        point.start_us >= 0
        and point.start_us % window_us == 0
        and 0 <= point.request_count < COUNT_MAX
        and 0 <= point.prompt_tokens < COUNT_MAX
        and 0 <= point.response_tokens < COUNT_MAX
    )
