"""What the past of one quantity says of a window to come, as numbers that mean the same for any level and window."""

import numpy as np

from forebay.predictor.traffic.series import Floats, Ints

LAGS_VERSION = "1"
"""A network trained on features of another version does not fit."""
AVERAGED = (2, 3, 6, 12, 24)
LEADS_AVERAGED = (1, 2, 4)
MEDIANS = (3, 7, 13, 37)
SPAN_COUNT = 13
"""Windows over which the least and the most are taken."""
SEASONS = (0, 1, 2, 6)
"""How many seasons more than the least are looked back."""
SEASON_COUNT = 7
WALKED = (6, 24)
"""Windows whose mean is tried as a forecast."""
SHARE_MAX = 4.0
ROAMED = (1, 2, 3, 4, 6, 8, 12, 16, 24, 36, 48, 72, 96, 144, 216, 288, 432, 720, 1_008, 1_440, 2_016)
"""Leads at which it is measured how far a quantity moves."""
LAG_COUNT = len(AVERAGED) + len(LEADS_AVERAGED) + len(MEDIANS) + 2 + 2 * len(SEASONS) + 2 + 13
NORMAL_MAX = 50.0
"""Nothing is told that is farther off, in steps."""


class Past:
    """One quantity, gaps filled, with sums that make means quick; `season` is in windows.

    `unit` is how much one request brings, for each number of windows known: chance moves a total by its root.
    """

    def __init__(self, values: Floats, season: int, unit: Floats) -> None:
        self.values, self.season, self.unit = values, season, unit
        self._sums = np.concatenate(([0.0], np.cumsum(values)))

    def scale(self, origins: Ints) -> Floats:
        """The mean of the season before each origin, or of all before it where that is next to nothing."""
        season, whole = self.mean(origins, self.season), self.mean(origins, origins)
        scale = np.where(season > 0.01 * whole, season, whole)
        return np.where(scale > 0, scale, 1.0)

    def mean(self, origins: Ints, counts: Ints | int) -> Floats:
        """The mean of so many windows before each origin, or of as many as there are."""
        starts = np.maximum(0, origins - counts)
        means: Floats = np.maximum(0.0, self._sums[origins] - self._sums[starts]) / (origins - starts)
        return means

    def around(self, places: Ints, origins: Ints) -> Floats:
        """The mean of a window and its neighbours, as far as they are before the origin; NaN before the first."""
        high = np.clip(places + 2, 1, origins)
        low = np.minimum(np.maximum(0, places - 1), high - 1)
        means = np.maximum(0.0, self._sums[high] - self._sums[low]) / (high - low)
        return np.where(places < 0, np.nan, means)


def pasts_of(known: Floats, season: int) -> list[Past]:
    """The three quantities of a series whose gaps are filled. A token count varies by chance as much as its mean."""
    sums = np.concatenate((np.zeros((1, 3)), np.cumsum(known, axis=0)))
    units = [np.ones(len(sums)), *(2.0 * sums[:, column] / np.maximum(1.0, sums[:, 0]) for column in (1, 2))]
    return [Past(known[:, column], season, np.maximum(units[column], 1e-3)) for column in range(3)]


def lag_features(past: Past, origins: Ints, leads: Ints) -> tuple[Floats, Floats, Floats, Floats]:
    """Features [pair, LAG_COUNT] of pairs (origin, lead), and each pair's last root, step and scale.

    An origin is the number of windows known; nothing from it on is read. Roots are relative to the root of the scale.
    A step is how far roots move within the lead, as a rule; differences are told in steps, so that calm and wild series
    look alike. What a network says is the distance from the last root in steps.
    """
    scale = past.scale(origins)
    last = np.sqrt(past.values[origins - 1] / scale)
    chance = 0.5 * np.sqrt(past.unit[origins] / scale)
    moved, *shares = _walked(past, origins, leads)
    roam = moved / np.sqrt(scale)
    step = roam + 0.5 * chance + 0.003
    levels = [past.mean(origins, count) for count in AVERAGED]
    levels += [past.mean(origins, count * leads) for count in LEADS_AVERAGED]
    levels += _local(past.values, origins)
    far = [np.sqrt(level / scale) - last for level in levels]
    seasons, season_count = _seasons(past, origins, leads, scale, last)
    normal = [np.clip(column / step, -NORMAL_MAX, NORMAL_MAX) for column in far + seasons]
    plain = [season_count, roam, *shares, last, np.log(leads), leads / past.season, chance]
    plain += [np.minimum(origins / past.season, 8.0), np.sqrt(past.mean(origins, 7 * past.season) / scale)]
    plain.append((past.values[origins - 1] == 0).astype(np.float64))
    return np.column_stack(normal + plain), last, step, scale


