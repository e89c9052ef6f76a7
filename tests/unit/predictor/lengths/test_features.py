import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forebay.core.values import InferenceRequest
from forebay.predictor.lengths.features import (
    BLANKS,
    DENSE,
    FEATURE_COUNT,
    FEATURES_VERSION,
    HASHED_COUNT,
    HEAD_BYTES,
    IDENTITY,
    IDENTITY_SLICE,
    LETTER_COUNT,
    TAIL_BYTES,
    extract,
    model_parts,
)

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
    assert FEATURES_VERSION == "2"
    assert hashlib.sha256(columns.tobytes()).hexdigest()[:16] == "bdd7b6562f04a5c0"
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
    plain, loud = (
        extract([query(text)])[0, -HASHED_COUNT:-LETTER_COUNT] for text in ("say hello world", "SAY, hello... World!")
    )
    assert np.array_equal(plain, loud)


def test_word_order_changes_pairs() -> None:
    one, other = (extract([query(text)])[0, len(DENSE) :] for text in ("a b c d", "d c b a"))
    assert not np.array_equal(one, other)


def test_an_empty_head_has_no_words() -> None:
    row = extract([query("")])[0]
    assert not row[-HASHED_COUNT:].any()
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


def who(**said: object) -> np.ndarray:
    values: dict[str, object] = {"request_id": "q", "model": "m", "prompt_tokens": 50, **said}
    return extract([InferenceRequest(**values)])[0, IDENTITY_SLICE]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "said",
    [
        {"model": "other"},
        {"application": "chat"},
        {"tokens_max": 256},
        {"temperature": 0.7},
        {"turn_number": 3},
        {"system_digest": "00ff00ff00ff00ff"},
    ],
)
def test_who_asks_shows_in_columns_of_its_own(said: dict[str, object]) -> None:
    assert not np.array_equal(who(), who(**said))


def test_models_of_like_names_share_columns() -> None:
    one, like, other = (who(model=name) > 0 for name in ("llama-3-8b", "llama-3-70b", "qwen"))
    assert (one & like).sum() > (one & other).sum()
    assert model_parts("Meta/Llama3-8B") == ("3", "8", "b", "llama", "meta")


def test_blanked_columns_are_all_that_tells_who_asks() -> None:
    starts, ends = zip(*BLANKS, strict=True)
    assert (starts[0], *ends) == (len(DENSE), *starts[1:], IDENTITY_SLICE.stop)
    assert IDENTITY_SLICE.stop - len(DENSE) > len(IDENTITY)


def test_alike_words_share_runs_of_letters() -> None:
    one, like, other = (extract([query(text)])[0, -LETTER_COUNT:] for text in ("translating", "translation", "summary"))
    assert one @ like > 0.3 > one @ other
