"""The question that a forecaster answers: how much traffic will the next windows bring."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from forebay.core.prediction import WorkloadForecast
from forebay.core.values import WorkloadPoint


@dataclass(frozen=True, slots=True)
class WorkloadHistory:
    """Complete past windows of one series (a missing one is a gap, not zero) and the windows wanted."""

    points: Sequence[WorkloadPoint]
    window_us: int
    first_start_us: int
    horizon_count: int


class Forecaster(Protocol):
    """Forecasts from the history alone; keeps no state, so calls may run in threads."""

    def forecast(self, history: WorkloadHistory) -> tuple[WorkloadForecast, ...]:
        """One forecast for each of the `horizon_count` windows from `first_start_us` on."""
        ...
