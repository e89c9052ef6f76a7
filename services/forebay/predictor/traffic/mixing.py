"""How much each forecaster counts at each lead: as far as what it would have cost is surely less."""

import math
from collections.abc import Mapping

import numpy as np

from forebay.predictor.traffic.series import Floats, Ints
from forebay.predictor.traffic.tracks import COMPARED_MIN, Costs, Track, age_weights, cost_of

BASELINE = "last_value"
"""Wins whenever nobody is better beyond the noise, and answers where nobody can be told from another."""
BAND_EDGES = (2, 4, 9, 19, 49, 145, 577)
"""Leads that choose together begin here; the first band is lead 1 alone."""
SHARES = (1.0, 0.75, 0.5, 0.25)
"""How much of a candidate is tried; the rest is who answered before it."""
SIZE_SIGMAS = 1.0
"""Of the shares that are surely better, the one is taken that gains most less so many standard errors."""
FEW_COUNT, PART_COUNT = 96, 3
"""Fewer forecasts than this span too little to be typical: a candidate must be better in each part of that time."""


def bands_of(leads: Ints) -> list[Ints]:
    """The rows of the leads that choose together."""
    numbers = np.searchsorted(BAND_EDGES, leads, side="right")
    return [np.flatnonzero(numbers == number) for number in np.unique(numbers)]


def weights_of(tracks: Mapping[str, Track], costs: Costs, count: int) -> Floats:
    """How much each candidate counts [lead, candidate, quantity], from walks through a series of `count` windows."""
    leads = next(iter(tracks.values())).leads
    weights = np.zeros((len(leads), len(tracks), 3))
    for band in bands_of(leads):
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
    means = means_of(tracks, paid, costs, count)
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


def means_of(tracks: Mapping[str, Track], paid: Mapping[str, Floats], costs: Costs, count: int) -> Floats:
    """What each candidate cost on average, recent origins first; infinite where nothing tells."""
    found = np.full(len(tracks), np.inf)
    for place, (name, track) in enumerate(tracks.items()):
        known = ~np.isnan(paid[name])
        weights = age_weights(track.origins, costs, count)[:, None] * known
        if known.any():
            found[place] = (weights * np.where(known, paid[name], 0.0)).sum() / weights.sum()
    return found


def _gain(mixed: Track, usual: Floats, costs: Costs, count: int) -> float:
    """How much less a mixture costs than the base, with caution; 0 where that is little, or not sure.

    Where forecasts are few, it must cost less in each part of the time: traffic goes through phases, and who gains in
    one of them alone is likely to lose in the next.
    """
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
    error = float(less.std()) / math.sqrt(max(1.0, distinct))
    is_little = gain <= costs.gain_min * float(np.average(before, weights=weights))
    if is_little or gain <= costs.sigma_count * error or not _lasts(less):
        return 0.0
    return gain - min(SIZE_SIGMAS, costs.sigma_count) * error


def _lasts(less: Floats) -> bool:
    """Whether less is paid in each part of the time, where forecasts are few."""
    return len(less) >= FEW_COUNT or all(part.mean() > 0 for part in np.array_split(less, PART_COUNT))


def _mixed(tracks: Mapping[str, Track], weights: Floats) -> Track:
    """The track of a weighted mean in roots; a failure of any that counts is its own."""
    used = [(weight, track) for weight, track in zip(weights, tracks.values(), strict=True) if weight]
    roots = np.sum([weight * track.roots for weight, track in used], axis=0)
    failure = "; ".join(track.failure for _, track in used if track.failure)
    return Track(used[0][1].origins, used[0][1].leads, roots, used[0][1].truth, failure)
