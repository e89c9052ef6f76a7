"""The state that forecasts need: what was learned of which series, and when it is time to learn again.

asking = engine.on_asked(...)           # takes what is known; no work yet
answer = asking.answer()                # the work: pure, so it may run in a thread
actions = engine.on_answered(asking, answer, now_us)
... whoever carries out a `Refit` calls on_refitted or on_refit_failed in the end, once.
"""

from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np

from forebay.core.prediction import QUANTILE_LEVELS, WorkloadForecast
from forebay.core.units import US_PER_S
from forebay.core.values import WorkloadPoint
from forebay.predictor.intervals import (
    LEAD_MAX,
    MEDIAN,
    ORIGIN_COUNT,
    Spread,
    errors_of,
    forecast_of,
    lead_grid,
    spread_of,
)
from forebay.predictor.policy.forecaster import Fitted, Forecaster, ForecastFailed, LastValue, LeastError, Seasonal
from forebay.predictor.series import Floats, Ints, Series, align
from forebay.predictor.walkforward import Chosen, Stopwatch

AT_ONCE = (LastValue, LeastError, Seasonal)
"""Forecasters that fit within a few milliseconds: they are fitted anew for every answer, so they never need a refit."""
FIT_COUNT_MIN = 16
"""Windows of history from which on a refit is worth its time."""
SHIFT_COUNT = 3
"""So many windows in a row far on one side of their forecasts are a level shift."""
SHIFT_FACTOR = 2.0
"""Far is so many times the distance of the outermost quantile."""
SHIFT_SHARE = 10
"""After a level shift a refit need not wait longer than this part of the usual time."""
LOW_TO_HIGH = 1.5
"""How much farther from the median the 97 % quantile is than the 10 % one, were errors normal."""
ROOT_ERROR_MIN = 1.0
"""In roots: Poisson arrivals are twice as far off now and then."""
COUNT_MAX = 1e15
"""No window has more requests or tokens."""
GROWTH_MAX = 1_000.0
"""A forecast of more than so many times what a window ever had is nonsense."""
BACKOFF_MAX = 8
"""After failures the time to the next refit doubles up to so many times."""
LATE_US = 3_600 * US_PER_S
LATE_COUNT = 6
"""Of the windows that are known so much, and so many, are read again: requests that ended late count there."""
LATE_MAX = 2
"""What was learned is given up once it has been too slow so many times in a row."""
DAY_US = 86_400 * US_PER_S
LEAD_COUNT_ASKED = 1_440
"""The longest horizon of the contract in windows."""
MEMORY_FACTOR = 2
"""A history this many times as long as what can still be read is forgotten, with what was learned of it."""


@dataclass(frozen=True, slots=True)
class SeriesName:
    """One series of workload; an empty region and class 0 (the contract's UNSPECIFIED) mean all together."""

    model: str
    region: str
    slo_class: int
    window_us: int


@dataclass(frozen=True, slots=True)
class Told:
    """A history as it was read: so many points, of which so many cannot be and are taken for gaps.

    With `since_us` it is only what came lately of a history that begins there; else it is all of it.
    """

    series: Series
    count: int
    masked_count: int
    since_us: int | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """How the engine keeps house. `refit_s` is the least time between two refits of one series, but for level shifts.

    `series_max` series are remembered, those asked for last. History that was read `stale_s` ago still answers.
    """

    refit_s: float = 3_600.0
    series_max: int = 256
    stale_s: float = 300.0


@dataclass(frozen=True, slots=True)
class Who:
    """The forecaster that answers now, with its label, and the one that answers where nothing is fitted."""

    label: str
    policy: Forecaster
    fallback_label: str
    fallback: Forecaster


@dataclass(frozen=True, slots=True)
class Learned:
    """What a refit brings: a plain value that can go to another process and back. `label` says who was chosen."""

    fitted: Fitted
    spread: Spread
    label: str = ""


@dataclass(frozen=True, slots=True)
class Refit:
    """Action: learn this series, somewhere where it holds nobody up, and tell what came of it."""

    name: SeriesName
    label: str
    policy: Forecaster
    series: Series


@dataclass(frozen=True, slots=True)
class Answer:
    """A forecast, who made it, and what was found on the way; `failure` says why the fitted one did not answer, which
    `is_late` where it only took too long."""

    forecasts: tuple[WorkloadForecast, ...]
    label: str
    is_shifted: bool = False
    failure: str = ""
    is_late: bool = False


