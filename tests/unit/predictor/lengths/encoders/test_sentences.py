from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from forebay.predictor.lengths.encoders.sentences import EMBEDDING_SIZE, PADDED_TOKENS_MAX, SentenceEncoder
from forebay.predictor.sessions import Feeds


class Letters:
    """A token a letter."""

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        return [[101, *map(ord, text), 102] for text in texts]


class Echo:
    """States that hold the token itself in one place and one in another; remembers the sizes that it was run with."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def run(self, feeds: Feeds) -> npt.NDArray[Any]:
        ids = feeds["input_ids"]
        self.shapes.append(ids.shape)
        states = np.zeros((*ids.shape, EMBEDDING_SIZE), dtype=np.float32)
        states[:, :, 0] = ids
        states[:, :, 1] = 7.0
        return states


def encoder(session: Echo, remembered_count: int = 100) -> SentenceEncoder:
    return SentenceEncoder(Letters(), session, remembered_count)  # type: ignore[arg-type]


def test_an_embedding_is_the_mean_of_states_at_length_one() -> None:
    (row,) = encoder(Echo()).embed(["ab"])
    wanted = np.array([(101 + 97 + 98 + 102) / 4, 7.0])
    np.testing.assert_allclose(row[:2], wanted / np.linalg.norm(wanted), rtol=1e-3)


def test_padding_changes_nothing() -> None:
    together = encoder(Echo()).embed(["a", "abcdefgh" * 5, "abc"])
    alone = np.concatenate([encoder(Echo()).embed([text]) for text in ("a", "abcdefgh" * 5, "abc")])
    np.testing.assert_allclose(together, alone, rtol=1e-3)


def test_texts_share_runs_by_length_and_runs_are_bounded() -> None:
    session = Echo()
    encoder(session).embed([chr(97 + row % 26) * (200 if row % 2 else 4) + str(row) for row in range(60)])
    assert all(rows * columns <= PADDED_TOKENS_MAX for rows, columns in session.shapes)
    assert sum(rows for rows, _ in session.shapes) == 60
    assert len(session.shapes) <= 6


def test_what_was_read_lately_is_not_read_again() -> None:
    session = Echo()
    known = encoder(session)
    first = known.embed(["x", "y", "x"])
    second = known.embed(["y", "x"])
    np.testing.assert_array_equal(first[[1, 0]], second)
    np.testing.assert_array_equal(first[0], first[2])
    assert sum(rows for rows, _ in session.shapes) == 2


def test_what_is_remembered_is_bounded() -> None:
    session = Echo()
    known = encoder(session, remembered_count=3)
    known.embed([f"text {row}" for row in range(9)])
    assert len(known._known) == 3
    known.embed(["text 0"])
    assert sum(rows for rows, _ in session.shapes) == 10


def test_no_text_has_no_row() -> None:
    assert encoder(Echo()).embed([]).shape == (0, EMBEDDING_SIZE)
