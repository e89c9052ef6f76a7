"""The state that forecasts need: what was learned of which series, and when it is time to learn again.

engine.on_history(name, told, now_us)   # what metrics tells, from `read_from` on
asking = engine.on_asked(...)           # takes what is known; no work yet
answer = asking.answer()                # the work: pure, so it may run in a thread
actions = engine.on_answered(asking, answer, now_us)
... whoever carries out a `Refit` calls on_refitted or on_refit_failed in the end, once.
"""

from collections import Counter, OrderedDict
from dataclasses import dataclass

import numpy as np

from forebay.core.units import US_PER_S
from forebay.predictor.policy.forecaster import Forecaster
from forebay.predictor.traffic.asking import AT_ONCE, Answer, Asking, Who, label_of
from forebay.predictor.traffic.history import SeriesName, Told, from_traffic, grown_by, since
from forebay.predictor.traffic.learned import Learned
from forebay.predictor.traffic.series import Series

FIT_COUNT_MIN = 16
"""Windows of history from which on a refit is worth its time."""
SHIFT_SHARE = 10
"""After a level shift a refit need not wait longer than this part of the usual time."""
BACKOFF_MAX = 8
"""After failures the time to the next refit doubles up to so many times."""
LATE_US = 3_600 * US_PER_S
LATE_COUNT = 6
"""Of the windows that are known so much, and so many, are read again: requests that ended late count there."""
LATE_MAX = 2
"""What was learned is given up once it has been too slow so many times in a row."""
MEMORY_FACTOR = 2
"""A history this many times as long as what can still be read is forgotten, with what was learned of it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How the engine keeps house. `refit_s` is the least time between two refits of one series, but for level shifts.

    `series_max` series are remembered, those asked for last. History that was read `stale_s` ago still answers.
    """

    refit_s: float = 3_600.0
    series_max: int = 256
    stale_s: float = 300.0


@dataclass(frozen=True, slots=True)
class Refit:
    """Action: learn this series, somewhere where it holds nobody up, and tell what came of it."""

    name: SeriesName
    label: str
    policy: Forecaster
    series: Series


