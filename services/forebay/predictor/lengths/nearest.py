"""The corrections of all served models and applications, and which of them an unknown one starts from."""

from collections import OrderedDict
from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from forebay.core.values import InferenceRequest
from forebay.predictor.lengths.correction import AS_IS, Correction, Seen, Window
from forebay.predictor.lengths.features import model_parts
from forebay.predictor.lengths.snapshots import newest

Floats = npt.NDArray[np.float64]
Key: TypeAlias = tuple[str, ...]
"""Model and application, the model alone, or nothing for all."""

ALL: Key = ()
KEYS_MAX = 1_000


class Corrections:
    """A window of outcomes for each key; a key with fewer than `count_min` starts from the nearest known one.

    That is the application under the model whose name is most alike, then the model whatever the application, then the
    models of like names, then all together.
    """

    def __init__(self, window_count: int, count_min: int) -> None:
        self._window_count = window_count
        self._count_min = count_min
        self._windows: OrderedDict[Key, Window] = OrderedDict()
        self._nearest: dict[Key, Key] = {}

    def __len__(self) -> int:
        return len(self._windows)

    def of(self, query: InferenceRequest) -> Correction:
        """What corrects the predictions of such queries now."""
        key = _keys(query)[0]
        own = self._windows.get(key)
        if own is not None and own.known:
            return own.correction()
        if key not in self._nearest:
            # Queries alone name keys too, so what is kept of them must end somewhere.
            if len(self._nearest) >= KEYS_MAX:
                self._nearest.clear()
            self._nearest[key] = self._find(key)
        base = self._base(self._nearest[key])
        return base if own is None else own.correction(base)

    def add(self, query: InferenceRequest, seen: Seen) -> None:
        """Takes an outcome into the windows of the application, the model and all."""
        for key in _keys(query):
            window = self._window(key)
            known = window.known
            window.add(seen)
            if window.known != known:
                self._nearest.clear()

    def saved(self) -> Iterator[tuple[Key, Floats]]:
        """What was learnt, a key at a time."""
        for key, window in newest(self._windows):
            yield key, window.saved()

    def restore(self, key: Key, rows: Floats) -> None:
        """Takes what was saved of a key. Raises ValueError for what was not."""
        window = Window(self._window_count, self._count_min)
        window.restore(rows)
        self._windows[key] = window
        self._nearest.clear()

    def _base(self, key: Key) -> Correction:
        window = self._windows.get(key)
        return AS_IS if window is None else window.correction()

    def _find(self, key: Key) -> Key:
        known = [other for other, window in self._windows.items() if window.known and other not in (ALL, key)]
        near = [(likeness, other) for other in known if (likeness := _likeness(key, other)) > (0, 0.0)]
        return max(near, default=((0, 0.0), ALL))[1]

    def _window(self, key: Key) -> Window:
        if key not in self._windows:
            self._windows[key] = Window(self._window_count, self._count_min)
            if len(self._windows) > KEYS_MAX and self._windows.popitem(last=False)[1].known:
                self._nearest.clear()
        self._windows.move_to_end(key)
        return self._windows[key]


def _keys(query: InferenceRequest) -> tuple[Key, ...]:
    """From narrow to wide."""
    model = (query.model,)
    return ((query.model, query.application), model, ALL) if query.application else (model, ALL)


def _likeness(key: Key, other: Key) -> tuple[int, float]:
    """How near a known key is, more being nearer; not above (0, 0) for one that tells nothing."""
    names = _shared(key[0], other[0])
    if key[1:] and key[1:] == other[1:]:
        return 3, names
    if other[1:]:
        return 0, 0.0
    return (2, 1.0) if key[0] == other[0] else (1 if names else 0, names)


def _shared(one: str, other: str) -> float:
    """Share of the parts of two models' names that both have."""
    left, right = set(model_parts(one)), set(model_parts(other))
    return len(left & right) / max(1, len(left | right))
