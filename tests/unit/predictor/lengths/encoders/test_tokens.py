import json

import numpy as np
import pytest

from forebay.predictor.lengths.encoders.tokens import (
    BEGIN,
    CHARACTER_COUNT_MAX,
    END,
    TOKEN_COUNT_MAX,
    WordPieces,
    excerpt,
    padded,
)

VOCABULARY = json.dumps(
    {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": True,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {"[UNK]": 0, "one": 1, "two": 2, "##s": 3, "last": 4},
        },
    }
).encode()


@pytest.fixture
def pieces() -> WordPieces:
    pytest.importorskip("tokenizers", reason="the semantic packages are not installed")
    return WordPieces(VOCABULARY)


def test_texts_become_pieces_between_two_marks(pieces: WordPieces) -> None:
    assert pieces.ids(["One twos", ""]) == [[BEGIN, 1, 2, 3, END], [BEGIN, END]]


def test_of_long_texts_head_and_tail_are_read(pieces: WordPieces) -> None:
    (ids,) = pieces.ids(["one " * 300 + "two " * 300 + "last"])
    assert len(ids) == TOKEN_COUNT_MAX
    assert ids[1:128] == [1] * 127
    assert ids[-2:] == [4, END]


@pytest.mark.parametrize("text", ["\0", "\ud800", "🙂" * 10, "x" * 1_000_000, "\n\t "])
def test_any_text_will_do(pieces: WordPieces, text: str) -> None:
    (ids,) = pieces.ids([text])
    assert ids[0] == BEGIN
    assert ids[-1] == END
    assert len(ids) <= TOKEN_COUNT_MAX


def test_an_excerpt_is_bounded_and_well_formed() -> None:
    text = excerpt("a" * 5_000 + "\ud800" + "b" * 5_000)
    assert len(text) == CHARACTER_COUNT_MAX + 1
    assert text.startswith("aaa")
    assert text.endswith("bbb")
    assert excerpt("\ud800").encode() == b"?"


def test_rows_are_padded_to_the_longest() -> None:
    ids, mask = padded([[5], [6, 7, 8]])
    assert ids.tolist() == [[5, 0, 0], [6, 7, 8]]
    assert mask.tolist() == [[1, 0, 0], [1, 1, 1]]
    assert ids.dtype == mask.dtype == np.int64
