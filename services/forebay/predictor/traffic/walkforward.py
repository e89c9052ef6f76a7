"""Which forecaster to trust with a series, from forecasts of its own past that saw nothing later."""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from forebay.predictor.traffic.fitting import Fitted, Forecaster, ForecastFailed
from forebay.predictor.traffic.intervals import Spread, lead_grid, spread_of
from forebay.predictor.traffic.mixing import bands_of, means_of, weights_of
from forebay.predictor.traffic.series import Floats, Ints, Series
from forebay.predictor.traffic.shift import DAY_US, since_shift
from forebay.predictor.traffic.tracks import Costs, Stopwatch, Track, age_weights, cost_of, walk_all

UNREST_POWER, UNREST_MAX = 0.7, 2.0
MOVE_MIN = 0.25
"""In roots: half of what chance alone moves a count."""
ERROR_HALF_LIFE = 0.15
"""Of the series: how wide errors go changes sooner than who errs least."""
ERROR_BUNCH_COUNT = 2.0
KIND = "forebay.predictor.policy.forecaster"


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
    for band in bands_of(leads):
        told = {name: track.at(band) for name, track in tracks.items()}
        means = means_of(told, {name: cost_of(track, costs) for name, track in told.items()}, costs, len(series))
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
        age_weights(first.origins, replace(costs, half_life=min(costs.half_life, ERROR_HALF_LIFE)), len(series)),
        int(np.ptp(first.origins)) + 1 if len(first.origins) else 0,
        ERROR_BUNCH_COUNT,
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
