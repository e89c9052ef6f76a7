"""Keeps what the predictor has learnt across restarts: reads it at the start, and writes what changed now and then."""

import asyncio
import dataclasses
import logging
from collections.abc import Callable, Sequence

from forebay.core.errors import ConfigError, Unavailable
from forebay.core.units import US_PER_S
from forebay.predictor.engine import PredictorEngine
from forebay.predictor.lengths.snapshot_store import SnapshotStore
from forebay.predictor.lengths.snapshots import Snapshot
from forebay.wire.clock import Clock

log = logging.getLogger(__name__)

BATCH_COUNT = 32
"""Snapshots that are written in one transaction."""
COUNT_MAX = 5_000
"""Snapshots that are kept, the newest: keys that come and go would be more and more."""


@dataclasses.dataclass(frozen=True, slots=True)
class Pace:
    """How often what changed is written, and how long what does not change is kept."""

    every_s: float
    age_s: int


class Keeper:
    """Between an engine and a store; without the store the predictor goes on and begins anew after a restart."""

    def __init__(
        self, open_store: Callable[[], SnapshotStore], engine: PredictorEngine, pace: Pace, clock: Clock
    ) -> None:
        self._open_store = open_store
        self._engine = engine
        self._pace = pace
        self._clock = clock
        self._store: SnapshotStore | None = None
        self._written: dict[str, int] = {}
        self._is_failing = False

    async def restore(self) -> None:
        """Gives the engine what was kept of the predictors that are loaded; what cannot be read is left out."""
        try:
            kept = await asyncio.to_thread(self._read)
        except (ConfigError, Unavailable) as error:
            self._note(error.message)
            return
        taken = sum(self._give(one) for one in kept)
        if taken:
            log.info("learning goes on where it stopped", extra={"fields": {"snapshots": taken}})

    async def run(self) -> None:
        """Writes for ever."""
        while True:
            await asyncio.sleep(self._pace.every_s)
            try:
                await self.flush()
            except Exception:
                log.exception("what is learnt could not be written")

    async def flush(self) -> None:
        """Writes what changed since it was last written; other work goes on meanwhile."""
        batch: list[Snapshot] = []
        names: set[str] = set()
        for one in self._engine.snapshots():
            names.add(one.name)
            if self._written.get(one.name) != _mark(one):
                batch.append(one)
            if len(batch) >= BATCH_COUNT:
                await self._keep(batch)
                batch = []
            await asyncio.sleep(0)
        await self._keep(batch)
        self._written = {name: mark for name, mark in self._written.items() if name in names}

    async def _keep(self, batch: Sequence[Snapshot]) -> None:
        if not batch:
            return
        try:
            await asyncio.to_thread(self._write, batch)
        except (ConfigError, Unavailable) as error:
            self._note(error.message)
        else:
            self._written |= {one.name: _mark(one) for one in batch}
            self._note("")

    def _give(self, snapshot: Snapshot) -> bool:
        try:
            is_taken = self._engine.on_restored(snapshot)
        except Exception as error:  # a predictor of somebody else may raise anything
            log.warning("what was learnt of a key cannot be read", extra={"fields": {"error": repr(error)}})
            return False
        self._written[snapshot.name] = _mark(snapshot)
        return is_taken

    def _read(self) -> list[Snapshot]:
        store = self._opened()
        self._prune(store)
        return store.read()

    def _write(self, batch: Sequence[Snapshot]) -> None:
        store = self._opened()
        store.write(batch, self._clock())
        self._prune(store)

    def _prune(self, store: SnapshotStore) -> None:
        store.prune(self._clock() - self._pace.age_s * US_PER_S, COUNT_MAX)

    def _opened(self) -> SnapshotStore:
        if self._store is None:
            self._store = self._open_store()
        return self._store

    def _note(self, error: str) -> None:
        if error and not self._is_failing:
            log.warning("what is learnt is not kept over a restart", extra={"fields": {"error": error}})
        if self._is_failing and not error:
            log.warning("what is learnt is kept over a restart again")
        self._is_failing = bool(error)


def _mark(snapshot: Snapshot) -> int:
    return hash(snapshot.rows.tobytes())
