"""What is done again and again."""

from dataclasses import dataclass

from forebay.core.units import US_PER_S
from forebay.simulator.shell.agenda import Call
from forebay.simulator.shell.context import Context


@dataclass(slots=True)
class _Beat:
    call: Call
    interval_us: int
    due_us: int = 0


class Rhythm:
    """Calls at fixed intervals; those that are due at one instant come in the order in which they were entered."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._beats: list[_Beat] = []

    def every_s(self, interval_s: float, call: Call, at_once: bool = True) -> None:
        """Calls after every interval from the beginning on, and `at_once` says whether also when the rhythm begins."""
        interval_us = max(1, round(interval_s * US_PER_S))
        self._beats.append(_Beat(call, interval_us, 0 if at_once else interval_us))

    def begin(self) -> None:
        """Begins now."""
        for beat in self._beats:
            beat.due_us += self._context.now_us
        self._turn()

    def _turn(self) -> None:
        now_us = self._context.now_us
        for beat in self._beats:
            if beat.due_us <= now_us:
                beat.due_us += beat.interval_us
                beat.call()
        self._context.at_us(min(beat.due_us for beat in self._beats), self._turn)


def on_grid_us(origin_us: int, interval_us: int, now_us: int) -> int:
    """The first time at or after `now_us` that lies a whole number of intervals after the origin."""
    return origin_us + -(-(now_us - origin_us) // interval_us) * interval_us
