"""Keeps what outcomes teach for later training: turns them into features and writes them, off the event loop."""

import asyncio
import dataclasses
import logging
from collections import deque
from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry, Gauge

from forebay.core.errors import ConfigError, Unavailable
from forebay.core.prediction import LengthOutcome
from forebay.core.units import US_PER_S
from forebay.predictor.lengths import features
from forebay.predictor.lengths.examples import Example, ExampleStore, group_of_prompt, packed
from forebay.wire.clock import Clock

log = logging.getLogger(__name__)

BATCH_COUNT = 32
"""Outcomes that are turned into features in one go: few enough to leave the interpreter to others soon."""
RETRY_S = 2.0
PRUNE_COUNT = 500
"""Old examples go each time that so many new ones came."""


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """How many examples are kept, how old they get, and how many outcomes wait at most."""

    count_max: int
    age_s: int
    queue_max: int


class Recorder:
    """A bounded queue before the store: `offer` never waits, and what finds no room is dropped and counted."""

    def __init__(
        self, open_store: Callable[[], ExampleStore], limits: Limits, clock: Clock, registry: CollectorRegistry
    ) -> None:
        self._open_store = open_store
        self._limits = limits
        self._clock = clock
        self._queue: deque[tuple[int, LengthOutcome]] = deque()
        self._work = asyncio.Event()
        self._store: ExampleStore | None = None
        self._salt = b""
        self._unpruned_count = PRUNE_COUNT
        self._is_failing = False
        self.kept_count = 0
        self.dropped_count = 0
        for name, text, value in (
            ("kept", "Outcomes kept for training.", lambda: self.kept_count),
            ("dropped", "Outcomes not kept: no room, or the database refused them.", lambda: self.dropped_count),
            ("waiting", "Outcomes that wait to be kept.", lambda: len(self._queue)),
        ):
            Gauge(f"forebay_predictor_examples_{name}", text, registry=registry).set_function(value)

    def offer(self, outcomes: Sequence[LengthOutcome]) -> None:
        """Takes outcomes to be kept, as many as there is room for."""
        room = max(0, self._limits.queue_max - len(self._queue))
        now_us = self._clock()
        self._queue.extend((now_us, outcome) for outcome in outcomes[:room])
        self.dropped_count += max(0, len(outcomes) - room)
        self._work.set()

    async def run(self) -> None:
        """Writes for ever; while the store is down, outcomes wait."""
        while True:
            await self._work.wait()
            self._work.clear()
            await self.flush()
            if self._queue:
                await asyncio.sleep(RETRY_S)
                self._work.set()

    async def flush(self) -> None:
        """Writes what waits, until it is done or the store is down."""
        while self._queue:
            batch = [self._queue.popleft() for _ in range(min(BATCH_COUNT, len(self._queue)))]
            try:
                await asyncio.to_thread(self._write, batch)
            except (ConfigError, Unavailable) as error:
                self._put_back(batch)
                self._note(error.message)
                return
            except Exception:
                self.dropped_count += len(batch)
                log.exception("outcomes could not be kept for training")
            else:
                self.kept_count += len(batch)
                self._note("")

    def _put_back(self, batch: list[tuple[int, LengthOutcome]]) -> None:
        room = max(0, self._limits.queue_max - len(self._queue))
        self._queue.extendleft(reversed(batch[len(batch) - min(room, len(batch)) :]))
        self.dropped_count += max(0, len(batch) - room)

    def _note(self, error: str) -> None:
        if error and not self._is_failing:
            log.warning("outcomes wait to be kept for training", extra={"fields": {"error": error}})
        if self._is_failing and not error:
            log.warning("outcomes are kept for training again")
        self._is_failing = bool(error)

    def _write(self, batch: Sequence[tuple[int, LengthOutcome]]) -> None:
        if self._store is None:
            self._store = self._open_store()
            self._salt = self._store.salt()
        self._store.add(examples_of(batch, self._salt))
        self._unpruned_count += len(batch)
        if self._unpruned_count >= PRUNE_COUNT:
            self._unpruned_count = 0
            self._store.prune(self._clock() - self._limits.age_s * US_PER_S, self._limits.count_max)


def examples_of(batch: Sequence[tuple[int, LengthOutcome]], salt: bytes) -> list[Example]:
    """What is kept of outcomes that came at these times; neither prompts nor ids are."""
    rows = features.extract([outcome.query for _, outcome in batch])
    return [
        Example(
            at_us=at_us,
            query=dataclasses.replace(outcome.query, prompt_head="", request_id=""),
            generated_tokens=outcome.generated_tokens,
            censored=outcome.censored,
            group=group_of_prompt(outcome.query, salt),
            features_version=features.FEATURES_VERSION,
            cells=packed(row),
        )
        for (at_us, outcome), row in zip(batch, rows, strict=True)
    ]
