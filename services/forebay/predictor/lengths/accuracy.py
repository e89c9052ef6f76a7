"""How well predictions go, by predictor, served model and application, and which of them drift."""

from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

import numpy as np

from forebay.core.prediction import LengthOutcome, PredictorAccuracy
from forebay.core.values import InferenceRequest, LengthQuantiles
from forebay.predictor.lengths.calibration import is_limit
from forebay.predictor.lengths.care import Care
from forebay.predictor.lengths.drift import DriftAlarm
from forebay.predictor.lengths.snapshots import KEYS_MAX as KEYS_KEPT_MAX
from forebay.predictor.lengths.snapshots import Floats, checked, table

WINDOW_COUNT = 500
"""Figures rest on so many outcomes, the newest."""
KEYS_MAX = 1_000
MARK_WIDTH = 7
"""Numbers that are kept of one mark: four quantiles, tokens, and what it tells."""

RowKey: TypeAlias = tuple[str, str, str]
"""Predictor, served model, application."""


class Mark(NamedTuple):
    """One prediction and what came. `is_whole`: the answer ended by itself; `is_judged`: it tells whether p90 held."""

    predicted: LengthQuantiles
    tokens: int
    is_whole: bool
    is_judged: bool

    @property
    def is_covered(self) -> bool:
        """Whether the answer was at most as long as its p90."""
        return self.tokens <= self.predicted.p90


def mark_of(predicted: LengthQuantiles, outcome: LengthOutcome) -> Mark:
    """What is to be told of one prediction.

    A bound that is the client's limit is kept, since no more is served. Whether one holds is not known where the answer
    was cut below it for another reason.
    """
    is_unknown = (
        outcome.censored and outcome.generated_tokens <= predicted.p90 and not is_limit(outcome.query, predicted)
    )
    return Mark(predicted, outcome.generated_tokens, not outcome.censored, not is_unknown)


class Figures:
    """The figures of the last `WINDOW_COUNT` predictions; summed up when somebody asks, for outcomes are many more."""

    def __init__(self) -> None:
        self._marks: deque[Mark] = deque(maxlen=WINDOW_COUNT)

    def add(self, predicted: LengthQuantiles, outcome: LengthOutcome) -> Mark:
        """Takes one prediction with its outcome."""
        mark = mark_of(predicted, outcome)
        self._marks.append(mark)
        return mark

    def saved(self) -> Floats:
        """The marks as numbers, the oldest first."""
        rows = [
            (*(one.predicted.p10, one.predicted.p50, one.predicted.p90, one.predicted.p97), *one[1:])
            for one in tuple(self._marks)
        ]
        return table(rows, MARK_WIDTH)

    def restore(self, rows: Floats) -> list[Mark]:
        """Takes marks that were saved, and gives them. Raises ValueError for what was not."""
        marks = [
            Mark(LengthQuantiles(*map(int, row[:4])), int(row[4]), bool(row[5]), bool(row[6]))
            for row in checked(rows, MARK_WIDTH)
        ]
        self._marks.extend(marks)
        return marks

    @property
    def count(self) -> int:
        """Outcomes that the figures rest on."""
        return len(self._marks)

    @property
    def mae_tokens(self) -> float:
        """Mean absolute error of the median in tokens, cut answers left out; 0 without outcomes."""
        errors = [abs(one.tokens - one.predicted.p50) for one in tuple(self._marks) if one.is_whole]
        return sum(errors) / max(1, len(errors))

    @property
    def coverage_p90(self) -> float | None:
        """Share of answers at most as long as their p90; None where nothing is known."""
        judged = self._judged()
        return sum(one.is_covered for one in judged) / len(judged) if judged else None

    @property
    def reserve_ratio(self) -> float | None:
        """Sum of the 90 % bounds over the sum of the lengths of the same answers; None where nothing is known."""
        judged = self._judged()
        tokens = sum(one.tokens for one in judged)
        return sum(one.predicted.p90 for one in judged) / tokens if tokens else None

    def _judged(self) -> list[Mark]:
        return [one for one in tuple(self._marks) if one.is_judged]


