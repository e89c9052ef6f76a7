"""The next windows are like the last one."""

from dataclasses import dataclass

import numpy as np

from forebay.predictor.policy.forecaster.base import Fitted
from forebay.predictor.traffic.series import Floats, Series


@dataclass(frozen=True, slots=True)
class LastValue:
    """The last known window for all to come."""

    def fit(self, series: Series) -> Fitted:
        """Learns nothing."""
        return _Last()


@dataclass(frozen=True, slots=True)
class _Last:
    def points(self, series: Series, horizon_count: int) -> Floats:
        return np.tile(series.last, (horizon_count, 1))
