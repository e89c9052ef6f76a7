"""Answer lengths by model and prompt length, for when the predictor does not answer."""

import math
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

from forebay.core.values import LengthPrediction, LengthQuantiles

PREDICTED_BY = "scheduler histogram"
PROMPT_BUCKETS = 21
STEPS_PER_OCTAVE = 4
LENGTH_BUCKETS = 20 * STEPS_PER_OCTAVE + 1
ROW_COUNT_MIN = 20
ROW_COUNT_MAX = 2_000
GROWTH = 1.02
"""A row's quantiles are drawn anew when it has grown by so much: one outcome more of hundreds moves none."""
QUANTILES = (0.10, 0.50, 0.90, 0.97)

PRIOR = LengthQuantiles(16, 128, 512, 1_024)
"""Taken for a model without any outcome: the middle and the tails of public chat traces, roughly."""


def _prediction(quantiles: LengthQuantiles) -> LengthPrediction:
    return LengthPrediction(quantiles, float(quantiles.p50), float(quantiles.p50), PREDICTED_BY)


BY_PRIOR = _prediction(PRIOR)

_EDGES = [math.ceil(2.0 ** (bucket / STEPS_PER_OCTAVE)) for bucket in range(LENGTH_BUCKETS)]


class _Table:
    """Outcomes of one model: a row of counts for each bucket of prompt lengths, and the sum of all rows."""

    def __init__(self) -> None:
        self.rows = [[0] * LENGTH_BUCKETS for _ in range(PROMPT_BUCKETS)]
        self.row_counts = [0] * PROMPT_BUCKETS
        self.total = [0] * LENGTH_BUCKETS
        self._drawn: dict[int, tuple[int, LengthPrediction]] = {}

    def add(self, prompt_bucket: int, length_bucket: int) -> None:
        """Counts one outcome; a row that fills up is halved."""
        row = self.rows[prompt_bucket]
        row[length_bucket] += 1
        self.row_counts[prompt_bucket] += 1
        self.total[length_bucket] += 1
        if self.row_counts[prompt_bucket] > ROW_COUNT_MAX:
            halved = [count // 2 for count in row]
            self.total = [total - before + after for total, before, after in zip(self.total, row, halved, strict=True)]
            self.rows[prompt_bucket], self.row_counts[prompt_bucket] = halved, sum(halved)
            self._drawn.clear()

    def predict(self, prompt_bucket: int) -> LengthPrediction:
        """By the row, by all rows where it has too few outcomes, or by the prior."""
        count = self.row_counts[prompt_bucket]
        if count >= ROW_COUNT_MIN:
            return self._recent(prompt_bucket, count, self.rows[prompt_bucket])
        count = sum(self.row_counts)
        return self._recent(PROMPT_BUCKETS, count, self.total) if count >= ROW_COUNT_MIN else BY_PRIOR

    def _recent(self, row: int, count: int, counts: Sequence[int]) -> LengthPrediction:
        """What these counts said when they last had grown by GROWTH."""
        drawn_count, drawn = self._drawn.get(row, (0, BY_PRIOR))
        if count >= drawn_count * GROWTH:
            drawn = _prediction(_quantiles(counts))
            self._drawn[row] = count, drawn
        return drawn


class Histogram:
    """Counts outcomes by log2 of the prompt's tokens and by quarter octaves of the answer's, a table a model.

    A row with fewer than 20 outcomes is answered from the whole model, a model with fewer than 20 from the prior.
    Rows that fill up are halved, so that what is new counts more.
    """

    def __init__(self) -> None:
        self._tables: dict[str, _Table] = {}

    def observe(self, model: str, prompt_tokens: int, generated_tokens: int) -> None:
        """Counts one outcome."""
        table = self._tables.get(model)
        if table is None:
            table = self._tables[model] = _Table()
        table.add(_prompt_bucket(prompt_tokens), min(bisect_left(_EDGES, generated_tokens), LENGTH_BUCKETS - 1))

    def predict(self, model: str, prompt_tokens: int) -> LengthPrediction:
        """The distribution known for such prompts; quantiles are the upper edges of their buckets."""
        table = self._tables.get(model)
        return BY_PRIOR if table is None else table.predict(_prompt_bucket(prompt_tokens))


def _quantiles(counts: Sequence[int]) -> LengthQuantiles:
    sums = list(accumulate(counts))
    return LengthQuantiles(*(_EDGES[bisect_left(sums, math.ceil(q * sums[-1]))] for q in QUANTILES))


def _prompt_bucket(prompt_tokens: int) -> int:
    return min(max(prompt_tokens, 1).bit_length() - 1, PROMPT_BUCKETS - 1)
