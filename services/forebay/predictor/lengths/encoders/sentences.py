"""What a prompt is about, as a vector: a sentence encoder in onnxruntime, with the latest prompts remembered."""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from forebay.predictor.lengths.encoders.files import ENCODER, read
from forebay.predictor.lengths.encoders.tokens import WordPieces, excerpt, padded
from forebay.predictor.sessions import Feeds, OnnxSession

EMBEDDING_SIZE = 384
PADDED_TOKENS_MAX = 2_048
"""Tokens of one run of the encoder, padding included: eight of the longest prompts."""
REMEMBERED_COUNT = 4_096

Matrix = npt.NDArray[np.float32]
Half = npt.NDArray[np.float16]


class Encoder(Protocol):
    """Embeds texts; rows do not depend on each other."""

    def embed(self, texts: Sequence[str]) -> Matrix:
        """One row of `EMBEDDING_SIZE` numbers, of length one, a text. Raises PredictionFailed."""
        ...


class Session(Protocol):
    """The encoder's network: the last layer's states [n, tokens, size] for ids and masks."""

    def run(self, feeds: Feeds) -> npt.NDArray[Any]:
        """Raises PredictionFailed."""
        ...


class SentenceEncoder:
    """Means of the last layer's states, scaled to length one, as all-MiniLM-L6-v2 is meant to be read.

    An outcome asks for the same prompt as its prediction, and the instructions of an application recur, so the latest
    embeddings are kept, under a digest of the text. All are rounded to half precision, which is what is kept.
    """

    def __init__(self, pieces: WordPieces, session: Session, remembered_count: int = REMEMBERED_COUNT) -> None:
        self._pieces = pieces
        self._session = session
        self._remembered_count = remembered_count
        self._known: OrderedDict[bytes, Half] = OrderedDict()
        self._lock = threading.Lock()

    def embed(self, texts: Sequence[str]) -> Matrix:
        """One row a text; equal texts are read once. Raises PredictionFailed."""
        keys = [key_of(text) for text in texts]
        with self._lock:
            found = {key: self._known[key] for key in keys if key in self._known}
        fresh = {key: text for key, text in zip(keys, texts, strict=True) if key not in found}
        if fresh:
            rows = dict(zip(fresh, self._read(list(fresh.values())), strict=True))
            found |= rows
            self._remember(rows)
        kept = np.stack([found[key] for key in keys]) if keys else np.empty((0, EMBEDDING_SIZE), dtype=np.float16)
        return kept.astype(np.float32)

    def _remember(self, rows: dict[bytes, Half]) -> None:
        with self._lock:
            self._known |= rows
            while len(self._known) > self._remembered_count:
                self._known.popitem(last=False)

    def _read(self, texts: Sequence[str]) -> Half:
        """Texts of about one length share a run, so that little of it is padding."""
        ids = self._pieces.ids(texts)
        order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
        found = np.empty((len(ids), EMBEDDING_SIZE), dtype=np.float16)
        start = 0
        while start < len(order):
            size = max(1, PADDED_TOKENS_MAX // len(ids[order[start]]))
            while size > 1 and size * len(ids[order[min(start + size, len(order)) - 1]]) > PADDED_TOKENS_MAX:
                size -= 1
            rows = order[start : start + size]
            found[rows] = self._pooled([ids[row] for row in rows])
            start += size
        return found

    def _pooled(self, rows: Sequence[Sequence[int]]) -> Matrix:
        ids, mask = padded(rows)
        feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        weights = mask[:, :, None].astype(np.float32)
        means = (self._session.run(feeds) * weights).sum(axis=1) / weights.sum(axis=1)
        scaled: Matrix = means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-9)
        return scaled


def key_of(text: str) -> bytes:
    """What an embedding is kept under: a digest of what is read of the text."""
    return hashlib.blake2b(excerpt(text).encode(), digest_size=16).digest()


@lru_cache(maxsize=1)
def open_encoder(providers: tuple[str, ...], threads: int) -> SentenceEncoder:
    """The packaged encoder, one for all models of a process. Raises FailedPrecondition where it is not installed."""
    return SentenceEncoder(WordPieces(), OnnxSession(read(ENCODER)[1], list(providers), threads))
