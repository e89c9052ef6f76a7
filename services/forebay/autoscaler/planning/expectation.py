"""What one model is expected to be asked for, by region; what of it can wait; and how well that was forecast."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from math import ceil, sqrt
from typing import TYPE_CHECKING

from forebay.autoscaler.planning.outlook import Traffic, steady, together
from forebay.core.pressure import WaitingGroup
from forebay.core.units import US_PER_S
from forebay.core.values import ModelLoad, SloClass

if TYPE_CHECKING:
    from forebay.autoscaler.policy.autoscaler.base import Arrived, DemandView, FleetView, ForecastWindow

ANCHOR_MAX = 4.0
"""A forecast is not put right by more than this factor."""
Z_ANCHOR = 2.0
"""Standard deviations of chance by which what arrives must be off its forecast to put it right."""
CAUTION = 10
ANSWER_COUNT_MIN = 20
"""Answers of a minute that tell how long they are."""
QUICK_US = 10 * US_PER_S
"""The end of what arrived lately, which shows a burst first."""
Z_QUICK = 2.0
"""Standard deviations of a Poisson count by which a burst must stand out."""
Z_WORK = 1.64
"""Standard deviations of room for the lengths of what waits: 95 of 100 backlogs are at most as long."""


@dataclass(frozen=True, slots=True)
class Due:
    """Work that can wait until `due_us`: prompt and response tokens."""

    due_us: int
    prompt_tokens: float
    response_tokens: float


@dataclass(frozen=True, slots=True)
class Expectation:
    """One model's demands and waiting work, as of `now_us`; forecast windows are `window_us` long."""

    demands: "tuple[DemandView, ...]"
    waiting: tuple[WaitingGroup, ...]
    window_us: int
    now_us: int

    @classmethod
    def of(cls, view: "FleetView", model: str, window_us: int) -> "Expectation":
        """That of one model."""
        demands = tuple(one for one in view.demands if one.model == model)
        waiting = tuple(one for one in view.waiting if one.model == model)
        return cls(demands, waiting, window_us, view.now_us)

    @property
    def regions(self) -> tuple[str, ...]:
        """Where anything comes from."""
        return tuple(sorted({one.region for one in self.demands} | {one.region for one in self.waiting}))

    @property
    def windows(self) -> tuple[int, ...]:
        """The starts of the windows that are forecast."""
        return tuple(sorted({window.start_us for one in self.demands for window in one.forecast}))

    def forecast(self, region: str, start_us: int) -> Traffic:
        """The traffic of one region (empty: of all) that does not wait, in the window that starts then."""
        return together(self._traffic(window) for one, window in self._at(start_us) if _is_now(one, region))

    def deferred(self, start_us: int) -> Traffic:
        """The traffic that can wait, of all regions, in the window that starts then."""
        at = self._at(start_us)
        return together(self._traffic(window) for one, window in at if one.slo_class is SloClass.DEFERRED)

    def observed(self, region: str, span_us: int, answer_share: float) -> Traffic:
        """What does not wait and arrived over the last `span_us`, with what is held, which is to be done within it.

        Answers are as long as predicted, times `answer_share`. Where more has arrived in the last `QUICK_US` than the
        rest of the span and chance explain, it counts from there.
        """
        rates = [_rising(one, span_us) for one in self.demands if _is_now(one, region)]
        held = [one for one in self.waiting if one.slo_class is not SloClass.DEFERRED and region in ("", one.region)]
        seconds = span_us / US_PER_S
        prompt = sum(one.prompt_tokens for one in rates) + sum(one.prompt_tokens for one in held) / seconds
        response = sum(one.response_tokens for one in rates) + sum(one.mean_tokens for one in held) / seconds
        return steady(prompt, answer_share * response)

    def predicted_mean(self, span_us: int) -> float:
        """How long answers to what arrived over the last `span_us` were predicted to be, on average; 0: not known."""
        rates = [one.rate(span_us) for one in self.demands]
        count = sum(one.request_count for one in rates)
        return sum(one.response_tokens for one in rates) / count if count else 0.0

    def request_count(self, span_us: int) -> float:
        """Requests that arrived over the last `span_us` and do not wait."""
        return sum(one.rate(span_us).request_count for one in self.demands if _is_now(one, "")) * span_us / US_PER_S

    def backlog(self, span_us: int) -> list[Due]:
        """What is held and can wait, the most urgent first; what has no deadline is due `span_us` after it came.

        All of it up to any deadline is taken to be as long as 95 % of such backlogs are at most.
        """

        def due_us(group: WaitingGroup) -> int:
            return group.due_us or group.oldest_us + span_us

        found, variance = [], 0.0
        for one in sorted((one for one in self.waiting if one.slo_class is SloClass.DEFERRED), key=due_us):
            room = Z_WORK * (sqrt(variance + one.variance) - sqrt(variance))
            variance += one.variance
            found.append(Due(due_us(one), one.prompt_tokens, one.mean_tokens + room))
        return found

    def coming(self, span_us: int) -> Mapping[int, Traffic]:
        """What will come and can wait, by window: each window's work is spread over the `span_us` that it has."""
        rates = [self.deferred(start_us) for start_us in self.windows]
        share = min(1.0, self.window_us / span_us)
        count = max(1, ceil(span_us / self.window_us))
        spread: dict[int, Traffic] = {}
        prompt = response = 0.0
        for place, start_us in enumerate(self.windows):
            old = rates[place - count] if place >= count else Traffic()
            prompt += share * (rates[place].prompt[1] - old.prompt[1])
            response += share * (rates[place].response[1] - old.response[1])
            spread[start_us] = steady(prompt, response)
        return spread

    def arrived(self, start_us: int, end_us: int, answer_share: float) -> float | None:
        """Prompt and response tokens that arrived between two times; None where that is not known."""
        found = [_between(one, start_us, end_us, answer_share) for one in self.demands]
        known = [one for one in found if one is not None]
        return sum(known) if known and len(known) == len(found) else None

    def _at(self, start_us: int) -> "Iterator[tuple[DemandView, ForecastWindow]]":
        for one in self.demands:
            yield from ((one, window) for window in one.forecast if window.start_us == start_us)

    def _traffic(self, window: "ForecastWindow") -> Traffic:
        seconds = self.window_us / US_PER_S
        p10, p50, p90, p97 = (value / seconds for value in window.prompt_tokens)
        low, middle, high, top = (value / seconds for value in window.response_tokens)
        return Traffic((p10, p50, p90, p97), (low, middle, high, top))


