"""What a prompt looks like as numbers: the same pure function for training and for serving."""

import math
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from forebay.core.values import InferenceRequest

FEATURES_VERSION = "2"
"""Changes with anything below; a model answers only the version that it was trained on."""

HEAD_BYTES = 1_024
TAIL_BYTES = 1_024
WORD_COUNT = 8_192
LETTER_COUNT = 8_192
HASHED_COUNT = WORD_COUNT + LETTER_COUNT
FIRST_WORDS = 8
LETTERS = (4, 5)
"""Lengths of the runs of letters that are counted; a run may begin or end with what parts two words."""
BYTE_CLASSES = ("upper", "digit", "space", "punctuation", "not_ascii", "character", "line", "question_mark", "colon")
DENSE = (
    "log_prompt_tokens",
    "has_text",
    "log_bytes",
    "log_bytes_a_token",
    "log_words",
    "bytes_a_word",
    *(f"log_{name}_count" for name in BYTE_CLASSES),
    *(f"share_{name}" for name in BYTE_CLASSES),
    "log_last_line_bytes",
    "log_last_paragraph_bytes",
    *(f"log_last_paragraph_{name}_count" for name in BYTE_CLASSES),
)
IDENTITY = ("log_tokens_max", "has_tokens_max", "temperature", "log_turn_number", "has_system", "has_application")
KINDS = {"model": 64, "model_part": 64, "temperature": 8, "application": 64, "system": 32, "tokens_max": 16, "turn": 8}
"""Columns of each hashed kind of what a query says of itself beside its text."""
IDENTITY_COUNT = len(IDENTITY) + sum(KINDS.values())
IDENTITY_SLICE = slice(len(DENSE), len(DENSE) + IDENTITY_COUNT)
"""The columns that tell who asks; zeros where nobody says."""
_MODEL_COUNT = KINDS["model"] + KINDS["model_part"]
_MODEL_START = len(DENSE) + len(IDENTITY)
BLANKS = (
    (len(DENSE), _MODEL_START),
    (_MODEL_START, _MODEL_START + _MODEL_COUNT),
    (_MODEL_START + _MODEL_COUNT, IDENTITY_SLICE.stop),
)
"""First columns and ends of what may be unknown: the numbers, the model, and the application with its habits."""
BATCH_COUNT_MAX = 64
NAMES_MAX = 4_096
"""Names of models whose parts are remembered."""
FEATURE_COUNT = len(DENSE) + IDENTITY_COUNT + HASHED_COUNT

Bytes = npt.NDArray[np.uint8]
Hashes = npt.NDArray[np.uint64]
Rows = npt.NDArray[np.int64]
Matrix = npt.NDArray[np.float32]

# A polynomial hash of a word is a difference of prefix sums when its base is odd, so that it has an inverse mod 2^64.
_BASE = 0x9E3779B97F4A7C15 | 1
_BASE_INVERSE = pow(_BASE, -1, 1 << 64)
_MIX = np.uint64(0xBF58476D1CE4E5B9)
_PAIR = np.uint64(0x94D049BB133111EB)
_PLACE = np.uint64(0xD6E8FEB86659FD93)
_SHIFT = np.uint64(29)
_RUN = np.uint64(0xA0761D6478BD642F)
_GAP = np.uint8(1)
_PARTS = re.compile(r"[^a-z0-9]+|(?<=[a-z])(?=[0-9])|(?<=[0-9])(?=[a-z])")


def _powers(base: int, count: int) -> Hashes:
    found = np.full(count, base, dtype=np.uint64)
    found[0] = 1
    powers: Hashes = np.cumprod(found, dtype=np.uint64)
    return powers


def _word_table() -> Bytes:
    table = np.zeros(256, dtype=np.uint8)
    for byte in range(256):
        if byte >= 128 or chr(byte).isalnum():
            table[byte] = ord(chr(byte).lower()) if byte < 128 else byte
    return table


def _class_table() -> Matrix:
    """One row a byte, one column a class; the zero byte, which ends each text, is in none."""
    table = np.zeros((256, len(BYTE_CLASSES)), dtype=np.float32)
    for byte in range(1, 256):
        letter = chr(byte)
        kinds = (letter.isupper(), letter.isdigit(), letter.isspace(), not (letter.isalnum() or letter.isspace()))
        table[byte, :4] = kinds if byte < 128 else 0
        table[byte, 4:] = (byte >= 128, byte < 128 or byte >= 192, letter == "\n", letter == "?", letter == ":")
    return table


# What one prompt can bring at most, times the largest batch that is worth one pass.
_LONGEST = BATCH_COUNT_MAX * (HEAD_BYTES + TAIL_BYTES + 1)
_POWERS = _powers(_BASE, _LONGEST)
_POWERS_INVERSE = _powers(_BASE_INVERSE, _LONGEST)
_WORDS = _word_table()
_CLASSES = _class_table()
_BEFORE, _LAST = np.full(1, -1), np.ones(1, dtype=np.bool_)
_LOGS = np.log1p(np.arange(len(LETTERS) * (TAIL_BYTES + HEAD_BYTES + 1))).astype(np.float32)
_KIND_STARTS = dict(zip(KINDS, np.cumsum([len(IDENTITY), *KINDS.values()]).tolist(), strict=False))


