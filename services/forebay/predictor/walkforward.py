"""Which forecaster to trust with a series, from forecasts of its own past that saw nothing later."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from forebay.predictor.fitting import Batched, Fitted, Forecaster, ForecastFailed
from forebay.predictor.intervals import Spread, lead_grid, spread_of
from forebay.predictor.series import Floats, Ints, Series
from forebay.predictor.shift import DAY_US, since_shift

BASELINE = "last_value"
"""Wins whenever nobody is better beyond the noise, and answers where nobody can be told from another."""
BAND_EDGES = (2, 4, 9, 19, 49, 145, 577)
"""Leads that choose together begin here; the first band is lead 1 alone."""
COMPARED_MIN = 8
"""Fewer forecasts than this do not tell one forecaster from another."""
BLOCK_COUNT = 4
SHARES = (1.0, 0.75, 0.5, 0.25)
"""How much of a candidate is tried; the rest is who answered before it."""
UNREST_POWER, UNREST_MAX = 0.7, 2.0
MOVE_MIN = 0.25
"""In roots: half of what chance alone moves a count."""
KIND = "forebay.predictor.policy.forecaster"

Stopwatch: TypeAlias = Callable[[], float]
"""Seconds that have passed since some moment; who has no clock gives none, and then nobody is too slow."""


@dataclass(frozen=True, slots=True)
class Costs:
    """How candidates are compared, and what a miss costs.

    A token too few costs `under_cost`, one too many `over_cost`, so what is provisioned is the quantile at under_cost /
    (under_cost + over_cost), and a candidate is as good as its own quantile there. Up to `origin_count` moments of the
    later two thirds of a series are forecast from; a candidate is fitted `fit_count` times on the way, each time to
    what was known then, and out when one fit takes `fit_s_max`. To beat the last value it must cost `gain_min` less
    (a share), and `sigma_count` standard errors. A forecast weighs half as much as one made `half_life` of the series
    later.
    """

    under_cost: float = 1.0
    over_cost: float = 1.0
    origin_count: int = 144
    fit_count: int = 3
    fit_s_max: float = 20.0
    gain_min: float = 0.01
    sigma_count: float = 1.0
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


@dataclass(frozen=True, slots=True)
class Chosen:
    """The fitted forecasters that answer: from `leads[i]` up to the next one `weights[i]` count [candidate, quantity].

    `names` says who they are, `label` those that tell requests at the first lead; `costs` are those of each at each
    lead, in shares of the traffic, and `spread` is what the walk showed of the mixture.
    """

    names: tuple[str, ...]
    fitted: tuple[Fitted, ...]
    leads: Ints
    weights: Floats
    costs: Floats
    spread: Spread
    label: str
    failures: Mapping[str, str]

    def points(self, series: Series, horizon_count: int) -> Floats:
        """The weighted mean, in roots, of those who answer at each lead."""
        rows = np.searchsorted(self.leads, np.arange(1, horizon_count + 1), side="right") - 1
        weights = self.weights[rows]
        roots = np.zeros((horizon_count, 3))
        for place, one in enumerate(self.fitted):
            used = np.flatnonzero(weights[:, place].any(axis=1))
            if len(used):
                count = int(used[-1]) + 1
                roots[:count] += weights[:count, place] * np.sqrt(one.points(series, count))
        found: Floats = roots**2
        return found


def named(names: Sequence[str]) -> dict[str, Forecaster]:
    """Forecasters of these names, with their defaults. Raises ForecastFailed for a name that nobody has."""
    # By name, since they choose among their siblings, and policies do not import each other.
    known = importlib.import_module(KIND).FORECASTERS
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ForecastFailed(f"no forecaster is called {', '.join(unknown)}; known: {', '.join(sorted(known))}")
    return {name: known[name]() for name in names}


def average(
    candidates: Mapping[str, Forecaster],
    series: Series,
    lead_max: int,
    costs: Costs,
    best_count: int,
    stopwatch: Stopwatch | None = None,
) -> Chosen:
    """Fits those `best_count` candidates that cost least on the series' own past, for their mean.

    Raises ForecastFailed where no candidate can be fitted.
    """
    leads = lead_grid(lead_max)
    tracks = walk_all(candidates, series, leads, costs, stopwatch)
    failed = [bool(track.failure) for track in tracks.values()]
    weights = np.zeros((len(leads), len(tracks), 3))
    for band in _bands(leads):
        told = {name: track.at(band) for name, track in tracks.items()}
        means = _means(told, {name: cost_of(track, costs) for name, track in told.items()}, costs, len(series))
        order = [int(place) for place in np.argsort(means, kind="stable") if not failed[place]]
        best = order[:best_count]
        weights[band[:, None], best] = 1.0 / max(1, len(best))
    return _fitted(candidates, tracks, series, weights, costs)


def choose(
    candidates: Mapping[str, Forecaster],
    series: Series,
    lead_max: int,
    costs: Costs,
    stopwatch: Stopwatch | None = None,
) -> Chosen:
    """Fits those candidates that cost least on the series' own past, lead band by lead band.

    Nothing that a walk or the choice reads comes from after the moment that it stands for. Raises ForecastFailed where
    no candidate can be fitted.
    """
    tracks = walk_all(candidates, series, lead_grid(lead_max), costs, stopwatch)
    return _fitted(candidates, tracks, series, weights_of(tracks, costs, len(series)), costs)


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


def _bands(leads: Ints) -> list[Ints]:
    numbers = np.searchsorted(BAND_EDGES, leads, side="right")
    return [np.flatnonzero(numbers == number) for number in np.unique(numbers)]


def weights_of(tracks: Mapping[str, Track], costs: Costs, count: int) -> Floats:
    """How much each candidate counts [lead, candidate, quantity], from walks through a series of `count` windows."""
    leads = next(iter(tracks.values())).leads
    weights = np.zeros((len(leads), len(tracks), 3))
    for band in _bands(leads):
        for column in range(3):
            told = {name: track.at(band, slice(column, column + 1)) for name, track in tracks.items()}
            weights[band, :, column] = _mixture(told, costs, count)
    return weights


def _mixture(tracks: Mapping[str, Track], costs: Costs, count: int) -> Floats:
    """The weights of the candidates in a band.

    The base is the last value, or who costs least where that is no candidate. One candidate after another may take a
    share from those before it, as far as that surely costs less: who comes earlier wins ties.
    """
    paid = {name: cost_of(track, costs) for name, track in tracks.items()}
    means = _means(tracks, paid, costs, count)
    names = list(tracks)
    usual = names.index(BASELINE) if BASELINE in tracks else int(np.argmin(means))
    each = np.eye(len(names))
    best: Floats = each[usual]
    best_paid = paid[names[usual]]
    for place in range(len(names)):
        if place == usual or not np.isfinite(means[place]):
            continue
        options = [share * each[place] + (1.0 - share) * best for share in SHARES]
        mixed = [_mixed(tracks, option) for option in options]
        gains = [_gain(one, best_paid, costs, count) for one in mixed]
        if max(gains) > 0:
            top = int(np.argmax(gains))
            best, best_paid = options[top], cost_of(mixed[top], costs)
    return best


def _means(tracks: Mapping[str, Track], paid: Mapping[str, Floats], costs: Costs, count: int) -> Floats:
    """What each candidate cost on average, recent origins first; infinite where nothing tells."""
    found = np.full(len(tracks), np.inf)
    for place, (name, track) in enumerate(tracks.items()):
        known = ~np.isnan(paid[name])
        weights = age_weights(track.origins, costs, count)[:, None] * known
        if known.any():
            found[place] = (weights * np.where(known, paid[name], 0.0)).sum() / weights.sum()
    return found


def _gain(mixed: Track, usual: Floats, costs: Costs, count: int) -> float:
    """How much less a mixture surely costs than the base: the mean less its errors; 0 where that is little."""
    if np.isinf(usual).any():
        return 1.0
    cost = cost_of(mixed, costs)
    told = ~np.isnan(cost)
    known = told.any(axis=1)
    if known.sum() < COMPARED_MIN:
        return 0.0
    before, less = (
        np.where(told, rows, 0.0)[known].sum(axis=1) / told[known].sum(axis=1) for rows in (usual, usual - cost)
    )
    origins = mixed.origins[known]
    weights = age_weights(origins, costs, count)
    gain = float(np.average(less, weights=weights))
    # Forecasts that overlap tell the same thing twice.
    distinct = min(float(len(origins)), float(origins[-1] - origins[0] + 1) / float(mixed.leads.mean()))
    sure = gain - costs.sigma_count * float(less.std()) / np.sqrt(max(1.0, distinct))
    return sure if gain > costs.gain_min * float(np.average(before, weights=weights)) else 0.0


def _mixed(tracks: Mapping[str, Track], weights: Floats) -> Track:
    """The track of a weighted mean in roots; a failure of any that counts is its own."""
    used = [(weight, track) for weight, track in zip(weights, tracks.values(), strict=True) if weight]
    roots = np.sum([weight * track.roots for weight, track in used], axis=0)
    failure = "; ".join(track.failure for _, track in used if track.failure)
    return Track(used[0][1].origins, used[0][1].leads, roots, used[0][1].truth, failure)


def age_weights(origins: Ints, costs: Costs, count: int) -> Floats:
    """How much a forecast counts by its age."""
    weights: Floats = 0.5 ** ((origins[-1] - origins) / (costs.half_life * count)) if len(origins) else np.ones(0)
    return weights


def _fitted(
    candidates: Mapping[str, Forecaster], tracks: Mapping[str, Track], series: Series, weights: Floats, costs: Costs
) -> Chosen:
    names = tuple(tracks)
    used = [place for place in range(len(names)) if weights[:, place].any()]
    failures = {name: track.failure for name, track in tracks.items() if track.failure}
    if not used or any(names[place] in failures for place in used):
        told = "; ".join(f"{name}: {failure}" for name, failure in failures.items())
        raise ForecastFailed(f"no forecaster can be fitted ({told})")
    first = tracks[names[used[0]]]
    roots = sum(weights[None, :, place] * tracks[names[place]].roots for place in used)
    errors = first.truth - roots
    spread = spread_of(
        first.leads,
        errors * _unrest(series, first.origins)[:, None, :],
        series,
        age_weights(first.origins, costs, len(series)),
        int(np.ptp(first.origins)) + 1 if len(first.origins) else 0,
    )
    paid = [cost_of(tracks[names[place]], costs) for place in used]
    recent = since_shift(series)
    return Chosen(
        tuple(names[place] for place in used),
        tuple(candidates[names[place]].fit(recent) for place in used),
        first.leads,
        weights[:, used],
        np.array([[_mean(rows[:, row]) for rows in paid] for row in range(len(first.leads))]),
        spread,
        "+".join(names[place] for place in used if weights[0, place, 0]),
        failures,
    )


def _unrest(series: Series, origins: Ints) -> Floats:
    """How much wider errors are to be expected now than they were at each origin [origin, quantity].

    Wild hours come in bunches, so how far roots moved from window to window over the last day tells how wide it goes;
    within limits, since errors farther ahead follow only partly.
    """
    day = max(1, DAY_US // series.window_us)
    moves = np.abs(np.diff(np.sqrt(series.known), axis=0))
    sums = np.concatenate((np.zeros((1, 3)), np.cumsum(moves, axis=0)))
    last = np.maximum(origins - 1, 0)
    first = np.maximum(last - day, 0)
    then = (sums[last] - sums[first]) / np.maximum(1, last - first)[:, None] + MOVE_MIN
    now = (sums[-1] - sums[max(0, len(sums) - 1 - day)]) / max(1, min(day, len(sums) - 1)) + MOVE_MIN
    wider: Floats = np.clip((now / then) ** UNREST_POWER, 1 / UNREST_MAX, UNREST_MAX)
    return wider


def _mean(values: Floats) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
