from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from forebay.core.values import InferenceRequest
from forebay.predictor.lengths.encoders.extractors import APPLICATION_SIZE, Magnus, Semantic, Tokens, fold, split
from forebay.predictor.lengths.encoders.plain import PLAIN_COUNT
from forebay.predictor.lengths.encoders.sentences import EMBEDDING_SIZE


class Lengths:
    """An embedding full of the text's length; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        self.asked += texts
        rows = [[float(len(text))] * EMBEDDING_SIZE for text in texts]
        return np.array(rows, dtype=np.float32).reshape(-1, EMBEDDING_SIZE)


def query(text: str, application: str = "", prompt_tokens: int = 10) -> InferenceRequest:
    return InferenceRequest("q", "m", prompt_tokens, application=application, prompt_head=text)


@pytest.mark.parametrize(
    ("text", "instruction", "user"),
    [
        ("Translate from de to en: Guten Morgen", "Translate from de to en", "Guten Morgen"),
        ("Fix the bug.\nint x = 1: y", "Fix the bug.", "int x = 1: y"),
        ("system: Be brief.\nsystem: Be kind.\nuser: Hi", "system: Be brief.\nsystem: Be kind.", "Hi"),
        ("Write a poem", "", "Write a poem"),
        ("Question:\n", "", "Question:\n"),
        ("", "", ""),
        ("x" * 600 + "\nlate", "", "x" * 600 + "\nlate"),
    ],
)
def test_a_prompt_is_an_instruction_and_what_the_user_gives(text: str, instruction: str, user: str) -> None:
    assert split(text) == (instruction, user)


def test_magnus_sees_user_input_length_application_and_user() -> None:
    encoder = Lengths()
    (row,) = Magnus(encoder).extract([query("Do this: 12345678", "app")])["features"]
    assert encoder.asked == ["app Do this", "12345678"]
    assert row[0] == pytest.approx(np.log1p(10 * 8 / 17))
    assert row[1] == 11 * EMBEDDING_SIZE / APPLICATION_SIZE
    assert row[-1] == 8 * EMBEDDING_SIZE / 16
    assert len(row) == Magnus.widths["features"]


def test_without_its_text_a_prompt_is_the_users() -> None:
    (row,) = Magnus(Lengths()).extract([query("")])["features"]
    assert row[0] == pytest.approx(np.log1p(10))


def test_folding_sums_neighbours() -> None:
    assert fold(np.arange(6, dtype=np.float32)[None, :], 2).tolist() == [[3.0, 12.0]]


def test_semantic_features_are_the_embedding_and_the_plain_ones() -> None:
    found = Semantic(Lengths()).extract([query("abc"), query("")])["features"]
    assert found.shape == (2, EMBEDDING_SIZE + PLAIN_COUNT)
    assert found.dtype == np.float32
    assert set(found[0, :EMBEDDING_SIZE].tolist()) == {3.0}
    assert not found[1, :EMBEDDING_SIZE].any()


def test_tokens_are_padded_and_masked() -> None:
    class Letters:
        def ids(self, texts: Sequence[str]) -> list[list[int]]:
            return [[1, *map(ord, text)] for text in texts]

    feeds = Tokens(Letters()).extract([query("ab"), query("")])
    assert feeds["ids"].tolist() == [[1, 97, 98], [1, 0, 0]]
    assert feeds["mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert feeds["plain"].shape == (2, PLAIN_COUNT)