@dataclass(slots=True)
class _State:
    """What is known of one series; `series` keeps the start of what was fitted, since some count from there."""

    series: Series
    read_at_us: int
    whole_at_us: int = 0
    read_count: int = 0
    told_from: int = 0
    by: str = ""
    learned: Learned | None = None
    fitted_count: int = 0
    asked: Refit | None = None
    due_us: int = 0
    failure_count: int = 0
    late_count: int = 0

    def read(self, told: Told, now_us: int) -> None:
        """The history was read; what nobody tells any more stays in memory for a while, since the fit counts it."""
        self.read_at_us = now_us
        if told.since_us is None:
            self.whole_at_us, self.read_count, fresh = now_us, told.count, told.series
        else:
            fresh = from_traffic(grown_by(self.series, told.series), told.since_us)
            self.read_count = min(self.read_count, told.count) if not len(fresh) else max(self.read_count, len(fresh))
        grown = grown_by(self.series, fresh) if len(fresh) and (self.learned or self.asked) else fresh
        if len(grown) > MEMORY_FACTOR * max(len(fresh), FIT_COUNT_MIN):
            self.learned, grown = None, fresh
        self.series, self.told_from = grown, max(0, (fresh.start_us - grown.start_us) // fresh.window_us)


@dataclass(slots=True)
class Counts:
    """What happened since the start."""

    refits: int = 0
    refit_failures: int = 0
    answer_failures: int = 0
    shifts: int = 0
    masked: int = 0


class ForecastingEngine:
    """Remembers so many series; answers each at once and says when one is to be fitted anew. Time never goes back."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._states: OrderedDict[SeriesName, _State] = OrderedDict()
        self._refit_us = round(settings.refit_s * US_PER_S)
        self.counts = Counts()

    @property
    def series_count(self) -> int:
        """Series that are remembered."""
        return len(self._states)

    def chosen(self) -> Counter[str]:
        """How many series each of those who were fitted answers for, by label."""
        return Counter(label_of(state.by, state.learned) for state in self._states.values() if state.learned)

    def read_from(self, name: SeriesName, now_us: int) -> int | None:
        """Where to read a history from, so that nothing is missed that counts late; None: from its start.

        Now and then it is read from its start, since requests count where they arrived once they have ended.
        """
        state = self._states.get(name)
        if state is None or not len(state.series) or now_us - state.whole_at_us >= self._refit_us:
            return None
        end_us = state.series.start_us + len(state.series) * name.window_us
        return max(
            state.series.start_us, end_us - max(LATE_US, LATE_COUNT * name.window_us) // name.window_us * name.window_us
        )

    def on_history(self, name: SeriesName, told: Told, now_us: int) -> None:
        """The history of a series was read."""
        self.counts.masked += told.masked_count
        state = self._states.get(name)
        if state is None:
            state = self._states[name] = _State(Series(np.empty((0, 3)), 0, name.window_us), now_us)
        state.read(told, now_us)
        self._keep(name)

    def on_asked(
        self, name: SeriesName, who: Who, first_start_us: int, horizon_count: int, now_us: int
    ) -> Asking | None:
        """Somebody asks; None where no history is known, or only one that is too old."""
        state = self._states.get(name)
        if state is None or now_us - state.read_at_us > self._settings.stale_s * US_PER_S:
            return None
        self._keep(name)
        if state.by != who.label:
            # Another forecaster answers now: what this one learned is not its.
            state.by, state.learned, state.asked, state.due_us = who.label, None, None, 0
        return Asking(
            name,
            state.series,
            who,
            first_start_us,
            horizon_count,
            state.learned,
            state.fitted_count,
            state.read_count,
            state.told_from,
        )

    def on_answered(self, asking: Asking, answer: Answer, now_us: int) -> list[Refit]:
        """The answer is there: perhaps it is time to learn again."""
        state = self._states.get(asking.name)
        if answer.failure:
            self.counts.answer_failures += 1
        if state is None:
            return []
        state.late_count = state.late_count + 1 if answer.is_late else 0
        if answer.failure and state.learned is asking.learned and (not answer.is_late or state.late_count >= LATE_MAX):
            state.learned = None
        if state.asked is not None or len(asking.series) < FIT_COUNT_MIN or isinstance(asking.who.policy, AT_ONCE):
            return []
        is_shifted = answer.is_shifted and not state.failure_count
        earlier_us = self._refit_us - self._refit_us // SHIFT_SHARE if is_shifted else 0
        if now_us < state.due_us - earlier_us:
            return []
        self.counts.shifts += is_shifted
        state.asked = Refit(asking.name, asking.who.label, asking.who.policy, since(asking.series, asking.told_from))
        state.due_us = now_us + self._refit_us
        return [state.asked]

    def on_refitted(self, refit: Refit, learned: Learned, now_us: int) -> None:
        """A refit has ended well."""
        self.counts.refits += 1
        state = self._states.get(refit.name)
        if state is None or state.asked is not refit:
            return
        state.asked, state.failure_count = None, 0
        state.by, state.learned, state.fitted_count = refit.label, learned, len(refit.series)
        state.series = grown_by(refit.series, state.series)
        state.told_from = 0

    def on_refit_failed(self, refit: Refit, now_us: int) -> None:
        """A refit has come to nothing: what was learned before goes on, and the next try waits ever longer."""
        self.counts.refit_failures += 1
        state = self._states.get(refit.name)
        if state is not None and state.asked is refit:
            state.asked = None
            state.failure_count += 1
            state.due_us = now_us + self._refit_us * min(BACKOFF_MAX, 2 ** (state.failure_count - 1))

    def _keep(self, name: SeriesName) -> None:
        self._states.move_to_end(name)
        while len(self._states) > self._settings.series_max:
            self._states.popitem(last=False)
