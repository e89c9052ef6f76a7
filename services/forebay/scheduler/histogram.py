"""Answer lengths by model and prompt length, for when the predictor does not answer."""

import math

import numpy as np
import numpy.typing as npt

from forebay.core.values import LengthPrediction, LengthQuantiles

PREDICTED_BY = "scheduler histogram"
PROMPT_BUCKETS = 21
STEPS_PER_OCTAVE = 4
LENGTH_BUCKETS = 20 * STEPS_PER_OCTAVE + 1
ROW_COUNT_MIN = 20
ROW_COUNT_MAX = 2_000
QUANTILES = (0.10, 0.50, 0.90, 0.97)

PRIOR = LengthQuantiles(16, 128, 512, 1_024)
"""Taken for a model without any outcome: the middle and the tails of public chat traces, roughly."""

_EDGES = np.ceil(2.0 ** (np.arange(LENGTH_BUCKETS) / STEPS_PER_OCTAVE)).astype(np.int64)
_EDGES[0] = 1


class Histogram:
    """Counts outcomes by log2 of the prompt's tokens and by quarter octaves of the answer's, a table a model.

    A row with fewer than 20 outcomes is answered from the whole model, a model with fewer than 20 from the prior.
    Rows that fill up are halved, so that what is new counts more.
    """

    def __init__(self) -> None:
        self._counts: dict[str, npt.NDArray[np.int64]] = {}

    def observe(self, model: str, prompt_tokens: int, generated_tokens: int) -> None:
        """Counts one outcome."""
        if model not in self._counts:
            self._counts[model] = np.zeros((PROMPT_BUCKETS, LENGTH_BUCKETS), dtype=np.int64)
        row = self._counts[model][_prompt_bucket(prompt_tokens)]
        row[min(int(np.searchsorted(_EDGES, generated_tokens)), LENGTH_BUCKETS - 1)] += 1
        if row.sum() > ROW_COUNT_MAX:
            row //= 2

    def predict(self, model: str, prompt_tokens: int) -> LengthPrediction:
        """The distribution known for such prompts; quantiles are the upper edges of their buckets."""
        quantiles = self._quantiles(model, prompt_tokens)
        return LengthPrediction(quantiles, float(quantiles.p50), float(quantiles.p50), PREDICTED_BY)

    def _quantiles(self, model: str, prompt_tokens: int) -> LengthQuantiles:
        table = self._counts.get(model)
        if table is None:
            return PRIOR
        row = table[_prompt_bucket(prompt_tokens)]
        sums = np.cumsum(row)
        if sums[-1] < ROW_COUNT_MIN:
            sums = np.cumsum(table.sum(axis=0))
        if sums[-1] < ROW_COUNT_MIN:
            return PRIOR
        places = np.searchsorted(sums, [math.ceil(q * int(sums[-1])) for q in QUANTILES])
        return LengthQuantiles(*(int(_EDGES[place]) for place in places))


def _prompt_bucket(prompt_tokens: int) -> int:
    return min(max(prompt_tokens, 1).bit_length() - 1, PROMPT_BUCKETS - 1)
