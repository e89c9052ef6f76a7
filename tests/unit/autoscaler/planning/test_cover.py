"""Covers of one need are as cheap as any."""

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forebay.autoscaler.planning.cover import Piece, cover

PIECES = st.lists(
    st.builds(Piece, st.integers(0, 9).map(float), st.integers(1, 7).map(float), st.integers(0, 4)), max_size=4
)


@settings(deadline=None)
@given(PIECES, st.integers(0, 30), st.integers(1, 40).map(float))
def test_no_choice_is_cheaper_than_the_cover(pieces: list[Piece], need: int, open_price: float) -> None:
    def cost(counts: tuple[int, ...]) -> float:
        covered = sum(count * piece.size for count, piece in zip(counts, pieces, strict=True))
        spent = sum(count * piece.cost for count, piece in zip(counts, pieces, strict=True))
        return spent + open_price * max(0.0, need - covered)

    found = cover(pieces, float(need), open_price, nodes_max=10_000)
    best = min(map(cost, product(*(range(piece.most + 1) for piece in pieces))))
    assert found.cost == pytest.approx(best)
    assert cost(found.counts) == pytest.approx(best)
    assert found.bound == found.cost


def test_a_search_that_is_cut_short_has_a_cover_and_a_bound_below_it() -> None:
    pieces = [Piece(10.0 + number, 7.0 + 0.7 * number, 9) for number in range(8)]
    cut, full = cover(pieces, 100.3, 1e6, nodes_max=10), cover(pieces, 100.3, 1e6, nodes_max=100_000)
    assert cut.bound <= full.cost <= cut.cost
    assert cut.bound < cut.cost
    assert sum(count * piece.size for count, piece in zip(cut.counts, pieces, strict=True)) >= 100.3


def test_what_costs_more_than_leaving_the_need_open_is_not_taken() -> None:
    assert cover([Piece(50.0, 1.0, 9)], 3.0, 2.0) == ((0,), 6.0, 6.0)
