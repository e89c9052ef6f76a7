"""How much deferred work to offer now: predicted valleys are filled like a basin, and every deadline is met.

Deferred work of B tokens that is due by D is poured over the forecast demand d(t): with the lowest level L for which
the integral of max(0, L - d(t)) from now to D is B, the sum of both loads has the lowest peak that any plan can give
it (water-filling). The rate now is then max(0, L - d(now)). Of several deadlines, each with all work that is due by it,
the one that asks for most decides; as the plan is made anew all the time, this meets each one that can be met.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from forebay.core.units import US_PER_S
from forebay.core.water import water_level


@dataclass(frozen=True, slots=True)
class Demand:
    """Forecast of the traffic that does not wait: tokens of work in each window from `start_us`."""

    start_us: int
    window_us: int
    tokens: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Backlog:
    """Deferred work that is due at `deadline_us`. Tokens of work."""

    deadline_us: int
    tokens: float


@dataclass(frozen=True, slots=True)
class Pace:
    """What to offer now, in tokens of work a second."""

    rate: float
    is_calm: bool
    """Whether demand is low now, or not known: then deferred work harms nobody."""


def plan(backlogs: Sequence[Backlog], demand: Demand | None, now_us: int, margin: float, calm_share: float) -> Pace:
    """The pace that meets every deadline with `margin` of its time to spare, and fills valleys beyond that.

    A valley is a window whose demand lies below `calm_share` of the highest in the forecast: it is filled up to there.
    Without a forecast the pace is the steady one of the tightest deadline.
    """
    level, tokens = 0.0, 0.0
    for backlog in sorted(backlogs, key=lambda one: one.deadline_us):
        tokens += backlog.tokens
        due_us = now_us + max(1, int((backlog.deadline_us - now_us) * (1 - margin)))
        level = max(level, water_level(list(_spans(demand, now_us, due_us)), tokens))
    if demand is None:
        return Pace(level, is_calm=True)
    rates = [tokens / (demand.window_us / US_PER_S) for tokens in demand.tokens]
    here = _rate_at(demand, rates, now_us)
    calm = calm_share * max(rates)
    return Pace(max(0.0, max(level, calm) - here), is_calm=here <= calm)


def _spans(demand: Demand | None, now_us: int, due_us: int) -> Iterator[tuple[float, float]]:
    """Demand rate and seconds of each window until `due_us`; what lies outside the forecast is as its mean."""
    if demand is None:
        yield 0.0, (due_us - now_us) / US_PER_S
        return
    covered_us = 0
    for number, tokens in enumerate(demand.tokens):
        start_us = demand.start_us + number * demand.window_us
        span_us = min(due_us, start_us + demand.window_us) - max(now_us, start_us)
        if span_us > 0:
            covered_us += span_us
            yield tokens / (demand.window_us / US_PER_S), span_us / US_PER_S
    rest_us = due_us - now_us - covered_us
    if rest_us > 0:
        mean = sum(demand.tokens) / len(demand.tokens) / (demand.window_us / US_PER_S)
        yield mean, rest_us / US_PER_S


def _rate_at(demand: Demand, rates: Sequence[float], now_us: int) -> float:
    """The demand now; outside the forecast its mean."""
    number = (now_us - demand.start_us) // demand.window_us
    return rates[number] if 0 <= number < len(rates) else sum(rates) / len(rates)
