"""Keeps what every engine was told and what it answered, for whoever wants to tell it again elsewhere."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

E = TypeVar("E")

QUESTIONS = frozenset({"snapshot", "queues", "lease_count", "pressure"})
"""What one part asks an engine of its own and hands to another part: that is as good as an action."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One event or question of one engine: `arguments` as they were passed (the time among them), `answer` what came
    back."""

    part: str
    event: str
    arguments: tuple[Any, ...]
    now_us: int
    answer: Any


class Journal:
    """The entries of a run, oldest first."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def watch(self, part: str, engine: E, now_us: Callable[[], int]) -> E:
        """The engine with every event (an `on_...` method) and question written down; nothing else changes."""
        watched: Any = _Watched(self, part, engine, now_us)
        return watched  # type: ignore[no-any-return]


class _Watched:
    """Stands before an engine."""

    def __init__(self, journal: Journal, part: str, engine: Any, now_us: Callable[[], int]) -> None:
        self._journal = journal
        self._part = part
        self._engine = engine
        self._now_us = now_us

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._engine, name)
        if not name.startswith("on_") and name not in QUESTIONS:
            return found

        def told(*arguments: Any) -> Any:
            now_us = self._now_us()
            answer = found(*arguments)
            kept = tuple(answer) if isinstance(answer, list) else answer
            self._journal.entries.append(Entry(self._part, name, arguments, now_us, kept))
            return answer

        return told
