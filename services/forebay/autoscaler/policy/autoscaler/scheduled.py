"""Bounds by the clock on the wall, for those who know their days; between them the load decides."""

from dataclasses import dataclass
from math import ceil

from forebay.autoscaler.policy.autoscaler.base import Choice, Needs, PerPool, PoolView
from forebay.core.units import US_PER_S

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
HOURS = 24
S_PER_HOUR = 3_600
DAY_OF_1970 = 3
"""The first day of 1970 was a Thursday."""


@dataclass(frozen=True, slots=True)
class Period:
    """From one hour of the day to another (past midnight where it ends first, then the days are those of its begin).

    An empty `pool` is every pool, no `days` are all. `instances_max` 0 means exactly `instances`, otherwise they are
    the fewest and the load decides between both.
    """

    instances: int
    pool: str = ""
    days: tuple[str, ...] = ()
    from_hour: float = 0.0
    until_hour: float = 24.0
    instances_max: int = 0

    def __post_init__(self) -> None:
        if self.instances < 0 or (self.instances_max and self.instances_max < self.instances):
            raise ValueError("a period needs 0 <= instances <= instances_max")
        if not (0 <= self.from_hour < HOURS and 0 <= self.until_hour <= HOURS and self.from_hour != self.until_hour):
            raise ValueError("a period's hours must be from 0 to 24 and differ")
        if unknown := sorted(set(self.days) - set(DAYS)):
            raise ValueError(f"unknown days {', '.join(unknown)}; known: {', '.join(DAYS)}")

    @property
    def range(self) -> tuple[int, int]:
        """The fewest and the most instances."""
        return self.instances, self.instances_max or self.instances

    def holds(self, pool: str, hours: float) -> bool:
        """Whether it does for this pool, so many hours after the begin of 1970."""
        day, hour = divmod(hours, HOURS)
        inside = self.from_hour <= hour < self.until_hour
        if self.until_hour < self.from_hour:
            inside = hour >= self.from_hour or hour < self.until_hour
            day -= hour < self.until_hour
        return inside and self.pool in ("", pool) and self._is_on(int(day))

    def _is_on(self, day: int) -> bool:
        return not self.days or DAYS[(DAY_OF_1970 + day) % len(DAYS)] in self.days


@dataclass(frozen=True, slots=True)
class Scheduled(PerPool):
    """The last period listed that holds now gives the bounds; outside of all it is the initial number.

    Between the bounds `ceil(mean concurrency over window_s / target)`. With `is_early` the least of the time when a
    start would be done (the lead time's 90th percentile) counts too, so that nobody waits at the full hour. Source:
    cron scalers (KEDA's, AIBrix' bounds by wall clock); the early start is ours.
    """

    periods: tuple[Period, ...] = ()
    utc_offset_h: float = 0.0
    is_early: bool = True
    window_s: float = 60.0

    def __post_init__(self) -> None:
        if self.window_s <= 0 or not -HOURS < self.utc_offset_h < HOURS:
            raise ValueError("window_s must be positive and utc_offset_h less than a day")

    @property
    def needs(self) -> Needs:
        """Load only where it decides anything."""
        decides = any(period.instances_max > period.instances for period in self.periods)
        return Needs(history_us=int(self.window_s * US_PER_S) if decides else 0)

    def choose(self, view: PoolView) -> Choice:
        """The load's wish within the bounds of now, not below what is soon the least."""
        least, most = self._range(view, view.now_us)
        soon = self._range(view, view.now_us + view.lead.p90_us)[0] if self.is_early else least
        mean = view.concurrency_mean(int(self.window_s * US_PER_S)) if most > least else 0.0
        wanted = max(min(max(ceil(mean / view.concurrency_target), least), most), soon)
        inputs = {"least": float(least), "most": float(most), "least_soon": float(soon), "concurrency_mean": mean}
        return Choice(wanted, wanted, self._reason(least, most, soon, mean), inputs)

    def _range(self, view: PoolView, at_us: int) -> tuple[int, int]:
        hours = at_us / US_PER_S / S_PER_HOUR + self.utc_offset_h
        ranges = [period.range for period in self.periods if period.holds(view.pool, hours)]
        return ranges[-1] if ranges else (view.instances_initial, view.instances_initial)

    def _reason(self, least: int, most: int, soon: int, mean: float) -> str:
        if soon > least:
            return f"the table wants {soon} by the time that a start is done"
        if most > least:
            return f"the table allows {least} to {most}, and there are {mean:.1f} requests on average"
        return f"the table wants {least}"