@dataclass(frozen=True, slots=True)
class Asking:
    """One question on its way."""

    name: SeriesName
    series: Series
    who: Who
    first_start_us: int
    horizon_count: int
    learned: Learned | None
    fitted_count: int
    history_count: int
    told_from: int = 0
    """The row from which on the history was read now; those before are remembered."""

    def answer(self) -> Answer:
        """By what was learned; by the fallback where nothing was, or where it fails or makes no sense."""
        if not len(self.series):
            nothing = np.zeros((self.horizon_count, 3, len(QUANTILE_LEVELS)))
            return Answer(self._forecasts(nothing), self.who.fallback_label if self._waits else self.who.label)
        if self.learned is None:
            return self._by_fallback("")
        try:
            curves = curves_of(self.learned, self.series, self._leads)
            _refuse_nonsense(curves, self.series)
            is_shifted = _is_shifted(self.learned, self.series, self.fitted_count)
        except Exception as error:
            # Whatever a forecaster does wrong counts as its failure and as nobody else's.
            return self._by_fallback(f"{type(error).__name__}: {error}")
        return Answer(self._forecasts(curves), _label(self.who.label, self.learned), is_shifted)

    def at_last(self, failure: str, *, is_late: bool = False) -> Answer:
        """The last value without any work, for those who cannot wait."""
        points = np.repeat(self.series.last[None, :], self.horizon_count, axis=0)
        curves = np.repeat(points[:, :, None], len(QUANTILE_LEVELS), axis=2)
        return Answer(self._forecasts(curves), "last_value", failure=failure, is_late=is_late)

    @property
    def _waits(self) -> bool:
        return not isinstance(self.who.policy, AT_ONCE)

    @property
    def _leads(self) -> Ints:
        starts = self.first_start_us + np.arange(self.horizon_count) * self.series.window_us
        leads = (starts - self.series.start_us) // self.series.window_us - len(self.series) + 1
        return np.clip(leads, 1, LEAD_MAX).astype(np.int64)

    def _by_fallback(self, failure: str) -> Answer:
        leads, policy = self._leads, self.who.fallback if self._waits else self.who.policy
        learned = learn(policy, self.series, int(leads[-1]))
        label = self.who.fallback_label if self._waits else self.who.label
        return Answer(self._forecasts(curves_of(learned, self.series, leads)), label, failure=failure)

    def _forecasts(self, curves: Floats) -> tuple[WorkloadForecast, ...]:
        starts = self.first_start_us + np.arange(self.horizon_count) * self.name.window_us
        return tuple(forecast_of(int(start), curve) for start, curve in zip(starts, curves, strict=True))


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
            fresh = _from_traffic(_grown(self.series, told.series), told.since_us)
            self.read_count = min(self.read_count, told.count) if not len(fresh) else max(self.read_count, len(fresh))
        grown = _grown(self.series, fresh) if len(fresh) and (self.learned or self.asked) else fresh
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
        return Counter(_label(state.by, state.learned) for state in self._states.values() if state.learned)

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
        state.asked = Refit(asking.name, asking.who.label, asking.who.policy, _since(asking.series, asking.told_from))
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
        state.series = _grown(refit.series, state.series)
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


def told_of(points: Sequence[WorkloadPoint], window_us: int, since_us: int | None = None) -> Told:
    """The history in windows; points that cannot be (negative, not finite, absurd, off the grid) are gaps.

    A whole history begins with the first traffic; the end of one that begins at `since_us` where its points do.
    """
    sound = [point for point in points if _is_sound(point, window_us)]
    series = align(sound, window_us) if since_us is None else _placed(sound, window_us)
    return Told(series, len(points), len(points) - len(sound), since_us)