def forecast_from(steps: Floats, last: Floats, step: Floats, scale: Floats) -> Floats:
    """The counts that distances in steps stand for."""
    roots: Floats = np.maximum(0.0, last + step * steps)
    return roots**2 * scale


def _local(values: Floats, origins: Ints) -> list[Floats]:
    unique, places = np.unique(origins, return_inverse=True)
    padded = np.concatenate((np.full(MEDIANS[-1], values[0]), values[: unique[-1]]))
    windows = np.lib.stride_tricks.sliding_window_view(padded, MEDIANS[-1])[unique]
    found = [np.median(windows[:, -count:], axis=1) for count in MEDIANS]
    found += [windows[:, -SPAN_COUNT:].min(axis=1), windows[:, -SPAN_COUNT:].max(axis=1)]
    return [column[places] for column in found]


def _seasons(past: Past, origins: Ints, leads: Ints, scale: Floats, last: Floats) -> tuple[list[Floats], Floats]:
    """How seasons before went on from the same time, and how far that was from now; 0 where there was none."""
    least = -(-leads // past.season)
    then, moved = [], []
    for more in range(SEASON_COUNT):
        places = origins - 1 - (least + more) * past.season
        now = np.sqrt(past.around(places, origins) / scale)
        after = np.sqrt(past.around(places + leads, origins) / scale)
        moved.append(after - now)
        then.append(np.where(places < 0, np.nan, after - last))
    found = [np.nan_to_num(moved[more]) for more in SEASONS] + [np.nan_to_num(then[more]) for more in SEASONS]
    found += [_median(np.array(then)), _median(np.array(moved))]
    return found, (~np.isnan(moved)).sum(axis=0).astype(np.float64)


def _median(rows: Floats) -> Floats:
    """The median of each column as far as it is known, 0 where nothing is."""
    order = np.sort(rows, axis=0)
    count = np.maximum(1, (~np.isnan(rows)).sum(axis=0))
    columns = np.arange(rows.shape[1])
    middle: Floats = 0.5 * (order[(count - 1) // 2, columns] + order[count // 2, columns])
    return np.nan_to_num(middle)


def _walked(past: Past, origins: Ints, leads: Ints) -> list[Floats]:
    """How far roots moved within the lead, on average over the last season, and how far off simple forecasts of them
    were, in shares of that; interpolated in leads.
    """
    roots = np.sqrt(past.values[: int(origins.max())])
    levels = [_smoothed(past.values[: len(roots)], count) for count in WALKED]
    places = np.interp(leads, ROAMED, np.arange(len(ROAMED)))
    low, high = np.floor(places).astype(np.int64), np.ceil(places).astype(np.int64)
    rows = np.zeros((len(ROAMED), 3 + len(WALKED), len(origins)))
    for row in np.unique(np.concatenate((low, high))):
        rows[row] = _recent(past, origins, roots, levels, ROAMED[row])
    pairs = np.arange(len(origins))
    found = rows[low, :, pairs] + (places - low)[:, None] * (rows[high, :, pairs] - rows[low, :, pairs])
    moved = found[:, 0] + 1e-9
    shares = [np.clip(found[:, place] / moved, 0.0, SHARE_MAX) for place in range(1, found.shape[1])]
    return [found[:, 0], *shares]


def _recent(past: Past, origins: Ints, roots: Floats, levels: list[Floats], lead: int) -> list[Floats]:
    """Mean errors over the season before each origin: of the last value, of what the last season did from then to then,
    of the last season itself, and of levels; 0 where nothing tells.
    """
    season = past.season * -(-lead // past.season)
    moves = roots[lead:] - roots[:-lead]
    errors = [moves, moves[season:] - moves[:-season], roots[season:] - roots[:-season]]
    errors += [roots[lead:] - level[:-lead] for level in levels]
    found = []
    for one in errors:
        first = len(roots) - len(one)
        sums = np.concatenate((np.zeros(first + 1), np.cumsum(np.abs(one))))
        starts = np.minimum(origins, np.maximum(first, origins - past.season))
        found.append((sums[origins] - sums[starts]) / np.maximum(1, origins - starts))
    return found


def _smoothed(values: Floats, count: int) -> Floats:
    """The root of the mean of so many windows up to each."""
    sums = np.concatenate(([0.0], np.cumsum(values)))
    ends = np.arange(1, len(sums))
    starts = np.maximum(0, ends - count)
    level: Floats = np.sqrt(np.maximum(0.0, sums[ends] - sums[starts]) / (ends - starts))
    return level
