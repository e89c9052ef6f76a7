import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.train.folds import drawn, folds, group_of, linked, substance

GROUPS = np.arange(10_000, dtype=np.int64) * 2**40


def test_case_and_blanks_make_no_other_prompt() -> None:
    assert group_of("Write  a\npoem ") == group_of("write a poem")
    assert group_of("write a poem") != group_of("write two poems")


def test_a_sentence_to_translate_is_one_prompt_in_every_language() -> None:
    assert group_of("Translate from en to de: Good morning") == group_of("Translate from en to fr: Good morning")
    assert substance("Note: translate this") == "note: translate this"
    assert substance("Translate: ") == "translate:"


def test_groups_are_the_same_in_every_run() -> None:
    assert group_of("hello") == 1619368272448737671


@given(st.text())
def test_any_text_has_a_group_that_fits_a_signed_number(text: str) -> None:
    assert 0 <= group_of(text) < 2**63


def test_lone_surrogates_are_grouped_too() -> None:
    assert group_of("a\ud800b") >= 0


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