class Row:
    """The figures of one key with its alarm; times in microseconds since 1970."""

    def __init__(self, alarm: DriftAlarm, now_us: int) -> None:
        self.figures = Figures()
        self.alarm = alarm
        self.since_us = now_us
        self.drift_since_us = 0

    def add(self, predicted: LengthQuantiles, outcome: LengthOutcome, now_us: int) -> None:
        """Takes one prediction with its outcome."""
        mark = self.figures.add(predicted, outcome)
        if mark.is_judged:
            was_ringing = self.alarm.is_ringing
            self.alarm.add(not mark.is_covered)
            if self.alarm.is_ringing != was_ringing:
                self.drift_since_us = now_us if self.alarm.is_ringing else 0

    def saved(self) -> Floats:
        """Since when, then the marks."""
        times = (self.since_us, self.drift_since_us, self.alarm.is_ringing, 0, 0, 0, 0)
        return np.concatenate((table([times], MARK_WIDTH), self.figures.saved()))

    def restore(self, rows: Floats) -> None:
        """Takes what was saved. Raises ValueError for what was not."""
        times, *_ = checked(rows, MARK_WIDTH)
        for mark in self.figures.restore(rows[1:]):
            if mark.is_judged:
                self.alarm.add(not mark.is_covered)
        self.since_us, self.drift_since_us, self.alarm.is_ringing = int(times[0]), int(times[1]), bool(times[2])


class Accuracy:
    """Figures of every key that lately had an outcome, `KEYS_MAX` at most, and of all promises together (`overall`)."""

    def __init__(self, care: Care) -> None:
        self.overall = Figures()
        self._care = care
        self._rows: OrderedDict[RowKey, Row] = OrderedDict()
        self._ringing: set[RowKey] = set()

    def add(self, predictor: str, predicted: LengthQuantiles, outcome: LengthOutcome, now_us: int) -> None:
        """Takes what a predictor promised or would have promised, and what came."""
        key = (predictor, outcome.query.model, outcome.query.application)
        row = self._row(key, now_us)
        row.add(predicted, outcome, now_us)
        (self._ringing.add if row.alarm.is_ringing else self._ringing.discard)(key)

    def has_alarm(self, predictor: str) -> bool:
        """Whether the predictor's bounds fail for anybody."""
        return any(key[0] == predictor for key in self._ringing)

    def is_ringing(self, predictor: str, query: InferenceRequest) -> bool:
        """Whether the predictor's bounds fail for queries like this one."""
        return (predictor, query.model, query.application) in self._ringing

    def forget(self, predictor: str) -> None:
        """Drops the figures of a predictor, such as one that starts anew."""
        for key in [key for key in self._rows if key[0] == predictor]:
            self._drop(key)

    def saved(self) -> Iterator[tuple[RowKey, Floats]]:
        """The figures, a key at a time."""
        for key, row in list(self._rows.items())[-KEYS_KEPT_MAX:]:
            yield key, row.saved()

    def restore(self, key: RowKey, rows: Floats) -> None:
        """Takes what was saved of a key. Raises ValueError for what was not."""
        row = Row(self._alarm(), 0)
        row.restore(rows)
        self._rows[key] = row
        (self._ringing.add if row.alarm.is_ringing else self._ringing.discard)(key)

    def rows(self) -> list[PredictorAccuracy]:
        """All figures, by predictor, model and application."""
        return [_told(key, row) for key, row in sorted(list(self._rows.items()), key=lambda item: item[0])]

    def _row(self, key: RowKey, now_us: int) -> Row:
        if key not in self._rows:
            self._rows[key] = Row(self._alarm(), now_us)
            if len(self._rows) > KEYS_MAX:
                self._drop(next(iter(self._rows)))
        self._rows.move_to_end(key)
        return self._rows[key]

    def _alarm(self) -> DriftAlarm:
        return DriftAlarm(self._care.drift_window_count, self._care.alpha, self._care.drift_chance)

    def _drop(self, key: RowKey) -> None:
        del self._rows[key]
        self._ringing.discard(key)


def _told(key: RowKey, row: Row) -> PredictorAccuracy:
    figures = row.figures
    return PredictorAccuracy(
        *key,
        outcome_count=figures.count,
        mae_tokens=figures.mae_tokens,
        coverage_p90=figures.coverage_p90,
        reserve_ratio=figures.reserve_ratio,
        is_drifting=row.alarm.is_ringing,
        since_us=row.since_us,
        drift_since_us=row.drift_since_us,
    )
