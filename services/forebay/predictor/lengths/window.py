"""How far bounds must move, by predicted length: what the newest outcomes of one key say."""

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from itertools import chain, pairwise
from typing import NamedTuple, TypeAlias

import numpy as np

from forebay.predictor.lengths.scores import Bools, Scores, covering
from forebay.predictor.lengths.snapshots import Floats, checked, table

BIN_COUNT = 4
BIN_COUNT_MIN = 20
"""Outcomes a bin has at least: with fewer, bins are fewer."""
TRUST_COUNT = 10
"""A bin's own shift is trusted by n / (n + this), and for the rest the shift of all."""
REFITS = 16
"""Bins are made anew so often while a window is replaced: their sorting costs no more than the sorting in of each."""
ROW_WIDTH = 4


class Seen(NamedTuple):
    """One outcome: where it lies, how far above its median, whether it was cut, and what the bins then left of that."""

    place: float
    score: float
    is_cut: bool
    missed: float


Knot: TypeAlias = tuple[float, float]
"""The middle of a bin, and how much further than all together it must move."""


class Window:
    """The newest `count_max` outcomes of one key, placed by predicted length, and the shift at each place.

    Two steps. Bins of equally many outcomes tell how much further each must move than all together (Mondrian conformal
    predictors, Vovk, Lindsay, Nouretdinov and Gammerman 2003), and between their middles it is interpolated. What such
    bins left of an outcome that they had not yet seen is ranked for all together, so that the promised share is covered
    however good the bins are; the finite sample is paid for once and not in each bin.
    """

    def __init__(self, count_max: int, alpha: float) -> None:
        self._alpha = alpha
        self._seen: deque[Seen] = deque(maxlen=count_max)
        self._missed = Scores(count_max, alpha)
        self._knots: list[Knot] = []
        self._fresh_count = 0

    @property
    def count(self) -> int:
        """Outcomes of answers that ended by themselves."""
        return self._missed.count

    def shift(self, place: float) -> float:
        """What to add at this place; needs at least one answer that was not cut."""
        return interpolated(self._knots, place) + self._missed.shift

    def add(self, place: float, score: float, is_cut: bool) -> None:
        """Takes one outcome; the oldest gives way."""
        self._take(Seen(place, score, is_cut, score - interpolated(self._knots, place)))
        self._fresh_count += 1
        if self._fresh_count * REFITS >= len(self._seen):
            self._knots, self._fresh_count = knots_of(self._seen, self._alpha), 0

    def saved(self) -> Floats:
        """How many knots there are and how old they are, the knots, and the outcomes, the oldest first."""
        knots = [(*knot, 0, 0) for knot in self._knots]
        return table([(len(knots), self._fresh_count, 0, 0), *knots, *tuple(self._seen)], ROW_WIDTH)

    def restore(self, rows: Floats) -> None:
        """Takes what was saved. Raises ValueError for what was not."""
        (knot_count, fresh_count, *_), *rest = checked(rows, ROW_WIDTH)
        if not 0 <= knot_count <= min(BIN_COUNT, len(rest)):
            raise ValueError(f"a snapshot of bounds with {knot_count:g} knots in {len(rest)} rows")
        count = int(knot_count)
        self._knots, self._fresh_count = [(place, offset) for place, offset, *_ in rest[:count]], int(fresh_count)
        for place, score, is_cut, missed in rest[count:]:
            self._take(Seen(place, score, bool(is_cut), missed))

    def _take(self, seen: Seen) -> None:
        self._seen.append(seen)
        self._missed.add(seen.missed, seen.is_cut)


def interpolated(knots: Sequence[Knot], place: float) -> float:
    """The line through the knots at this place; level beyond the first and the last, 0 without any."""
    if not knots:
        return 0.0
    after = bisect_right(knots, place, key=lambda knot: knot[0])
    if after in (0, len(knots)):
        return knots[max(0, after - 1)][1]
    (left, low), (right, high) = knots[after - 1 : after + 1]
    return low + (high - low) * (place - left) / (right - left)


def knots_of(seen: Sequence[Seen] | deque[Seen], alpha: float) -> list[Knot]:
    """A knot for each bin; outcomes of one place are in one bin, so that where all are predicted alike there is one."""
    bin_count = min(BIN_COUNT, len(seen) // BIN_COUNT_MIN)
    if bin_count < 2:
        return []
    rows = np.fromiter(chain.from_iterable(seen), np.float64).reshape(-1, ROW_WIDTH)
    places = np.sort(rows[:, 0])
    starts = sorted({_start(places, len(places) * number // bin_count) for number in range(bin_count)} - {len(places)})
    place, score, is_cut = rows[np.lexsort((rows[:, 2], rows[:, 1])), :3].T
    bins = np.searchsorted(places[starts[1:]], place, "right")
    of_all, found = covering(score, is_cut > 0, alpha), []
    for number, (start, end) in enumerate(pairwise([*starts, len(places)])):
        scores, cuts = score[bins == number], is_cut[bins == number] > 0
        found.append((float(places[(start + end) // 2]), (covering(scores, cuts, alpha) - of_all) * _trust(cuts)))
    return found


def _start(places: Floats, at: int) -> int:
    """The nearest index where another place begins."""
    before, after = (int(places.searchsorted(places[at], side)) for side in ("left", "right"))
    return before if at - before <= after - at else after


def _trust(cuts: Bools) -> float:
    whole_count = len(cuts) - int(cuts.sum())
    return whole_count / (whole_count + TRUST_COUNT)
