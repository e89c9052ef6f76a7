"""Bins by predicted length: where they lie, how far they are trusted, and that a restart changes nothing."""

from collections.abc import Sequence

import numpy as np
import pytest

from forebay.predictor.lengths.window import BIN_COUNT, Seen, Window, interpolated, knots_of

KNOTS = [(1.0, -4.0), (2.0, 0.0), (4.0, 6.0)]


def seen(place: float, scores: Sequence[float], is_cut: bool = False) -> list[Seen]:
    return [Seen(place, score, is_cut, score) for score in scores]


@pytest.mark.parametrize(
    ("place", "offset"), [(0.0, -4.0), (1.0, -4.0), (1.5, -2.0), (2.0, 0.0), (3.0, 3.0), (4.0, 6.0), (9.0, 6.0)]
)
def test_between_the_middles_of_two_bins_the_line_counts_and_beyond_them_the_last(place: float, offset: float) -> None:
    assert interpolated(KNOTS, place) == offset
    assert interpolated([], place) == 0
    assert interpolated(KNOTS[:1], place) == -4


def test_a_bin_moves_by_what_its_own_scores_say_shrunk_while_they_are_few() -> None:
    found = knots_of([*seen(1, range(20)), *seen(2, range(100, 120))], 0.1)
    # 90 % of all are at most 115, of the bins 17 and 117; twenty are trusted by 20 / 30.
    assert [place for place, _ in found] == [1, 2]
    assert [offset for _, offset in found] == pytest.approx([(17 - 115) * 2 / 3, (117 - 115) * 2 / 3])


def test_with_few_outcomes_there_is_no_bin_and_the_common_shift_stands() -> None:
    assert knots_of([*seen(1, range(19)), *seen(2, range(20))], 0.1) == []


def test_outcomes_that_are_predicted_alike_are_in_one_bin() -> None:
    assert knots_of(seen(3, range(500)), 0.1) == [(3, 0)]
    for few, many in ((3, 5), (5, 3)):
        found = knots_of([*seen(many, range(400)), *seen(few, range(100))], 0.1)
        assert [place for place, _ in found] == [3, 5]


def test_bins_lie_in_order_and_are_few() -> None:
    random = np.random.default_rng(1)
    rows = [Seen(place, score, False, score) for place, score in random.normal(size=(500, 2)).tolist()]
    places = [place for place, _ in knots_of(rows, 0.1)]
    assert len(places) == BIN_COUNT
    assert places == sorted(set(places))


def test_a_bin_of_cut_answers_alone_says_nothing() -> None:
    found = knots_of([*seen(1, range(100)), *seen(2, [500.0] * 100, is_cut=True)], 0.1)
    assert found[1] == (2, 0)


def grown(count: int, cut_every: int = 7) -> Window:
    random = np.random.default_rng(2)
    window = Window(100, 0.1)
    for number, place in enumerate(random.uniform(0, 6, count).tolist()):
        window.add(place, place * float(random.normal()), number % cut_every == 0)
    return window


@pytest.mark.parametrize("count", [1, 30, 77, 301])
def test_what_was_saved_goes_on_as_if_nothing_had_happened(count: int) -> None:
    before, after = grown(count), Window(100, 0.1)
    after.restore(before.saved())
    for number in range(40):
        place = number % 6
        before.add(place, number, False)
        after.add(place, number, False)
        assert [before.shift(at / 4) for at in range(25)] == [after.shift(at / 4) for at in range(25)]


@pytest.mark.parametrize(
    "rows",
    [
        np.zeros((0, 4)),
        np.ones((3, 2)),
        np.array([[5, 0, 0, 0], *[[1, 1, 0, 1]] * 9]),
        np.array([[2, 0, 0, 0], [1, 1, 0, 0]]),
        np.array([[-1, 0, 0, 0]]),
        np.full((2, 4), np.nan),
    ],
)
def test_what_another_program_wrote_is_refused(rows: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"snapshot|unpack|knots"):
        Window(100, 0.1).restore(rows)
