"""How well the lengths that the scheduler acts on have held: its own view of the predictor, by model."""

from bisect import bisect_left, insort
from collections import deque
from math import ceil

from forebay.core.prediction import remaining_tokens
from forebay.core.values import LengthQuantiles
from forebay.scheduler.policy.router.base import UNCALIBRATED, Calibration

WINDOW = 500
"""The newest answers that count (MAPS, section 2 of the summary on length prediction)."""
LEVEL = 0.9
"""How often an answer must stay below its median and the shift (MAPS: alpha is 0.1)."""


class Outcomes:
    """The newest answers of one model beside what was predicted of them."""

    def __init__(self) -> None:
        self._newest: deque[tuple[int, bool, float, int]] = deque()
        self._excess: list[int] = []
        self._covered = self._generated = 0
        self._expected = 0.0
        self.seen = UNCALIBRATED

    def add(self, predicted: LengthQuantiles, generated: int) -> None:
        """Takes one more, and forgets the oldest of too many."""
        values = predicted.p10, predicted.p50, predicted.p90, predicted.p97
        one = max(0, generated - predicted.p50), generated <= predicted.p90, remaining_tokens(values, 0), generated
        self._newest.append(one)
        insort(self._excess, one[0])
        self._count(one, 1)
        if len(self._newest) > WINDOW:
            oldest = self._newest.popleft()
            del self._excess[bisect_left(self._excess, oldest[0])]
            self._count(oldest, -1)
        self.seen = self._judged()

    def _count(self, one: tuple[int, bool, float, int], sign: int) -> None:
        _, is_covered, expected, generated = one
        self._covered += sign * is_covered
        self._expected += sign * expected
        self._generated += sign * generated

    def _judged(self) -> Calibration:
        count = len(self._newest)
        place = ceil(LEVEL * (count + 1))
        shift = self._excess[place - 1] if place <= count else None
        return Calibration(count, shift, self._covered / count, self._expected / max(1, self._generated))


class Calibrations:
    """The outcomes of every model."""

    def __init__(self) -> None:
        self._by_model: dict[str, Outcomes] = {}

    def add(self, model: str, predicted: LengthQuantiles, generated: int) -> None:
        """Learns how long an answer became that its model ended by itself."""
        self._by_model.setdefault(model, Outcomes()).add(predicted, generated)

    def of(self, model: str) -> Calibration:
        """What is known of a model by now."""
        found = self._by_model.get(model)
        return found.seen if found is not None else UNCALIBRATED
