"""The pool never holds fewer than no blocks or more than all."""

import pytest

from forebay.core.instance.blocks import BlockPool


def test_blocks_taken_are_missing_until_they_come_back() -> None:
    pool = BlockPool(5)
    pool.take(3)
    assert pool.free_count == 2
    pool.give_back(2)
    assert pool.free_count == 4


def test_more_than_is_free_cannot_be_taken() -> None:
    with pytest.raises(ValueError, match="cannot take 6 of 5"):
        BlockPool(5).take(6)


def test_more_than_was_taken_cannot_come_back() -> None:
    with pytest.raises(ValueError, match="cannot return 1 of 0"):
        BlockPool(5).give_back(1)