@dataclass(frozen=True, slots=True)
class Experience:
    """What was learnt of one model, as its memo keeps it.

    `miss_share` is how often the traffic of a window was above its forecast p90, lately: one in ten is what a
    forecast promises. `upper_tokens` is that p90 for the window that runs, from `start_us` on, and `median_rate`
    what of its median does not wait, in tokens a second; those of the next window are known before it begins.
    `answer_share` is how long answers are, as a part of what was predicted; `fullness` how many instances are full,
    as a part of those that the work would fill by the rates of an instance that is alone.
    """

    miss_share: float = 0.1
    start_us: int = -1
    upper_tokens: float = 0.0
    median_rate: float = 0.0
    next_start_us: int = -1
    next_upper_tokens: float = 0.0
    next_median_rate: float = 0.0
    answer_share: float = 1.0
    fullness: float = 1.0

    @classmethod
    def of(cls, memo: Mapping[str, float], model: str) -> "Experience":
        """What was remembered."""
        fresh = cls()
        told = {one.name: memo.get(f"{model}|{one.name}", getattr(fresh, one.name)) for one in fields(cls)}
        return cls(**{**told, "start_us": int(told["start_us"]), "next_start_us": int(told["next_start_us"])})

    def memo(self, model: str) -> Mapping[str, float]:
        """What is to be remembered."""
        return {f"{model}|{one.name}": float(getattr(self, one.name)) for one in fields(self)}

    def after(self, expected: Expectation, forecast: "Sequence[ForecastWindow]", weight: float) -> "Experience":
        """The same after a look at the windows: the one that has ended is judged, and the next one is awaited.

        `weight` is how much one window counts.
        """
        begun = 0 <= self.next_start_us <= expected.now_us
        known = self._turned(expected, weight) if begun else self
        if not forecast:
            return known
        first = forecast[0]
        median = expected.forecast("", first.start_us)
        return replace(
            known,
            next_start_us=first.start_us,
            next_upper_tokens=first.prompt_tokens[2] + first.response_tokens[2],
            next_median_rate=median.prompt[1] + median.response[1],
        )

    def _turned(self, expected: Expectation, weight: float) -> "Experience":
        """The window that was awaited has begun, and the one before it is over."""
        end_us = self.start_us + expected.window_us
        arrived = expected.arrived(self.start_us, end_us, self.answer_share) if self.start_us >= 0 else None
        share = self.miss_share
        if arrived is not None:
            share += weight * ((arrived > self.upper_tokens) - share)
        return replace(
            self,
            miss_share=share,
            start_us=self.next_start_us,
            upper_tokens=self.next_upper_tokens,
            median_rate=self.next_median_rate,
            next_start_us=-1,
        )

    def anchor(self, expected: Expectation, observed: Traffic, span_us: int) -> float:
        """What arrived over the last `span_us` as a part of what was forecast for now, beyond what chance explains.

        An error that is there stays for a while. Chance is that of a Poisson count of requests whose tokens vary as
        much as they are many. 1 where that window does not run now, or nothing was forecast.
        """
        runs = 0 <= expected.now_us - self.start_us < expected.window_us
        if not runs or self.start_us < 0 or self.median_rate <= 0:
            return 1.0
        part = (observed.prompt[1] + observed.response[1]) / self.median_rate
        chance = 1 + Z_ANCHOR * sqrt(2 / max(1.0, expected.request_count(span_us)))
        sure = max(1.0, part / chance) if part > 1 else min(1.0, part * chance)
        return min(ANCHOR_MAX, max(1 / ANCHOR_MAX, sure))

    def of_answers(self, load: ModelLoad, predicted_mean: float, weight: float) -> "Experience":
        """The same after a look at the answers that ended in the last minute."""
        if load.ended_count < ANSWER_COUNT_MIN or predicted_mean <= 0:
            return self
        share = load.response_tokens / load.ended_count / predicted_mean
        return replace(self, answer_share=self.answer_share + weight * (share - self.answer_share))

    def of_instances(self, full: float, work: float, is_late: bool, least: float, weight: float) -> "Experience":
        """The same after a look at how full the instances are that do `work`; less than one tells nothing.

        Where first tokens are late instances can do no more than their rates, however empty their caches are. That is
        believed `CAUTION` times as fast as that they can do more, or fleets would go up and down with it.
        """
        if work < 1:
            return self
        share = 1.0 if is_late else min(1.0, max(least, full / work))
        step = weight if share > self.fullness else weight / CAUTION
        return replace(self, fullness=self.fullness + step * (share - self.fullness))


