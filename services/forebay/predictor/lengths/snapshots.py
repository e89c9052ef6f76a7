"""What of the predictor's learning outlives a restart: numbers by key, never a prompt's text."""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from forebay.core.prediction import PredictorModel

EVERYBODY = "*"
"""Owner of what is kept of all predictors together."""
KEYS_MAX = 200
"""Keys that are kept of each kind and predictor: those with the newest outcomes."""

Floats = npt.NDArray[np.float64]
Key: TypeAlias = tuple[str, ...]
"""Served model and application, the model alone, or nothing for all."""
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one part of the predictor has learnt of one key; `rows` are its newest outcomes, the oldest of them first.

    `owner` names the predictor with the digest of its file (`owner_of`), so that another model never takes it over, and
    `kind` the part: "policy", "bounds" or "figures".
    """

    owner: str
    kind: str
    key: Key
    rows: Floats

    @property
    def name(self) -> str:
        """Tells snapshots apart: the SHA-256 of owner, kind and key."""
        return hashlib.sha256(json.dumps([self.owner, self.kind, self.key]).encode()).hexdigest()


def owner_of(model: PredictorModel) -> str:
    """A predictor as snapshots name it."""
    label = f"{model.name}@{model.version}" if model.version else model.name
    return f"{label}#{model.digest_sha256[:16]}" if model.digest_sha256 else label


def newest(kept: "OrderedDict[Key, V]") -> Iterator[tuple[Key, V]]:
    """The last `KEYS_MAX` entries as they are at the start, though more come meanwhile."""
    yield from list(kept.items())[-KEYS_MAX:]


def table(rows: Sequence[Sequence[float]], width: int) -> Floats:
    """Rows of numbers as an array."""
    return np.array(rows, dtype=np.float64).reshape(-1, width)


def checked(rows: Floats, width: int) -> list[list[float]]:
    """Rows as they were given to `table`. Raises ValueError for other ones."""
    if rows.ndim != 2 or rows.shape[1] != width or not np.isfinite(rows).all():
        raise ValueError(f"a snapshot of shape {rows.shape} where rows of {width} finite numbers were kept")
    found: list[list[float]] = rows.tolist()
    return found
