"""Turns prompts into tokens of BERT's uncased vocabulary: the head and the tail of what is too long."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from forebay.core.errors import FailedPrecondition
from forebay.predictor.lengths.encoders.files import INSTALL, VOCABULARY, read

TOKEN_COUNT_MAX = 256
"""Tokens that are read of one prompt, with the two that mark its ends."""
CHARACTER_COUNT_MAX = 2_048
"""Characters that are read of one prompt: those at its head and as many at its tail."""
BEGIN, END, NOTHING = 101, 102, 0

Ids = npt.NDArray[np.int64]


class WordPieces:
    """Splits text into word pieces; one text at a time, so that it takes no more threads than its caller.

    Raises FailedPrecondition with the command to run where the optional packages are missing.
    """

    def __init__(self, content: bytes | None = None) -> None:
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            raise FailedPrecondition(
                f"the package tokenizers is not installed; run: {INSTALL}", reason="EXTRA_MISSING"
            ) from error
        self._tokenizer: Any = Tokenizer.from_buffer(read(VOCABULARY)[1] if content is None else content)
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each text with those that mark its ends, at most `TOKEN_COUNT_MAX`; any text will do."""
        return [_cut(self._tokenizer.encode(excerpt(text), add_special_tokens=False).ids) for text in texts]


def excerpt(text: str) -> str:
    """The characters of a text that are read: well-formed, its head and its tail where it is long."""
    if len(text) > CHARACTER_COUNT_MAX:
        half = CHARACTER_COUNT_MAX // 2
        text = f"{text[:half]} {text[-half:]}"
    return text.encode(errors="replace").decode()


def padded(rows: Sequence[Sequence[int]]) -> tuple[Ids, Ids]:
    """Rows of tokens as one array with its mask; needs at least one row."""
    counts = np.array([len(row) for row in rows])
    mask = (np.arange(counts.max()) < counts[:, None]).astype(np.int64)
    ids = np.full(mask.shape, NOTHING, dtype=np.int64)
    ids[mask == 1] = np.concatenate([np.asarray(row, dtype=np.int64) for row in rows])
    return ids, mask


def _cut(ids: list[int]) -> list[int]:
    room = TOKEN_COUNT_MAX - 2
    if len(ids) > room:
        ids = ids[: room // 2] + ids[-(room - room // 2) :]
    return [BEGIN, *ids, END]
