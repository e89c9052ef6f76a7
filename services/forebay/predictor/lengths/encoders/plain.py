"""What is known of a request beside the meaning of its text: sizes, limits, the turn, and names as hashed cells."""

import re
import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from forebay.core.values import InferenceRequest

NUMBERS = (
    "log_prompt_tokens",
    "has_text",
    "log_characters",
    "log_words",
    "log_lines",
    "log_last_line_characters",
    "characters_a_token",
    "log_tokens_max",
    "has_tokens_max",
    "temperature",
    "log_turn_number",
    "has_system",
)
MODEL_CELLS = 32
APPLICATION_CELLS = 16
PLAIN_COUNT = len(NUMBERS) + MODEL_CELLS + APPLICATION_CELLS

Matrix = npt.NDArray[np.float32]

_LOGARITHMS = np.array([name.startswith("log_") for name in NUMBERS])
_PARTS = re.compile(r"[a-z]+|[0-9]+")


def plain(queries: Sequence[InferenceRequest]) -> Matrix:
    """One row of `PLAIN_COUNT` numbers a query: those of `NUMBERS`, then the cells of the model and the application.

    A name fills the cells of its parts, so that names which share a part, such as a family's, share a cell.
    """
    found = np.zeros((len(queries), PLAIN_COUNT), dtype=np.float32)
    if queries:
        numbers = np.array([_numbers(query) for query in queries])
        found[:, : len(NUMBERS)] = np.where(_LOGARITHMS, np.log1p(numbers), numbers)
    for row, query in zip(found, queries, strict=True):
        names = row[len(NUMBERS) :]
        _fill(names[:MODEL_CELLS], query.model)
        _fill(names[MODEL_CELLS:], query.application)
    return found


def _numbers(query: InferenceRequest) -> tuple[float, ...]:
    text = query.prompt_head
    return (
        query.prompt_tokens,
        bool(text),
        len(text),
        text.count(" ") + bool(text),
        text.count("\n"),
        len(text) - text.rfind("\n") - 1,
        len(text) / max(1, query.prompt_tokens),
        query.tokens_max,
        query.tokens_max > 0,
        query.temperature,
        query.turn_number,
        bool(query.system_digest),
    )


def _fill(cells: Matrix, name: str) -> None:
    parts = _PARTS.findall(name.lower())
    for part in parts:
        cells[zlib.crc32(part.encode()) % len(cells)] = 1.0
    if parts:
        cells /= np.sqrt(cells.sum())
