"""What a forecaster would have said of a series' own past, seeing nothing later, and what that would have cost."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from forebay.predictor.traffic.fitting import Batched, Fitted, Forecaster, ForecastFailed
from forebay.predictor.traffic.series import Floats, Ints, Series
from forebay.predictor.traffic.shift import since_shift

COMPARED_MIN = 8
"""Fewer forecasts than this do not tell one forecaster from another."""
BLOCK_COUNT = 4

Stopwatch: TypeAlias = Callable[[], float]
"""Seconds that have passed since some moment; who has no clock gives none, and then nobody is too slow."""


@dataclass(frozen=True, slots=True)
class Costs:
    """How candidates are compared, and what a miss costs.

    A token too few costs `under_cost`, one too many `over_cost`, so what is provisioned is the quantile at under_cost /
    (under_cost + over_cost), and a candidate is as good as its own quantile there. Up to `origin_count` moments of the
    later two thirds of a series are forecast from; a candidate is fitted `fit_count` times on the way, each time to
    what was known then, and out when one fit takes `fit_s_max`. To beat the last value it must cost `gain_min` less
    (a share), and `sigma_count` standard errors. A forecast weighs half as much as
    one made `half_life` of the series later.
    """

    under_cost: float = 1.0
    over_cost: float = 1.0
    origin_count: int = 144
    fit_count: int = 3
    fit_s_max: float = 20.0
    gain_min: float = 0.01
    sigma_count: float = 2.0
    half_life: float = 0.5

    def __post_init__(self) -> None:
        for name in ("under_cost", "over_cost", "origin_count", "fit_count", "fit_s_max", "half_life"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0")
        if self.gain_min < 0 or self.sigma_count < 0:
            raise ValueError("gain_min and sigma_count must not be negative")

    @property
    def level(self) -> float:
        """The quantile that costs least."""
        return self.under_cost / (self.under_cost + self.over_cost)


@dataclass(frozen=True, slots=True)
class Track:
    """What a candidate forecast [origin, lead, quantity], and what it should have, in roots; NaN where unknown.

    `failure` says why it is out of the question.
    """

    origins: Ints
    leads: Ints
    roots: Floats
    truth: Floats
    failure: str = ""

    def at(self, rows: Ints, quantities: slice = slice(None)) -> "Track":
        """Only these of the leads, and of the quantities."""
        roots, truth = (values[:, rows, quantities] for values in (self.roots, self.truth))
        return Track(self.origins, self.leads[rows], roots, truth, self.failure)

    @property
    def errors(self) -> Floats:
        """How far above its forecast the truth was, in roots."""
        return self.truth - self.roots


def walk_all(
    candidates: Mapping[str, Forecaster],
    series: Series,
    leads: Ints,
    costs: Costs,
    stopwatch: Stopwatch | None = None,
) -> dict[str, Track]:
    """What each candidate would have forecast at the same moments; a failure is told in its track."""
    first = max(1, len(series) // 3)
    origins = np.unique(np.linspace(first, len(series) - 1, costs.origin_count).astype(np.int64))
    origins = origins[(origins >= 1) & (origins < len(series))]
    return {name: walk(one, series, origins, leads, costs, stopwatch) for name, one in candidates.items()}


def walk(
    policy: Forecaster,
    series: Series,
    origins: Ints,
    leads: Ints,
    costs: Costs,
    stopwatch: Stopwatch | None = None,
) -> Track:
    """Forecasts after each of `origins` windows, fitted to what was known at the first one of its share of them."""
    targets = origins[:, None] + leads[None, :] - 1
    known = np.where(targets < len(series), targets, 0)
    truth = np.where((targets < len(series))[:, :, None], np.sqrt(series.values[known]), np.nan)
    roots = np.full((len(origins), len(leads), 3), np.nan)
    try:
        for share in np.array_split(np.arange(len(origins)), costs.fit_count):
            if len(share):
                fitted = fit_in_time(policy, series.until(int(origins[share[0]])), costs, stopwatch)
                roots[share] = _roots(fitted, series, origins[share], leads)
    except Exception as error:
        # Whatever a candidate does wrong puts itself out, and nobody else.
        return Track(origins, leads, roots, truth, f"{type(error).__name__}: {error}")
    return Track(origins, leads, roots, truth)


def fit_in_time(policy: Forecaster, series: Series, costs: Costs, stopwatch: Stopwatch | None) -> Fitted:
    """Fits to what came since the last shift of level. Raises ForecastFailed where that takes too long."""
    began = stopwatch() if stopwatch else 0.0
    fitted = policy.fit(since_shift(series))
    if stopwatch and stopwatch() - began > costs.fit_s_max:
        raise ForecastFailed(f"a fit took more than {costs.fit_s_max:g} s")
    return fitted


def cost_of(track: Track, costs: Costs) -> Floats:
    """What provisioning by a track would have cost [origin, lead], in shares of the traffic; infinite for failures.

    Provisioned is the quantile that the track's own errors showed by then, block of origins by block.
    """
    if track.failure:
        return np.full(track.roots.shape[:2], np.inf)
    truth, level = track.truth**2, costs.level
    roots = track.roots + _shifts(track, level)
    missed = truth - np.maximum(0.0, roots) ** 2
    paid = np.where(missed > 0, level * missed, (level - 1.0) * missed)
    totals = np.nanmean(truth, axis=(0, 1)) if np.isfinite(truth).any() else np.ones(truth.shape[2])
    shares = paid[:, :, totals > 0] / totals[totals > 0]
    return shares.mean(axis=2) if shares.shape[2] else np.where(np.isnan(truth[:, :, 0]), np.nan, 0.0)


def _shifts(track: Track, level: float) -> Floats:
    """How far up to provision at each origin; nothing before errors enough are known, and at the median."""
    shifts = np.zeros(track.roots.shape)
    if level == 0.5:
        return shifts
    targets = track.origins[:, None] + track.leads[None, :] - 1
    for share in np.array_split(np.arange(len(track.origins)), BLOCK_COUNT):
        if len(share):
            seen = np.where((targets < track.origins[share[0]])[:, :, None], track.errors, np.nan)
            count = (~np.isnan(seen)).sum(axis=0)
            order = np.sort(seen, axis=0)
            place = np.clip(np.ceil(level * count).astype(np.int64) - 1, 0, None)
            found = np.take_along_axis(order, place[None], axis=0)[0]
            shifts[share] = np.where(count >= COMPARED_MIN, found, 0.0)
    return shifts


def _roots(fitted: Fitted, series: Series, origins: Ints, leads: Ints) -> Floats:
    """Forecasts [origin, lead, quantity] in roots, of windows that the series knows; NaN for others."""
    wanted = origins[:, None] + leads[None, :] <= len(series)
    if isinstance(fitted, Batched):
        points = np.where(wanted[:, :, None], fitted.points_at(series, origins, leads), np.nan)
    else:
        points = np.full((len(origins), len(leads), 3), np.nan)
        for row, origin in enumerate(origins):
            inside = leads[wanted[row]]
            if len(inside):
                points[row, wanted[row]] = fitted.points(series.until(int(origin)), int(inside[-1]))[inside - 1]
    if not (np.isfinite(points) & (points >= 0))[wanted].all():
        raise ForecastFailed("a forecast is negative or no number")
    return np.sqrt(points)


def age_weights(origins: Ints, costs: Costs, count: int) -> Floats:
    """How much a forecast counts by its age."""
    weights: Floats = 0.5 ** ((origins[-1] - origins) / (costs.half_life * count)) if len(origins) else np.ones(0)
    return weights
