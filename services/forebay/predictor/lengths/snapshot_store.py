"""Where snapshots are kept: the port, an adapter in memory, and how rows become bytes."""

import threading
import zlib
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from forebay.predictor.lengths.snapshots import Floats, Snapshot

NUMBERS_MAX = 1 << 21
"""A snapshot of more numbers is not read."""


class SnapshotStore(Protocol):
    """Keeps the newest snapshot of each name. Calls block; all raise Unavailable when the store is down."""

    def write(self, snapshots: Sequence[Snapshot], at_us: int) -> None:
        """Keeps the snapshots, all or none, in place of older ones of their names."""
        ...

    def read(self) -> list[Snapshot]:
        """All, the oldest first; one that cannot be read is left out."""
        ...

    def prune(self, before_us: int, count_max: int) -> int:
        """Deletes those that were last written before, and the oldest above `count_max`; says how many went."""
        ...


class MemorySnapshotStore:
    """Keeps snapshots while the process lives."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[int, Snapshot]] = {}
        self._lock = threading.Lock()

    def write(self, snapshots: Sequence[Snapshot], at_us: int) -> None:
        """See `SnapshotStore`."""
        with self._lock:
            self._kept |= {one.name: (at_us, one) for one in snapshots}

    def read(self) -> list[Snapshot]:
        """See `SnapshotStore`."""
        with self._lock:
            return [one for _, one in self._by_time()]

    def prune(self, before_us: int, count_max: int) -> int:
        """See `SnapshotStore`."""
        with self._lock:
            before_count = len(self._kept)
            young = [(at_us, one) for at_us, one in self._by_time() if at_us >= before_us]
            self._kept = {one.name: (at_us, one) for at_us, one in young[max(0, len(young) - count_max) :]}
            return before_count - len(self._kept)

    def _by_time(self) -> list[tuple[int, Snapshot]]:
        return sorted(self._kept.values(), key=lambda pair: (pair[0], pair[1].name))


def packed(rows: Floats) -> bytes:
    """The rows, compressed."""
    header = np.array(rows.shape, dtype="<u4").tobytes()
    return zlib.compress(header + rows.astype("<f8").tobytes(), level=1)


def unpacked(content: bytes) -> Floats:
    """The rows of `packed` again. Raises ValueError for what cannot be some."""
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(content, max_length=9 + 8 * NUMBERS_MAX)
    except zlib.error as error:
        raise ValueError(f"a snapshot that cannot be read: {error}") from error
    if not inflater.eof or len(data) < 8:
        raise ValueError("a snapshot that is cut or too large")
    count, width = np.frombuffer(data, "<u4", 2).tolist()
    if len(data) != 8 + 8 * count * width:
        raise ValueError("a snapshot that is not of its own size")
    return np.frombuffer(data, "<f8", offset=8).reshape(count, width).astype(np.float64)