def _is_now(demand: "DemandView", region: str) -> bool:
    return demand.slo_class is not SloClass.DEFERRED and region in ("", demand.region)


def _rising(demand: "DemandView", span_us: int) -> "Arrived":
    """The rates over the span, or those of its end where they are higher by more than `Z_QUICK` standard deviations.

    Nothing where less than `QUICK_US` is known: a few requests tell no rate.
    """
    slow, quick = demand.rate(span_us), demand.rate(QUICK_US)
    if not demand.arrived or slow.at_us - demand.arrived[0].at_us < QUICK_US:
        return replace(slow, request_count=0.0, prompt_tokens=0.0, response_tokens=0.0)
    seconds = QUICK_US / US_PER_S
    count = quick.request_count * seconds
    sure = max(0.0, count - Z_QUICK * sqrt(count)) / seconds
    if count <= 0 or sure <= slow.request_count:
        return slow
    part = sure / quick.request_count
    return replace(
        quick,
        request_count=sure,
        prompt_tokens=part * quick.prompt_tokens,
        response_tokens=part * quick.response_tokens,
    )


def _between(demand: "DemandView", start_us: int, end_us: int, answer_share: float) -> float | None:
    before = [one for one in demand.arrived if one.at_us <= start_us]
    after = [one for one in demand.arrived if one.at_us >= end_us]
    if not before or not after:
        return None
    low, high = before[-1], after[0]
    return high.prompt_tokens - low.prompt_tokens + answer_share * (high.response_tokens - low.response_tokens)
