"""Batches of queries and of outcomes on their way, done in steps that never hold an event loop for long."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias, TypeVar

from forebay.core.prediction import LengthOutcome
from forebay.core.values import InferenceRequest, LengthPrediction
from forebay.predictor.lengths.bounds import Bounds, Loaded
from forebay.predictor.policy.length import LengthPredictor, PredictionFailed

SLICE_COUNT = 16
"""Queries answered in one step: few enough that a step ends within about 2 ms."""
OUTCOME_SLICE_COUNT = 8
"""Outcomes learnt from in one step: few enough that it ends well within a millisecond, since queries may be waiting."""
SLOW_SLICE_COUNT = 4
"""Outcomes handled in one step where a slow predictor is loaded: queries to it may be waiting."""

T = TypeVar("T")
Predictor: TypeAlias = Loaded[LengthPredictor]


class Work:
    """Something that is done step by step; `step` until it says done.

    `uses` is the slow predictor that the next step asks, None where it asks fast ones alone. Whoever steps may do a
    step that uses one beside everything else, since it touches nothing but this predictor: only never two of the same.
    """

    def __init__(self, stages: Iterator[Predictor | None]) -> None:
        self.uses: Predictor | None = None
        self._stages = stages

    def step(self) -> bool:
        """Does the next piece; true when all is done."""
        try:
            self.uses = next(self._stages)
        except StopIteration:
            self.uses = None
            return True
        return False


class Answering(Work):
    """One batch on its way. The predictor that began it ends it, unless it fails.

    Queries for which its bounds do not hold now are answered by the fallback; each prediction says by whom.
    """

    def __init__(
        self,
        queries: Sequence[InferenceRequest],
        by: Predictor,
        fallback: Predictor,
        bounds: Bounds,
        on_failure: Callable[[], None],
    ) -> None:
        super().__init__(self._answer_all())
        self.queries = queries
        self.by = by
        self.predictions: list[LengthPrediction] = []
        self._fallback = fallback
        self._bounds = bounds
        self._on_failure = on_failure

    def _answer_all(self) -> Iterator[Predictor | None]:
        while True:
            try:
                yield from self._answer_by()
                return
            except PredictionFailed:
                if self.by is self._fallback:
                    raise
                # Scores of two predictors do not compare, so the whole batch starts anew.
                self._on_failure()
                self.by, self.predictions = self._fallback, []
            yield None

    def _answer_by(self) -> Iterator[Predictor | None]:
        for chunk in slices(self.queries, SLICE_COUNT):
            if self.predictions:
                yield None
            broken = self._bounds.broken(self.by, chunk) if self.by is not self._fallback else frozenset()
            if self.by.is_slow:
                yield self.by
            found = self._bounds.promised(self.by, _without(chunk, broken))
            if broken:
                if self.by.is_slow:
                    yield None
                others = self._bounds.promised(self._fallback, [chunk[index] for index in sorted(broken)])
                found = _merged(found, others, broken)
            self.predictions += found


class Learning(Work):
    """One batch of outcomes on its way to every loaded predictor."""

    def __init__(self, outcomes: Sequence[LengthOutcome], stages: Iterator[Predictor | None]) -> None:
        super().__init__(stages)
        self.outcomes = outcomes


def slices(values: Sequence[T], count: int) -> list[Sequence[T]]:
    """The values by `count`; one empty slice where there are none."""
    return [values[start : start + count] for start in range(0, len(values) or 1, count)]


def _without(values: Sequence[T], places: frozenset[int]) -> Sequence[T]:
    return [value for index, value in enumerate(values) if index not in places] if places else values


def _merged(found: Sequence[T], others: Sequence[T], places: frozenset[int]) -> list[T]:
    """Both in one list: `others` at these places, `found` at the rest."""
    left, right = iter(found), iter(others)
    return [next(right if index in places else left) for index in range(len(found) + len(others))]
