"""The next windows as PreServe's workload predictor tells them: a small LSTM over the last 25."""

from dataclasses import dataclass, field
from functools import partial

import numpy as np

from forebay.predictor.policy.forecaster.base import Fitted
from forebay.predictor.traffic.nets import StoredNet
from forebay.predictor.traffic.series import Floats, Ints, Series

HISTORY_COUNT = 25
STEP_COUNT_MAX = 144
"""So many windows are told one from the other; those after are like the last of them."""
SCALED_MIN, SCALED_MAX = -0.5, 3.0
"""What is farther off than this from what the fit saw, in units of its span, is cut."""


@dataclass(frozen=True, slots=True)
class Lstm:
    """One LSTM (hidden 64, a linear head) for each quantity by itself, walked on from its own forecasts.

    PreServe §4.1 (arXiv 2504.03702): windows are scaled by the least and the most of what was fitted; the artifact's
    "mLSTM" computes as a plain LSTM, and so does this. It is one network for all series here, trained ahead.
    """

    net: StoredNet = field(default_factory=partial(StoredNet, "lstm.onnx"))

    def fit(self, series: Series) -> Fitted:
        """Learns the least and the most of each quantity."""
        known = series.values[~np.isnan(series.values[:, 0])]
        if not len(known):
            return _Scaled(self.net, np.zeros(3), np.zeros(3))
        return _Scaled(self.net, known.min(axis=0), known.max(axis=0))


@dataclass(frozen=True, slots=True)
class _Scaled:
    net: StoredNet
    low: Floats
    high: Floats

    def points(self, series: Series, horizon_count: int) -> Floats:
        found: Floats = self.points_at(series, np.array([len(series)]), np.arange(1, horizon_count + 1))[0]
        return found

    def points_at(self, series: Series, origins: Ints, leads: Ints) -> Floats:
        span = np.where(self.high > self.low, self.high - self.low, 1.0)
        rows = np.maximum(0, origins[:, None] + np.arange(-HISTORY_COUNT, 0))
        past = ((series.known - self.low) / span)[rows]
        windows = past.transpose(0, 2, 1).reshape(-1, HISTORY_COUNT)
        steps = np.empty((min(int(leads.max()), STEP_COUNT_MAX), len(windows)))
        for step in range(len(steps)):
            windows = np.clip(windows, SCALED_MIN, SCALED_MAX)
            steps[step] = self.net.run(windows)
            windows = np.column_stack((windows[:, 1:], steps[step]))
        told = steps[np.minimum(leads, len(steps)) - 1].reshape(len(leads), len(origins), 3).transpose(1, 0, 2)
        found: Floats = np.maximum(0.0, np.clip(told, SCALED_MIN, SCALED_MAX) * span + self.low)
        return np.where(self.high > self.low, found, np.where(np.isnan(self.low), 0.0, self.low))
