import numpy as np
import pytest

from forebay.predictor.lengths.trees import NOTHING, grow


def steps(count: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Rows of four numbers of which the first one alone tells the target: 1 where it is above zero, else -1."""
    chance = np.random.default_rng(seed)
    rows = chance.normal(size=(count, 4))
    return rows, np.sign(rows[:, 0])


def test_a_forest_learns_what_a_feature_tells() -> None:
    forest = grow(*steps(600), 20, 8, np.random.default_rng(0))
    rows, targets = steps(200, seed=2)
    assert np.abs(forest.of(rows) - targets).mean() < 0.25


def test_equal_seeds_grow_equal_forests() -> None:
    rows, targets = steps(100)
    first, second = (grow(rows, targets, 5, 8, np.random.default_rng(3)) for _ in range(2))
    assert (first.of(rows) == second.of(rows)).all()
    assert (first.of(rows) != grow(rows, targets, 5, 8, np.random.default_rng(4)).of(rows)).any()


def test_no_leaf_rests_on_fewer_rows_than_it_must() -> None:
    rows, targets = steps(100)
    (tree,) = grow(rows, targets, 1, 20, np.random.default_rng(0)).trees
    assert 1 < (tree.features < 0).sum() <= 5


def test_noise_is_not_told_of_rows_by_trees_that_have_not_seen_them() -> None:
    chance = np.random.default_rng(5)
    rows, noise = chance.normal(size=(300, 4)), chance.normal(size=300)
    forest = grow(rows, noise, 30, 2, np.random.default_rng(0))
    assert np.corrcoef(forest.of(rows), noise)[0, 1] > 0.8
    assert abs(np.corrcoef(forest.of_grown(rows), noise)[0, 1]) < 0.3


@pytest.mark.parametrize("rows", [np.ones((50, 4)), np.random.default_rng(0).normal(size=(50, 4))])
def test_where_nothing_tells_rows_apart_all_get_the_mean(rows: np.ndarray) -> None:
    forest = grow(rows, np.full(50, 3.0), 3, 8, np.random.default_rng(0))
    assert forest.of(rows) == pytest.approx(3.0)


def test_no_trees_move_nobody() -> None:
    assert (NOTHING.of(np.ones((3, 4))) == 0).all()
