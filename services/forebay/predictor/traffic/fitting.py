"""What forecasters are asked and what they give, for policies and for those who measure them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from forebay.core.values import WorkloadPoint
from forebay.predictor.traffic.series import Floats, Ints, Series


class ForecastFailed(Exception):
    """A forecaster could not be fitted to a series, or made no sense of it; another one must answer."""


@dataclass(frozen=True, slots=True)
class WorkloadHistory:
    """Complete past windows of one series (a missing one is a gap, not zero) and the windows wanted."""

    points: Sequence[WorkloadPoint]
    window_us: int
    first_start_us: int
    horizon_count: int


class Fitted(Protocol):
    """What a forecaster learned of one series: a plain value that may go to another process and back."""

    def points(self, series: Series, horizon_count: int) -> Floats:
        """The windows after `series` [window, quantity], never negative; `series` may have grown since the fit."""
        ...


@runtime_checkable
class Batched(Protocol):
    """A fitted one that is quicker to ask for many moments at once."""

    def points_at(self, series: Series, origins: Ints, leads: Ints) -> Floats:
        """What `points` says of these leads after each of `origins` windows [origin, lead, quantity]."""
        ...


class Forecaster(Protocol):
    """Learns one series, of one row at least; keeps no state, so calls may run in threads."""

    def fit(self, series: Series) -> Fitted:
        """What it learned; may take seconds. Raises ForecastFailed where it cannot."""
        ...
