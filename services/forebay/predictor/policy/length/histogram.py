"""Answers are as long as those to prompts of about the same length: rows by log2(prompt tokens) for each model."""

import math
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from forebay.core.prediction import QUANTILE_LEVELS, LengthOutcome, mean_of
from forebay.core.values import InferenceRequest, LengthPrediction, LengthQuantiles
from forebay.predictor.lengths.snapshots import Floats, checked, table
from forebay.predictor.policy.length.base import Key


@dataclass(slots=True)
class Row:
    """The newest outcomes of one bucket (`packed`), with their quantiles once asked for."""

    outcomes: deque[int]
    quantiles: LengthQuantiles | None = None

    def add(self, tokens: int, censored: bool) -> None:
        """Takes one more outcome; the oldest gives way."""
        self.outcomes.append(packed(tokens, censored))
        self.quantiles = None

    def read(self) -> LengthQuantiles:
        """The quantiles of what is there."""
        if self.quantiles is None:
            self.quantiles = survival_quantiles(self.outcomes)
        return self.quantiles


@dataclass(slots=True)
class Histogram:
    """Reads quantiles off the row of the prompt's bucket and learns with every outcome.

    Rows with fewer than `count_min` outcomes do not speak: the model's nearest bucket does, then all models together,
    then `prior_tokens` (p10, p50, p90, p97). Source of the buckets: AIBrix, `pkg/cache/output_predictor.go`, which
    draws an output at random from the row where this one answers with the row's quantiles. The prior is the output of
    the conversation trace of Splitwise (ISCA'24).
    """

    window_count: int = 512
    count_min: int = 8
    prior_tokens: tuple[int, ...] = (54, 129, 424, 509)
    _rows: dict[str, dict[int, Row]] = field(default_factory=dict, init=False, repr=False)
    _all: Row = field(init=False, repr=False)
    _prior: LengthQuantiles = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not 1 <= self.count_min <= self.window_count <= 100_000:
            raise ValueError("1 <= count_min <= window_count <= 100000 must hold")
        if len(self.prior_tokens) != len(QUANTILE_LEVELS):
            raise ValueError(f"prior_tokens must have {len(QUANTILE_LEVELS)} entries")
        self._prior = LengthQuantiles(*self.prior_tokens)
        self._all = self._new_row()

    def predict(self, queries: Sequence[InferenceRequest]) -> tuple[LengthPrediction, ...]:
        """The quantiles of the row that speaks for each query, at most the query's limit."""
        return tuple(self._one(query) for query in queries)

    def observe(self, outcomes: Sequence[LengthOutcome]) -> None:
        """Adds each outcome to the row of its bucket and to the row of all models."""
        for seen in outcomes:
            rows = self._rows.setdefault(seen.query.model, {})
            row = rows.setdefault(_bucket(seen.query.prompt_tokens), self._new_row())
            for one in (row, self._all):
                one.add(seen.generated_tokens, seen.censored)

    def saved(self) -> Iterator[tuple[Key, Floats]]:
        """See `Lasting`; a row's key is its model and its bucket, and that of all has none."""
        rows: dict[Key, Row] = {(): self._all}
        for model, buckets in list(self._rows.items()):
            rows |= {(model, str(bucket)): row for bucket, row in list(buckets.items())}
        for key, row in rows.items():
            yield key, table([(outcome,) for outcome in tuple(row.outcomes)], 1)

    def restore(self, key: Key, rows: Floats) -> None:
        """See `Lasting`."""
        row = self._all
        if key:
            model, bucket = key
            row = self._rows.setdefault(model, {}).setdefault(int(bucket), self._new_row())
        row.outcomes.extend(int(outcome) for (outcome,) in checked(rows, 1))
        row.quantiles = None

    def _one(self, query: InferenceRequest) -> LengthPrediction:
        quantiles = self._speaking(query).capped(query.tokens_max)
        mean = mean_of((quantiles.p10, quantiles.p50, quantiles.p90, quantiles.p97))
        return LengthPrediction(quantiles, mean, mean, "histogram")

    def _speaking(self, query: InferenceRequest) -> LengthQuantiles:
        bucket = _bucket(query.prompt_tokens)
        rows = self._rows.get(query.model, {})
        own = rows.get(bucket)
        if own is not None and len(own.outcomes) >= self.count_min:
            return own.read()
        ready = [near for near, row in rows.items() if len(row.outcomes) >= self.count_min]
        if ready:
            return rows[min(ready, key=lambda near: (abs(near - bucket), near))].read()
        return self._all.read() if len(self._all.outcomes) >= self.count_min else self._prior

    def _new_row(self) -> Row:
        return Row(deque(maxlen=self.window_count))


def packed(tokens: int, censored: bool) -> int:
    """One outcome as a number that sorts by length, and at equal length what ended before what was cut."""
    return 2 * tokens + censored


def survival_quantiles(outcomes: Collection[int]) -> LengthQuantiles:
    """Quantiles of lengths of which some are only known to be longer (`packed`); needs at least one.

    The Kaplan-Meier estimate: a cut answer counts as alive up to its cut and as nothing after it. Where the curve never
    falls far enough the longest length seen stands.
    """
    rows = np.sort(np.fromiter(outcomes, dtype=np.int64, count=len(outcomes)))
    tokens, known = rows >> 1, rows & 1 == 0
    alive = np.cumprod(np.where(known, 1 - 1 / np.arange(len(rows), 0, -1), 1.0))[known]
    # The curve falls, so the first place where it is low enough is found from its end.
    places = len(alive) - np.searchsorted(alive[::-1], [1 - level + 1e-9 for level in QUANTILE_LEVELS], side="right")
    ends = np.append(tokens[known], tokens[-1])
    return LengthQuantiles(*(int(ends[place]) for place in places))


def _bucket(prompt_tokens: int) -> int:
    return round(math.log2(max(1, prompt_tokens)))
