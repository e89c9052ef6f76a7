"""What is kept of outcomes for training, numbers and never a prompt's text: the port, and an adapter in memory."""

import math
import threading
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from forebay.core.prompts import group_of
from forebay.core.tokens import estimate_tokens
from forebay.core.values import InferenceRequest

SALT_BYTES = 32
CUT_LENGTH_MIN = 1_000
CUT_RATIO = 2.0
"""A long text with so many more tokens than its bytes let expect is only the head of its prompt."""
LENGTH_STEP = 0.05
_CELL_BYTES = 8


@dataclass(frozen=True, slots=True)
class Example:
    """One outcome: the query without its prompt and id, the answer's length, and the prompt's features.

    `group` tells prompts of one substance apart from others, by a salt of the store (`group_of_prompt`). `cells` are
    the features that are not 0 (`packed`), as the extractor of `features_version` made them.
    """

    at_us: int
    query: InferenceRequest
    generated_tokens: int
    censored: bool
    group: int
    features_version: str
    cells: bytes


class ExampleStore(Protocol):
    """Keeps examples. Calls block and may come from several threads; all raise Unavailable when the store is down."""

    def salt(self) -> bytes:
        """What groups are made with; drawn once, kept as long as the store."""
        ...

    def add(self, examples: Sequence[Example]) -> None:
        """Keeps the examples, all or none."""
        ...

    def prune(self, before_us: int, count_max: int) -> int:
        """Deletes what is older, and the oldest above `count_max`; says how many went."""
        ...

    def read(self, features_version: str, count_max: int) -> list[Example]:
        """The newest examples of this version of features, the oldest of them first."""
        ...


class MemoryExampleStore:
    """Keeps examples while the process lives."""

    def __init__(self, salt: bytes = bytes(SALT_BYTES)) -> None:
        self._salt = salt
        self._examples: list[Example] = []
        self._lock = threading.Lock()

    def salt(self) -> bytes:
        """See `ExampleStore`."""
        return self._salt

    def add(self, examples: Sequence[Example]) -> None:
        """See `ExampleStore`."""
        with self._lock:
            self._examples += examples

    def prune(self, before_us: int, count_max: int) -> int:
        """See `ExampleStore`."""
        with self._lock:
            before_count = len(self._examples)
            young = [one for one in self._by_time() if one.at_us >= before_us]
            self._examples = young[max(0, len(young) - count_max) :]
            return before_count - len(self._examples)

    def read(self, features_version: str, count_max: int) -> list[Example]:
        """See `ExampleStore`."""
        with self._lock:
            found = [one for one in self._by_time() if one.features_version == features_version]
        return found[max(0, len(found) - count_max) :]

    def _by_time(self) -> list[Example]:
        return sorted(self._examples, key=lambda one: one.at_us)


def group_of_prompt(query: InferenceRequest, salt: bytes) -> int:
    """The group of a query's prompt; 0 where its text is not known.

    Prompts that only begin alike, such as with one long instruction, are told apart by their lengths in steps of 5 %:
    a prompt whose count of tokens is estimated has not always the same.
    """
    head = query.prompt_head
    if not head:
        return 0
    is_cut = len(head) >= CUT_LENGTH_MIN and query.prompt_tokens > CUT_RATIO * estimate_tokens(head)
    rest = f"\0{round(math.log(query.prompt_tokens) / LENGTH_STEP)}" if is_cut else ""
    return group_of(head + rest, salt) or 1


def packed(row: npt.NDArray[np.float32]) -> bytes:
    """The numbers of a row that are not 0 with the distances of their columns, compressed."""
    columns = np.flatnonzero(row)
    distances = np.diff(columns, prepend=0).astype("<u4")
    return zlib.compress(distances.tobytes() + row[columns].astype("<f4").tobytes(), level=1)


def unpacked(cells: bytes, width: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """The columns and the numbers of `packed` again. Raises ValueError for what cannot be a row of this width."""
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(cells, max_length=_CELL_BYTES * width + 1)
    except zlib.error as error:
        raise ValueError(f"cells that cannot be read: {error}") from error
    count = len(data) // _CELL_BYTES
    columns = np.cumsum(np.frombuffer(data, "<u4", count), dtype=np.int64)
    values = np.frombuffer(data, "<f4", count, offset=4 * count)
    if not inflater.eof or len(data) % _CELL_BYTES or (columns >= width).any() or not np.isfinite(values).all():
        raise ValueError(f"cells that are not those of a row of {width} numbers")
    return columns, values