@dataclass(frozen=True, slots=True)
class _Text:
    """The texts of a batch in one array, each followed by a zero byte."""

    data: Bytes
    starts: Rows
    ends: Rows


def extract(queries: Sequence[InferenceRequest]) -> Matrix:
    """One row of `FEATURE_COUNT` numbers a query; rows do not depend on each other.

    Raises ValueError for more than `BATCH_COUNT_MAX` queries.
    """
    if len(queries) > BATCH_COUNT_MAX:
        raise ValueError(f"{len(queries)} queries; at most {BATCH_COUNT_MAX} at a time")
    if not queries:
        return np.empty((0, FEATURE_COUNT), dtype=np.float32)
    texts = [_window(query.prompt_head.rstrip().encode(errors="replace")) for query in queries]
    text = _join(texts)
    letters = _WORDS[text.data]
    words, rows, places = _hash_words(text, letters)
    features = np.zeros((len(queries), FEATURE_COUNT), dtype=np.float32)
    features[:, : len(DENSE)] = _dense(queries, text, np.bincount(rows, minlength=len(queries)))
    features[:, IDENTITY_SLICE] = _identity(queries)
    _hash_neighbours(words, rows, places, features[:, -HASHED_COUNT:-LETTER_COUNT])
    _hash_runs(text, letters, features[:, -LETTER_COUNT:])
    return features


def _window(data: bytes) -> bytes:
    return data if len(data) <= HEAD_BYTES + TAIL_BYTES else data[:HEAD_BYTES] + data[-TAIL_BYTES:]


def _join(texts: Sequence[bytes]) -> _Text:
    ends = np.cumsum([len(text) + 1 for text in texts]) - 1
    starts = np.concatenate(([0], ends[:-1] + 1)).astype(np.int64)
    return _Text(np.frombuffer(b"\0".join(texts) + b"\0", dtype=np.uint8), starts, ends)


def _hash_words(text: _Text, letters: Bytes) -> tuple[Hashes, Rows, Rows]:
    """Hash, row and place in its row of every word."""
    inside = letters != 0
    begins = inside.copy()
    begins[1:] &= ~inside[:-1]
    first = np.flatnonzero(begins)
    last = np.flatnonzero(inside[:-1] & ~inside[1:]) + 1
    sums = _prefix_sums(letters)
    words = _mix((sums[last] - sums[first]) * _POWERS[first])
    rows = np.searchsorted(text.ends, first)
    places = np.arange(len(first)) - np.searchsorted(rows, rows)
    return words, rows, places


def _prefix_sums(codes: Bytes) -> Hashes:
    sums = np.zeros(len(codes) + 1, dtype=np.uint64)
    np.cumsum(codes * _POWERS_INVERSE[: len(codes)], out=sums[1:])
    return sums


def _mix(hashes: Hashes) -> Hashes:
    mixed: Hashes = (hashes ^ (hashes >> _SHIFT)) * _MIX
    return mixed ^ (mixed >> _SHIFT)


def _hash_neighbours(words: Hashes, rows: Rows, places: Rows, columns: Matrix) -> None:
    """Counts of words, of pairs of neighbours and of the first words at their places."""
    paired = rows[1:] == rows[:-1]
    pairs = _mix(words[:-1] * _PAIR + words[1:])[paired]
    early = places < FIRST_WORDS
    placed = _mix((words ^ (places.astype(np.uint64) + np.uint64(1)) * _PLACE)[early])
    hashes = np.concatenate((words, pairs, placed)) * _PAIR
    _fill(columns, hashes, np.concatenate((rows, rows[:-1][paired], rows[early])))


def _hash_runs(text: _Text, letters: Bytes, columns: Matrix) -> None:
    """Counts of runs of letters inside words, with the gap before or after a word as one letter more."""
    gaps = letters == 0
    gap_sums = np.concatenate(([0], np.cumsum(gaps)))
    sums = _prefix_sums(np.where(gaps, _GAP, letters))
    all_starts = []
    all_hashes = []
    for length in LETTERS:
        whole = gap_sums[length - 1 : -1] == gap_sums[1 : len(gap_sums) - length + 1]
        whole[text.ends[text.ends < len(whole)]] = False
        starts = np.flatnonzero(whole)
        all_hashes.append(_mix((sums[starts + length] - sums[starts]) * _POWERS[starts] + np.uint64(length)))
        all_starts.append(starts)
    # A run may end with the zero byte after its text, which is its last gap, but none may start there.
    rows = np.searchsorted(text.ends, np.concatenate(all_starts))
    _fill(columns, np.concatenate(all_hashes) * _RUN, rows)


