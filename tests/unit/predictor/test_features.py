import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forebay.core.values import InferenceRequest
from forebay.predictor.features import DENSE, FEATURE_COUNT, FEATURES_VERSION, HEAD_BYTES, TAIL_BYTES, extract

GOLDEN = "The quick brown fox?\n\nAnswer: (A) 42, (B) Grüße 你好.\nThink."


def query(text: str, prompt_tokens: int = 50) -> InferenceRequest:
    return InferenceRequest("q", "m", prompt_tokens, prompt_head=text)


def dense(text: str) -> dict[str, float]:
    return dict(zip(DENSE, extract([query(text)])[0].tolist(), strict=False))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=300), min_size=1, max_size=8))
def test_rows_do_not_depend_on_each_other(texts: list[str]) -> None:
    together = extract([query(text) for text in texts])
    alone = np.vstack([extract([query(text)]) for text in texts])
    assert together.shape == (len(texts), FEATURE_COUNT)
    assert np.array_equal(together, alone)
    assert np.isfinite(together).all()


def test_features_are_the_same_everywhere_and_for_ever() -> None:
    row = extract([query(GOLDEN)])[0]
    columns = np.flatnonzero(row[len(DENSE) :]).astype("<i8")
    # A model in use was trained on these numbers: when they change, FEATURES_VERSION must change with them.
    assert FEATURES_VERSION == "1"
    assert hashlib.sha256(columns.tobytes()).hexdigest()[:16] == "108b1e634c920b6c"
    assert float(row[: len(DENSE)].sum()) == pytest.approx(56.45004, rel=1e-5)


def test_counts_are_those_of_the_text() -> None:
    found = dense(GOLDEN)
    assert np.expm1(found["log_words"]) == pytest.approx(11)
    assert np.expm1(found["log_digit_count"]) == pytest.approx(2)
    assert np.expm1(found["log_question_mark_count"]) == pytest.approx(1)
    assert np.expm1(found["log_line_count"]) == pytest.approx(3)
    assert np.expm1(found["log_bytes"]) == pytest.approx(len(GOLDEN.encode()))
    assert np.expm1(found["log_character_count"]) == pytest.approx(len(GOLDEN))
    assert np.expm1(found["log_last_line_bytes"]) == pytest.approx(len("Think."), rel=1e-5)
    assert np.expm1(found["log_last_paragraph_upper_count"]) == pytest.approx(5)
    assert np.expm1(found["log_upper_count"]) == pytest.approx(6)


def test_case_and_punctuation_do_not_change_words() -> None:
    plain, loud = (extract([query(text)])[0, len(DENSE) :] for text in ("say hello world", "SAY, hello... World!"))
    assert np.array_equal(plain, loud)


def test_word_order_changes_pairs() -> None:
    one, other = (extract([query(text)])[0, len(DENSE) :] for text in ("a b c d", "d c b a"))
    assert not np.array_equal(one, other)


def test_an_empty_head_has_no_words() -> None:
    row = extract([query("")])[0]
    assert not row[len(DENSE) :].any()
    assert dense("")["has_text"] == 0
    assert np.expm1(dense("")["log_prompt_tokens"]) == pytest.approx(50)


def test_of_a_long_head_start_and_end_are_read() -> None:
    start, end = "start " * (HEAD_BYTES // 6), "end " * (TAIL_BYTES // 4)
    one, other = (extract([query(start + "x" * HEAD_BYTES + middle + "y" * TAIL_BYTES + end)]) for middle in ("p", "q"))
    assert np.array_equal(one, other)
    assert not np.array_equal(one, extract([query(end + "x" * 5000 + start)]))


def test_no_query_has_no_row() -> None:
    assert extract([]).shape == (0, FEATURE_COUNT)


def test_broken_text_is_read_all_the_same() -> None:
    assert np.isfinite(extract([query("\ud800 \0 \x7f")])).all()


def test_more_than_fits_is_refused() -> None:
    with pytest.raises(ValueError, match="64"):
        extract([query("x")] * 65)
