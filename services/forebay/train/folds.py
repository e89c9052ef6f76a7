"""Splits examples by prompt, so that nothing is tested that was trained on, as it stands or in another frame."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

Flags = npt.NDArray[np.bool_]
Groups = npt.NDArray[np.int64]

TEST_SHARE = 0.2
CALIBRATION_SHARE = 0.1
CALIBRATION_SALT = 0x63616C
"""Keeps the draw of calibration apart from the draw of the test."""


def linked(groups: Sequence[int], ids: Sequence[str]) -> Groups:
    """The groups, joined where rows share an id that is not empty; a joined group has its smallest number."""
    parents: dict[int, int] = {}

    def root(group: int) -> int:
        while (parent := parents.get(group, group)) != group:
            parents[group] = parents.get(parent, parent)
            group = parent
        return group

    first: dict[str, int] = {}
    for group, name in zip(groups, ids, strict=True):
        one, other = root(group), root(first.setdefault(name, group) if name else group)
        parents[max(one, other)] = min(one, other)
    return np.array([root(group) for group in groups], dtype=np.int64)


def drawn(groups: Groups, share: float, seed: int) -> Flags:
    """Marks about `share` of the groups; a group keeps its mark when others come or go."""
    below: Flags = _mixed(groups, seed) < np.uint64(int(share * 2**64))
    return below


def folds(groups: Groups, count: int, seed: int = 0) -> Iterator[tuple[Flags, Flags]]:
    """Grouped cross-validation: `count` pairs of masks (fit, test); each group is tested once and fitted on else.

    Raises ValueError for fewer than two folds.
    """
    if count < 2:
        raise ValueError("cross-validation needs at least two folds")
    fold = _mixed(groups, seed) % np.uint64(count)
    for number in range(count):
        tested = fold == np.uint64(number)
        yield ~tested, tested


def _mixed(groups: Groups, seed: int) -> npt.NDArray[np.uint64]:
    """Each group as a number that is spread evenly over 64 bits (the finalizer of SplitMix64, Steele 2014)."""
    offset = (seed * 0x9E3779B97F4A7C15 + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    found = groups.astype(np.uint64) + np.uint64(offset)
    found = (found ^ (found >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    found = (found ^ (found >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: npt.NDArray[np.uint64] = found ^ (found >> np.uint64(31))
    return mixed