def _from_traffic(series: Series, since_us: int) -> Series:
    """What came at that time or later, from the first window with traffic on."""
    first = max(0, (since_us - series.start_us) // series.window_us)
    busy = np.flatnonzero(series.values[first:, 0] > 0)
    return _since(series, first + int(busy[0])) if len(busy) else Series(series.values[:0], 0, series.window_us)


def _placed(points: Sequence[WorkloadPoint], window_us: int) -> Series:
    if not points:
        return Series(np.empty((0, 3)), 0, window_us)
    first, last = (choose(point.start_us for point in points) for choose in (min, max))
    values = np.full(((last - first) // window_us + 1, 3), np.nan)
    for point in points:
        values[(point.start_us - first) // window_us] = point.request_count, point.prompt_tokens, point.response_tokens
    return Series(values, first, window_us)


def lead_max_of(window_us: int) -> int:
    """The farthest lead at which a refit measures errors: a day ahead, and two windows for what has begun."""
    return min(DAY_US // window_us, LEAD_COUNT_ASKED) + 2


@runtime_checkable
class Choosing(Protocol):
    """A forecaster that chooses among others and measures them on the way."""

    def choose(self, series: Series, lead_max: int, stopwatch: Stopwatch | None) -> Chosen:
        """Who answers at leads up to `lead_max`. Raises ForecastFailed."""
        ...


def learn(policy: Forecaster, series: Series, lead_max: int, stopwatch: Stopwatch | None = None) -> Learned:
    """Fits a forecaster, with the spread that it has measured itself, or else that of its errors on the later half.

    Raises ForecastFailed where it cannot, whatever went wrong.
    """
    try:
        if isinstance(policy, Choosing):
            chosen = policy.choose(series, lead_max, stopwatch)
            return Learned(chosen, chosen.spread, chosen.label)
        fitted = policy.fit(series)
        grid = lead_grid(lead_max)
        origins = np.unique(np.linspace(max(1, len(series) // 2), len(series) - 1, ORIGIN_COUNT).astype(np.int64))
        return Learned(fitted, spread_of(grid, errors_of(fitted, series, origins.tolist(), grid), series))
    except ForecastFailed:
        raise
    except Exception as error:
        raise ForecastFailed(f"{type(error).__name__}: {error}") from error


def _label(by: str, learned: Learned | None) -> str:
    return f"{by}:{learned.label}" if learned and learned.label else by


def curves_of(learned: Learned, series: Series, leads: Ints) -> Floats:
    """Quantiles [lead, quantity, level] of the windows so many leads after the series."""
    points = learned.fitted.points(series, int(leads[-1]))[leads - 1]
    return learned.spread.around(points, leads)


def _refuse_nonsense(curves: Floats, series: Series) -> None:
    limit = GROWTH_MAX * (1.0 + np.nanmax(series.values, axis=0))
    if not (np.isfinite(curves).all() and (curves >= 0).all() and (curves[:, :, MEDIAN] <= limit).all()):
        raise ForecastFailed("the forecast is no number, negative, or beyond all that ever was")


def _is_shifted(learned: Learned, series: Series, fitted_count: int) -> bool:
    """Whether the last windows, none of which the fit has seen, are far on one side of what was forecast for them."""
    before = len(series) - SHIFT_COUNT
    if before < fitted_count:
        return False
    points = learned.fitted.points(series.until(before), SHIFT_COUNT)
    leads = np.arange(1, SHIFT_COUNT + 1)
    curves = np.sqrt(learned.spread.around(points, leads)[:, 0, :])
    errors = np.sqrt(series.values[before:, 0]) - curves[:, MEDIAN]
    above = np.maximum(ROOT_ERROR_MIN, curves[:, -1] - curves[:, MEDIAN])
    below = np.maximum(ROOT_ERROR_MIN, LOW_TO_HIGH * (curves[:, MEDIAN] - curves[:, 0]))
    return bool((errors > SHIFT_FACTOR * above).all() or (-errors > SHIFT_FACTOR * below).all())


def _is_sound(point: WorkloadPoint, window_us: int) -> bool:
    amounts = (point.request_count, point.prompt_tokens, point.response_tokens)
    return point.start_us >= 0 and point.start_us % window_us == 0 and all(0 <= one < COUNT_MAX for one in amounts)


def _since(series: Series, row: int) -> Series:
    return Series(series.values[row:], series.start_us + row * series.window_us, series.window_us)


def _grown(kept: Series, fresh: Series) -> Series:
    """What was kept, from its own start, with what came since; where both tell of a window, the fresh one counts."""
    if not len(fresh) or not len(kept):
        return fresh if len(fresh) else kept
    shift = (fresh.start_us - kept.start_us) // kept.window_us
    if shift < 0:
        fresh, shift = _since(fresh, -shift), 0
    values = np.full((max(len(kept), shift + len(fresh)), 3), np.nan)
    values[: len(kept)] = kept.values
    known = ~np.isnan(fresh.values[:, 0])
    values[shift : shift + len(fresh)][known] = fresh.values[known]
    return replace(kept, values=values)
