import numpy as np
import pytest

from forebay.train.folds import drawn, folds, linked

GROUPS = np.arange(10_000, dtype=np.int64) * 2**40


def test_rows_with_one_id_are_one_group() -> None:
    found = linked([5, 3, 9, 7], ["a", "b", "a", ""])
    assert found.tolist() == [5, 3, 5, 7]


def test_links_reach_over_several_rows() -> None:
    # 1 and 2 share a, 2 and 3 share b: the second row's group stands between them.
    assert linked([1, 2, 2, 3], ["a", "a", "b", "b"]).tolist() == [1, 1, 1, 1]


def test_the_share_is_drawn_and_seeds_draw_differently() -> None:
    one, other = drawn(GROUPS, 0.2, 1), drawn(GROUPS, 0.2, 2)
    assert one.mean() == pytest.approx(0.2, abs=0.02)
    assert (one & other).mean() == pytest.approx(0.04, abs=0.01)


def test_a_group_stays_on_its_side_when_others_come() -> None:
    assert drawn(GROUPS[:100], 0.2, 1).tolist() == drawn(GROUPS, 0.2, 1)[:100].tolist()


def test_each_group_is_tested_once_and_never_fitted_on_then() -> None:
    groups = np.repeat(GROUPS[:1_000], 3)
    tested = np.zeros(len(groups), dtype=int)
    for fit, test in folds(groups, 5):
        assert not set(groups[fit]) & set(groups[test])
        assert test.mean() == pytest.approx(0.2, abs=0.05)
        tested += test
    assert set(tested) == {1}


def test_one_fold_is_refused() -> None:
    with pytest.raises(ValueError, match="two folds"):
        list(folds(GROUPS, 1))
