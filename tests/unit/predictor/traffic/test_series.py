"""History as evenly spaced series."""

import math

import numpy as np
import pytest

from forebay.core.errors import InvalidArgument
from forebay.core.values import WorkloadPoint
from forebay.predictor.traffic.intervals import lead_grid
from forebay.predictor.traffic.series import WINDOW_COUNT_MAX, Series, align, lagged, refuse_senseless

W = 60_000_000


def test_gaps_are_gaps_and_zeros_are_zeros() -> None:
    told = align([WorkloadPoint(0, 3, 30, 6), WorkloadPoint(2 * W, 0, 0, 0), WorkloadPoint(4 * W, 5, 50, 10)], W)
    assert told.start_us == 0
    assert np.isnan(told.values[[1, 3]]).all()
    assert told.values[[0, 2, 4], 0].tolist() == [3, 0, 5]
    assert told.known[:, 0].tolist() == [3, 3, 0, 0, 5]
    assert told.last.tolist() == [5, 50, 10]
    assert told.until(4).last.tolist() == [0, 0, 0]


def test_before_anything_is_known_there_is_nothing() -> None:
    told = Series(np.full((3, 3), np.nan), 0, W)
    assert told.last.tolist() == [0, 0, 0]
    assert not told.known.any()


@pytest.mark.parametrize("count", [-1, math.nan, math.inf])
def test_what_cannot_be_counted_is_refused(count: float) -> None:
    with pytest.raises(InvalidArgument, match="window 1 "):
        align([WorkloadPoint(0, 1, 1, 1), WorkloadPoint(W, 1, count, 1)], W)  # type: ignore[arg-type]


def test_whole_gaps_may_be_told_but_not_halves() -> None:
    refuse_senseless(np.array([[math.nan] * 3, [1.0, 2.0, 3.0]]), gaps=True)
    with pytest.raises(InvalidArgument, match="not negative"):
        refuse_senseless(np.array([[1.0, math.nan, 3.0]]), gaps=True)


def test_an_absurd_span_takes_no_more_than_its_newest_windows() -> None:
    told = align([WorkloadPoint(0, 1, 1, 1), WorkloadPoint(10**9 * W, 2, 2, 2)], W)
    assert len(told) == WINDOW_COUNT_MAX
    assert told.last.tolist() == [2, 2, 2]


def test_the_last_season_repeats() -> None:
    told = Series(np.arange(30.0).reshape(10, 3), 0, W)
    assert lagged(told, 4, 6)[:, 0].tolist() == [18, 21, 24, 27, 18, 21]


def test_few_leads_are_all_measured_and_many_ever_farther_apart() -> None:
    assert lead_grid(5).tolist() == [1, 2, 3, 4, 5]
    grid = lead_grid(1_440)
    assert (grid[0], grid[-1]) == (1, 1_440)
    assert len(grid) <= 24
    assert (np.diff(grid) > 0).all()
