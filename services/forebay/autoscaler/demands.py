"""What has arrived by model, region and class, as the scheduler counts it, over time."""

from collections import deque
from collections.abc import Mapping
from typing import TypeAlias

from forebay.autoscaler.policy.autoscaler.base import Arrived, DemandView, ForecastWindow
from forebay.core.pressure import Demand
from forebay.core.values import SloClass

SAMPLE_COUNT_MAX = 10_000

Key: TypeAlias = tuple[str, str, SloClass]
"""Model, region and class."""


class Demands:
    """Keeps the totals of each demand over time; a scheduler that begins at zero again is taken to go on.

    What had arrived before the scheduler was heard for the first time is no growth.
    """

    def __init__(self) -> None:
        self._last: dict[Key, Demand] = {}
        self._series: dict[Key, deque[Arrived]] = {}
        self._heard_us: int | None = None

    def __deepcopy__(self, memo: dict[int, object]) -> "Demands":
        """Series of its own with the same samples, which never change and may be many."""
        twin = Demands()
        twin._last, twin._heard_us = dict(self._last), self._heard_us
        twin._series = {key: series.copy() for key, series in self._series.items()}
        return twin

    @property
    def keys(self) -> tuple[Key, ...]:
        """All that was ever heard of, in order."""
        return tuple(sorted(self._series))

    def observe(self, demands: tuple[Demand, ...], now_us: int) -> None:
        """Takes the totals of now."""
        for demand in demands:
            key = (demand.model, demand.region, demand.slo_class)
            grown = _grown(demand, self._last.get(key, demand if self._heard_us is None else _nothing(demand)))
            series = self._series.get(key)
            if series is None:
                series = self._series[key] = deque(maxlen=SAMPLE_COUNT_MAX)
                if self._heard_us is not None:
                    series.append(Arrived(self._heard_us, 0.0, 0.0, 0.0))
            before = series[-1] if series else Arrived(now_us, 0.0, 0.0, 0.0)
            while series and series[-1].at_us >= now_us:
                # A clock that was set back would make rates negative, or endless.
                series.pop()
            series.append(
                Arrived(
                    now_us,
                    before.request_count + grown.request_count,
                    before.prompt_tokens + grown.prompt_tokens,
                    before.response_tokens + grown.response_tokens,
                )
            )
            self._last[key] = demand
        self._heard_us = now_us

    def views(
        self, history_us: int, forecasts: Mapping[Key, tuple[ForecastWindow, ...]], now_us: int
    ) -> tuple[DemandView, ...]:
        """Each demand with its last `history_us` and its forecast; those that are only forecast too."""
        keys = sorted({*self._series, *forecasts})
        return tuple(self._view(key, history_us, forecasts.get(key, ()), now_us) for key in keys)

    def _view(self, key: Key, history_us: int, forecast: tuple[ForecastWindow, ...], now_us: int) -> DemandView:
        series = self._series.get(key, deque())
        # One sample from before the span stays, so that a rate over the whole of it can be told.
        while len(series) > 2 and series[1].at_us <= now_us - history_us:
            series.popleft()
        return DemandView(*key, arrived=tuple(series), forecast=forecast)


def _nothing(demand: Demand) -> Demand:
    return Demand(demand.model, demand.region, demand.slo_class)


def _grown(demand: Demand, last: Demand) -> Demand:
    """What came since the last time; all of it where the counting has begun anew."""
    if demand.request_count < last.request_count:
        return demand
    return Demand(
        demand.model,
        demand.region,
        demand.slo_class,
        demand.request_count - last.request_count,
        demand.prompt_tokens - last.prompt_tokens,
        demand.response_tokens - last.response_tokens,
    )
