"""How well the lengths that the scheduler acts on have held: its own view of the predictor, by model."""

from bisect import bisect_left, insort
from collections import deque
from math import ceil

from forebay.core.prediction import remaining_tokens
from forebay.core.values import LengthQuantiles
from forebay.scheduler.policy.router.base import UNCALIBRATED, Calibrated

WINDOW = 500
"""The newest answers that count (MAPS, section 2 of the summary on length prediction)."""
LEVEL = 0.9
"""How often an answer must stay below its median and the shift (MAPS: alpha is 0.1)."""


class Outcomes:
    """The newest answers of one model beside what was predicted of them, counted when somebody asks."""

    def __init__(self) -> None:
        self._new: deque[tuple[LengthQuantiles, int]] = deque(maxlen=WINDOW)
        self._newest: deque[tuple[int, bool, float, int]] = deque()
        self._excess: list[int] = []
        self._covered = self._generated = 0
        self._expected = 0.0

    def add(self, predicted: LengthQuantiles, generated: int) -> None:
        """Takes one more."""
        self._new.append((predicted, generated))

    @property
    def outcome_count(self) -> int:
        """Answers that count."""
        self._catch_up()
        return len(self._newest)

    @property
    def shift_tokens(self) -> int | None:
        """How much longer than their median nine of ten answers were at most; None where too few are known."""
        self._catch_up()
        place = ceil(LEVEL * (len(self._newest) + 1))
        return self._excess[place - 1] if place <= len(self._newest) else None

    @property
    def coverage_p90(self) -> float:
        """The share of answers that were at most as long as their p90."""
        self._catch_up()
        return self._covered / len(self._newest)

    @property
    def overstatement(self) -> float:
        """What was expected of all answers over what they were."""
        self._catch_up()
        return self._expected / max(1, self._generated)

    def _catch_up(self) -> None:
        while self._new:
            self._take(*self._new.popleft())

    def _take(self, predicted: LengthQuantiles, generated: int) -> None:
        """Counts one more, and forgets the oldest of too many."""
        values = predicted.p10, predicted.p50, predicted.p90, predicted.p97
        one = max(0, generated - predicted.p50), generated <= predicted.p90, remaining_tokens(values, 0), generated
        self._newest.append(one)
        insort(self._excess, one[0])
        self._count(one, 1)
        if len(self._newest) > WINDOW:
            oldest = self._newest.popleft()
            del self._excess[bisect_left(self._excess, oldest[0])]
            self._count(oldest, -1)

    def _count(self, one: tuple[int, bool, float, int], sign: int) -> None:
        _, is_covered, expected, generated = one
        self._covered += sign * is_covered
        self._expected += sign * expected
        self._generated += sign * generated


class Calibrations:
    """The outcomes of every model."""

    def __init__(self) -> None:
        self._by_model: dict[str, Outcomes] = {}

    def add(self, model: str, predicted: LengthQuantiles, generated: int) -> None:
        """Learns how long an answer became that its model ended by itself."""
        found = self._by_model.get(model)
        if found is None:
            found = self._by_model[model] = Outcomes()
        found.add(predicted, generated)

    def of(self, model: str) -> Calibrated:
        """What is known of a model by now."""
        return self._by_model.get(model, UNCALIBRATED)
