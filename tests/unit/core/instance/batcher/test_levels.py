"""Queues of doubling width, and how waiting lifts."""

import pytest

from forebay.core.instance.batcher.levels import level_of, lifted


@pytest.mark.parametrize(
    ("amount", "level"), [(0, 0), (1, 0), (10, 0), (11, 1), (20, 1), (21, 2), (40, 2), (41, 3), (10**9, 3)]
)
def test_each_queue_is_twice_as_wide_as_the_one_above(amount: int, level: int) -> None:
    assert level_of(amount, 10, 4) == level


@pytest.mark.parametrize(("waited_ps", "level"), [(0, 3), (99, 3), (100, 2), (299, 1), (300, 0), (10**9, 0)])
def test_waiting_lifts_queue_by_queue(waited_ps: int, level: int) -> None:
    assert lifted(3, waited_ps, 100) == level
