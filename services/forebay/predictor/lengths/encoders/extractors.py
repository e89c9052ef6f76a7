"""What trained models are shown of prompts: embeddings, their folds, or the tokens themselves."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from forebay.core.values import InferenceRequest
from forebay.predictor.lengths.encoders.plain import PLAIN_COUNT, plain
from forebay.predictor.lengths.encoders.sentences import EMBEDDING_SIZE, Encoder
from forebay.predictor.lengths.encoders.tokens import padded
from forebay.predictor.sessions import Feeds

APPLICATION_SIZE = 4
USER_SIZE = 16
INSTRUCTION_CHARACTERS_MAX = 512
"""Where no instruction ends within so many characters the prompt has none of its own."""

Matrix = npt.NDArray[np.float32]


class Splitter(Protocol):
    """Splits texts into the tokens of the encoder's vocabulary."""

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each text."""
        ...


class Semantic:
    """The embedding of the prompt beside the plain features."""

    version = "1"
    widths: Mapping[str, int] = {"features": EMBEDDING_SIZE + PLAIN_COUNT}

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder

    def extract(self, queries: Sequence[InferenceRequest]) -> Feeds:
        """One row of features a query; a prompt without text has an embedding of zeros. Raises PredictionFailed."""
        texts = [query.prompt_head for query in queries]
        has_text = np.array([[bool(text)] for text in texts])
        return {"features": np.concatenate((self._encoder.embed(texts) * has_text, plain(queries)), axis=1)}


class Magnus:
    """Magnus' three features: user input length, and the application's and the user's semantics, folded.

    Source: Magnus (ICWS'24) as in its public summaries: embeddings folded to 4 and 16 numbers by the sums of groups.
    Here `split` guesses where the instruction ends, the name of the application stands before it, and the encoder is
    MiniLM where the paper takes LaBSE.
    """

    version = "1"
    widths: Mapping[str, int] = {"features": 1 + APPLICATION_SIZE + USER_SIZE}

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder

    def extract(self, queries: Sequence[InferenceRequest]) -> Feeds:
        """One row of features a query. Raises PredictionFailed."""
        parts = [split(query.prompt_head) for query in queries]
        applications = [
            f"{query.application} {instruction}".strip() for query, (instruction, _) in zip(queries, parts, strict=True)
        ]
        users = [user for _, user in parts]
        rows = self._encoder.embed([*applications, *users])
        lengths = np.array([[_user_tokens(query, user)] for query, user in zip(queries, users, strict=True)])
        folded = (fold(rows[: len(queries)], APPLICATION_SIZE), fold(rows[len(queries) :], USER_SIZE))
        return {"features": np.concatenate((np.log1p(lengths), *folded), axis=1, dtype=np.float32)}


class Tokens:
    """The tokens themselves for a model that is an encoder, beside the plain features."""

    version = "1"
    widths: Mapping[str, int] = {"ids": 0, "mask": 0, "plain": PLAIN_COUNT}

    def __init__(self, splitter: Splitter) -> None:
        self._splitter = splitter

    def extract(self, queries: Sequence[InferenceRequest]) -> Feeds:
        """Rows of tokens, padded to the longest, with their masks."""
        ids, mask = padded(self._splitter.ids([query.prompt_head for query in queries]))
        return {"ids": ids, "mask": mask, "plain": plain(queries)}


def split(text: str) -> tuple[str, str]:
    """The instruction of a prompt and what the user gives it to work on; without an instruction all is the user's.

    The instruction ends before the user's first turn where there is a system prompt, otherwise with the first line or
    before the first ": ", whichever comes first.
    """
    if text.startswith("system: "):
        instruction, _, user = text.partition("\nuser: ")
        return (instruction, user) if user else ("", text)
    head = text[:INSTRUCTION_CHARACTERS_MAX]
    ends = [place for place in (head.find(": "), head.find("\n")) if place > 0]
    user = text[min(ends) + 1 :].strip() if ends else ""
    return (text[: min(ends)], user) if user else ("", text)


def fold(rows: Matrix, size: int) -> Matrix:
    """Each row as `size` sums of neighbouring numbers."""
    sums: Matrix = rows.reshape(len(rows), size, -1).sum(axis=2)
    return sums


def _user_tokens(query: InferenceRequest, user: str) -> float:
    """The prompt's tokens by the user's share of what is seen of its text."""
    return query.prompt_tokens * (len(user) / len(query.prompt_head) if query.prompt_head else 1.0)
