"""Lengths drawn from quantile sketches by client and time, as ServeGen publishes them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from forebay.core.errors import ConfigError
from forebay.simulator.traces.parquet import read_columns
from forebay.simulator.workload.base import Ints

Floats = npt.NDArray[np.float64]
QUANTILE_COUNT = 51
"""At 0, 2, … 100 %."""
WINDOW_S = 21_600
SIDES = ("input_tokens", "output_tokens")


@dataclass(frozen=True, slots=True)
class Side:
    """Sketches of one length, a row each: quantiles, and how the top two per cent bend between the last two.

    Between quantiles values are even. Above the 98 % quantile they are low + (high - low) · u^bend, with the bend that
    gives the mean which the source states: a straight line would inflate it several times over.
    """

    quantiles: Floats
    bends: Floats

    def draw(self, rows: Ints, rng: np.random.Generator) -> Ints:
        """A length from each of these sketches, at least 1."""
        spots = rng.random(len(rows)) * (QUANTILE_COUNT - 1)
        bins = np.minimum(spots.astype(np.int64), QUANTILE_COUNT - 2)
        part = spots - bins
        part = np.where(bins == QUANTILE_COUNT - 2, part ** self.bends[rows], part)
        low, high = self.quantiles[rows, bins], self.quantiles[rows, bins + 1]
        tokens: Ints = np.maximum(np.rint(low + (high - low) * part), 1).astype(np.int64)
        return tokens


@dataclass(frozen=True, slots=True)
class Sketches:
    """The sketches of a service; `client` and `window` say whose and when, in order of client, then window."""

    client: Ints
    window: Ints
    sides: tuple[Side, Side]

    def of(self, clients: Ints, window: int) -> Ints:
        """Each client's sketch nearest in time, the earlier of two; -1 where it has none."""
        return np.array([self._nearest(int(client), window) for client in clients], dtype=np.int64)

    def _nearest(self, client: int, window: int) -> int:
        low, high = np.searchsorted(self.client, [client, client + 1])
        if low == high:
            return -1
        return int(low + np.argmin(np.abs(self.window[low:high] - window)))


def read_sketches(path: Path) -> Sketches:
    """The sketches of a ServeGen file of lengths; rows without (the client was idle) are left out.

    Raises ConfigError for a file without any, and for quantiles that are too few, negative or out of order.
    """
    columns = [f"{side}_{part}" for side in SIDES for part in ("q", "mean")]
    table = (
        read_columns(path, ["client", "t", *columns]).drop_null().sort_by([("client", "ascending"), ("t", "ascending")])
    )
    if not len(table):
        raise ConfigError(f"{path} has no sketch; fetch the file again")
    sides = [_side(path, table.column(f"{side}_q"), table.column(f"{side}_mean").to_numpy()) for side in SIDES]
    client, t = (table.column(name).to_numpy().astype(np.int64) for name in ("client", "t"))
    return Sketches(client, t // WINDOW_S, (sides[0], sides[1]))


def _side(path: Path, lists: object, means: Floats) -> Side:
    rows = lists.to_pylist()  # type: ignore[attr-defined]
    bad = [place for place, row in enumerate(rows) if len(row) != QUANTILE_COUNT or None in row]
    if bad:
        raise ConfigError(f"{path}: a sketch has {len(rows[bad[0]])} quantiles where {QUANTILE_COUNT} are needed")
    quantiles = np.array(rows, dtype=np.float64)
    if not (np.isfinite(quantiles).all() and (quantiles >= 0).all() and (np.diff(quantiles) >= 0).all()):
        raise ConfigError(f"{path}: quantiles must be numbers that are not negative and never decrease")
    inner = (quantiles[:, :-2] + quantiles[:, 1:-1]).sum(axis=1) / 2
    low, high = quantiles[:, -2], quantiles[:, -1]
    top_mean = means * (QUANTILE_COUNT - 1) - inner
    share = np.clip((top_mean - low) / np.maximum(high - low, 1e-9), 1e-3, 1)
    return Side(quantiles, 1 / share - 1)