def _fill(columns: Matrix, hashes: Hashes, rows: Rows) -> None:
    """Writes how often each cell was hit, as logarithms, each row of length one; the columns are zeros before."""
    row_count, column_count = columns.shape
    bits = np.int64(column_count.bit_length() - 1)
    cells = (rows << bits) + (hashes >> np.uint64(64 - bits)).astype(np.int64)
    # Sorted, since what is hit is few of all: to count all cells takes thrice as long and empties the caches.
    cells.sort()
    ends = np.flatnonzero(np.concatenate((cells[1:] != cells[:-1], _LAST)))[: len(cells)]
    hit = cells[ends]
    bounds = np.concatenate((_BEFORE, ends))
    logs = _LOGS[bounds[1:] - bounds[:-1]]
    owners = hit >> bits
    norms = np.sqrt(np.bincount(owners, logs * logs, minlength=row_count))
    columns[owners, hit - (owners << bits)] = logs / np.maximum(norms, 1.0)[owners]


def _identity(queries: Sequence[InferenceRequest]) -> Matrix:
    """The columns of `IDENTITY`, then those of `KINDS` with a one for each value that is there."""
    found = np.zeros((len(queries), IDENTITY_COUNT), dtype=np.float32)
    for row, query in zip(found, queries, strict=True):
        row[: len(IDENTITY)] = _identity_numbers(query)
        for kind, value in _identity_values(query):
            row[_KIND_STARTS[kind] + zlib.crc32(value.encode(errors="replace")) % KINDS[kind]] = 1.0
    return found


def _identity_numbers(query: InferenceRequest) -> tuple[float, ...]:
    return (
        math.log1p(query.tokens_max),
        query.tokens_max > 0,
        query.temperature,
        math.log1p(query.turn_number),
        query.system_digest != "",
        query.application != "",
    )


def _identity_values(query: InferenceRequest) -> Iterator[tuple[str, str]]:
    yield "model", query.model
    yield "temperature", f"{query.temperature:.1f}"
    for part in model_parts(query.model):
        yield "model_part", part
    for kind, value in (("application", query.application), ("system", query.system_digest)):
        if value:
            yield kind, value
    for kind, number in (("tokens_max", query.tokens_max), ("turn", query.turn_number)):
        if number:
            yield kind, str(number.bit_length())


@lru_cache(maxsize=NAMES_MAX)
def model_parts(model: str) -> tuple[str, ...]:
    """What a model's name is made of: "text-davinci-003" is text, davinci and 003."""
    return tuple(sorted({part for part in _PARTS.split(model.lower()) if part}))


def _dense(queries: Sequence[InferenceRequest], text: _Text, word_counts: Rows) -> Matrix:
    """The columns of `DENSE`; the last paragraph often holds the question itself, so it is counted by itself too."""
    tokens = np.array([query.prompt_tokens for query in queries], dtype=np.float32)
    lines, paragraphs = _last_starts(text)
    inside, last = _class_counts(text, paragraphs)
    sizes = (text.ends - text.starts).astype(np.float32)
    whole = np.maximum(sizes, 1.0)
    totals = (
        np.log1p(tokens),
        sizes > 0,
        np.log1p(sizes),
        np.log(whole / tokens),
        np.log1p(word_counts),
        sizes / np.maximum(word_counts, 1),
    )
    ends = np.log1p(text.ends - lines), np.log1p(text.ends - paragraphs)
    parts = (np.stack(totals, 1), np.log1p(inside), inside / whole[:, None], np.stack(ends, 1), np.log1p(last))
    return np.concatenate(parts, axis=1).astype(np.float32)


def _class_counts(text: _Text, paragraphs: Rows) -> tuple[Matrix, Matrix]:
    """How often each class of bytes occurs in each text and in its last paragraph."""
    cells = np.repeat(np.arange(0, 256 * len(text.starts), 256), text.ends - text.starts + 1) + text.data
    if paragraphs is text.starts:
        # No line is broken: each text is its own last paragraph, as most short ones are.
        inside = _classes(cells, len(text.starts))
        return inside, inside
    last = [cells[start:end] for start, end in zip(paragraphs.tolist(), text.ends.tolist(), strict=True)]
    inside, inside_last = (_classes(some, len(text.starts)) for some in (cells, np.concatenate(last)))
    return inside, inside_last


def _classes(cells: Rows, row_count: int) -> Matrix:
    counts: Matrix = np.bincount(cells, minlength=256 * row_count).reshape(-1, 256).astype(np.float32) @ _CLASSES
    return counts


def _last_starts(text: _Text) -> tuple[Rows, Rows]:
    """Where the last line and the last paragraph of each text begin: at its own start where no line is broken."""
    breaks = np.flatnonzero(text.data == ord("\n"))
    if not len(breaks):
        return text.starts, text.starts
    doubles = breaks[1:][np.diff(breaks) == 1]
    return _after(breaks, text), _after(doubles, text)


def _after(marks: Rows, text: _Text) -> Rows:
    before = np.concatenate(([-1], marks))[np.searchsorted(marks, text.ends)]
    starts: Rows = np.maximum(before + 1, text.starts)
    return starts
