"""The endpoint picker's configuration: section [gateway.picker] of forebay.toml."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class PickerConfig:
    """How requests that a proxy asks about are read. Raises ValueError for a value that makes no sense."""

    objectives: Mapping[str, Any] = field(default_factory=dict)
    """Classes by the names of llm-d's objectives (header x-llm-d-inference-objective)."""
    asks_for_usage: bool = True
    """Whether a stream whose client does not say what it wants to be told is asked for its token counts, which then do
    not reach the client; without them, one token is counted for each event."""
    response_bytes_max: int = 4 * 1024 * 1024
    """Most of an answer, or of one event of a stream, that is kept to be read; a larger one passes uncounted."""
    fallbacks_max: int = 0
    """Most endpoints that are named after the first, for a proxy that tries them in turn where one fails."""
    resolve_s: float = 5.0
    """How long the address of an instance's name is remembered."""

    def __post_init__(self) -> None:
        if not all(isinstance(one, str) for one in self.objectives.values()):
            raise ValueError('objectives must map names to classes, such as chat = "interactive-fast"')
        for name in ("response_bytes_max", "fallbacks_max", "resolve_s"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must not be negative")
