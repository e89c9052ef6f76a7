"""The next windows follow from lags and calendar, as boosted trees learned it on many other series."""

from dataclasses import dataclass, field
from functools import partial

import numpy as np

from forebay.core.units import US_PER_S
from forebay.predictor.policy.forecaster.base import Fitted
from forebay.predictor.traffic.lags import forecast_from, lag_features, pasts_of
from forebay.predictor.traffic.nets import StoredNet
from forebay.predictor.traffic.series import Floats, Ints, Series


@dataclass(frozen=True, slots=True)
class Boosting:
    """One gradient-boosted model of the median for all series, quantities and leads, in ONNX.

    It sees medians and means of the last windows, what came at that time of earlier seasons, and how much the series
    moves, all relative to the series itself (`lags.py`), and answers in the same terms: nothing is fitted here.
    """

    season_s: int = 86_400
    net: StoredNet = field(default_factory=partial(StoredNet, "boosting.onnx"))

    def __post_init__(self) -> None:
        if self.season_s < 1:
            raise ValueError("season_s must be at least 1")

    def fit(self, series: Series) -> Fitted:
        """Learns nothing but how many windows a season has."""
        return _Boosted(self.net, max(1, round(self.season_s * US_PER_S / series.window_us)))


@dataclass(frozen=True, slots=True)
class _Boosted:
    net: StoredNet
    window_count: int

    def points(self, series: Series, horizon_count: int) -> Floats:
        found: Floats = self.points_at(series, np.array([len(series)]), np.arange(1, horizon_count + 1))[0]
        return found

    def points_at(self, series: Series, origins: Ints, leads: Ints) -> Floats:
        told = [
            lag_features(past, np.repeat(origins, len(leads)), np.tile(leads, len(origins)))
            for past in pasts_of(series.known, self.window_count)
        ]
        steps = self.net.run(np.concatenate([features for features, *_ in told])).reshape(3, -1)
        points = [forecast_from(found, *rest) for found, (_, *rest) in zip(steps, told, strict=True)]
        found: Floats = np.stack(points, axis=-1).reshape(len(origins), len(leads), 3)
        return found
