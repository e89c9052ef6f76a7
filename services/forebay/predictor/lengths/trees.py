"""A small forest grown in numpy within a fraction of a second, for what must be learnt again while the service runs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

TRIED_SHARE = 0.4
"""Of the features at each split."""
TRIED_COUNT = 3
"""Thresholds of each of them."""
LEAF = -1


@dataclass(frozen=True, slots=True)
class Tree:
    """Nodes from the root on: go to `right` where the feature is above the threshold, else to the node that follows."""

    features: Ints
    thresholds: Floats
    right: Ints
    values: Floats

    def of(self, rows: Floats) -> Floats:
        """The value of each row's leaf."""
        at = np.zeros(len(rows), dtype=np.int64)
        going = np.flatnonzero(self.features[at] != LEAF)
        while len(going):
            nodes = at[going]
            above = rows[going, self.features[nodes]] > self.thresholds[nodes]
            at[going] = np.where(above, self.right[nodes], nodes + 1)
            going = going[self.features[at[going]] != LEAF]
        found: Floats = self.values[at]
        return found


@dataclass(frozen=True, slots=True)
class Forest:
    """Trees of which each knows a part of the rows that they were grown on."""

    trees: Sequence[Tree]
    unseen: Sequence[Ints]

    def of(self, rows: Floats) -> Floats:
        """The mean of all trees; zeros where there is none."""
        if not self.trees:
            return np.zeros(len(rows))
        found: Floats = np.mean([tree.of(rows) for tree in self.trees], axis=0)
        return found

    def of_grown(self, rows: Floats) -> Floats:
        """What the rows that it was grown on would have got from trees that have not seen them."""
        sums, counts = np.zeros(len(rows)), np.zeros(len(rows))
        for tree, places in zip(self.trees, self.unseen, strict=True):
            sums[places] += tree.of(rows[places])
            counts[places] += 1
        return sums / np.maximum(counts, 1)


NOTHING = Forest((), ())
"""Moves nobody."""


def grow(rows: Floats, targets: Floats, tree_count: int, leaf_rows_min: int, chance: np.random.Generator) -> Forest:
    """Trees that take the best of some thresholds drawn at random (Geurts et al. 2006), each on a bootstrap of rows.

    Equal generators grow equal forests.
    """
    trees, unseen = [], []
    for _ in range(tree_count):
        drawn = chance.integers(0, len(rows), len(rows))
        trees.append(_tree(rows[drawn], targets[drawn], leaf_rows_min, chance))
        unseen.append(np.setdiff1d(np.arange(len(rows)), drawn))
    return Forest(trees, unseen)


def _tree(rows: Floats, targets: Floats, leaf_rows_min: int, chance: np.random.Generator) -> Tree:
    features: list[int] = []
    thresholds: list[float] = []
    right: list[int] = []
    values: list[float] = []
    # A node's left side is grown next, so it follows at once; its right side waits with whom it belongs to.
    waiting: list[tuple[Ints, int]] = [(np.arange(len(rows)), LEAF)]
    while waiting:
        places, parent = waiting.pop()
        if parent != LEAF:
            right[parent] = len(features)
        split = _split(rows[places], targets[places], leaf_rows_min, chance)
        features.append(LEAF if split is None else split[0])
        thresholds.append(0.0 if split is None else split[1])
        right.append(LEAF)
        values.append(float(targets[places].mean()))
        if split is not None:
            above = rows[places, split[0]] > split[1]
            waiting.append((places[above], len(features) - 1))
            waiting.append((places[~above], LEAF))
    return Tree(np.array(features), np.array(thresholds), np.array(right), np.array(values))


def _split(rows: Floats, targets: Floats, least: int, chance: np.random.Generator) -> tuple[int, float] | None:
    """Feature and threshold of those tried that leave least variance; None where none leaves enough on both sides."""
    if len(rows) < 2 * least or np.ptp(targets) == 0:
        return None
    varying = chance.permutation(np.flatnonzero(np.ptp(rows, axis=0) > 0))
    if not len(varying):
        return None
    tried = np.repeat(varying[: math.ceil(TRIED_SHARE * len(varying))], TRIED_COUNT)
    columns = rows[:, tried]
    thresholds = columns[chance.integers(0, len(rows), len(tried)), np.arange(len(tried))]
    above = columns > thresholds
    counts = above.sum(axis=0)
    sums, total = targets @ above, targets.sum()
    fits = (counts >= least) & (len(rows) - counts >= least)
    if not fits.any():
        return None
    kept = sums**2 / np.maximum(counts, 1) + (total - sums) ** 2 / np.maximum(len(rows) - counts, 1)
    best = int(np.argmax(np.where(fits, kept, -np.inf)))
    return int(tried[best]), float(thresholds[best])
