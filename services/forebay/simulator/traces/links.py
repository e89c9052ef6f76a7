"""Which rows of a trace wait for which: turns of sessions, and calls of agents that name what they wait for."""

from dataclasses import dataclass, field

from forebay.core.units import US_PER_MS
from forebay.simulator.traces.records import Record

MARKS = ("session_id", "wait_for")


@dataclass(slots=True)
class Links:
    """Parents, pauses and programs of rows in the order of the file.

    A row waits for the requests named in `wait_for`, which stand above it, or else for the row before it in its
    `session_id`; then for `delay` and `tool_wait_ms` (ms), or where both are left out for the time between the two
    rows' timestamps. A row that waits for nothing comes at its timestamp. A row that waits arrives, on paper, as early
    as it could if answers took no time.
    """

    arrival_us: list[int] = field(default_factory=list)
    think_us: list[int] = field(default_factory=list)
    program: list[int] = field(default_factory=list)
    parents: list[list[int]] = field(default_factory=list)
    _stamps_us: list[int | None] = field(default_factory=list)
    _requests: dict[str, int] = field(default_factory=dict)
    _sessions: dict[str, tuple[int, int]] = field(default_factory=dict)
    _program_count: int = 0

    def add(self, record: Record) -> None:
        """Takes the next row; raises ConfigError where it waits for what is not there."""
        row = len(self.arrival_us)
        session = record.text("session_id") if "session_id" in record else ""
        parents = self._parents(record, session)
        stamp_us = round(record.number("timestamp") * US_PER_MS) if "timestamp" in record or not parents else None
        think_us = self._think_us(record, parents, stamp_us) if parents else 0
        earliest_us = max((self.arrival_us[parent] for parent in parents), default=stamp_us or 0)
        self.arrival_us.append(earliest_us + think_us)
        self.think_us.append(think_us)
        self.program.append(self._program(record, session, parents))
        self.parents.append(parents)
        self._stamps_us.append(stamp_us)
        if session:
            self._sessions[session] = (row, self.program[row])
        if "request_id" in record:
            self._requests[record.text("request_id")] = row

    @property
    def is_open(self) -> bool:
        """Whether no row waits for another."""
        return not any(self.parents)

    def _parents(self, record: Record, session: str) -> list[int]:
        names = record.texts("wait_for") if "wait_for" in record else []
        if not names:
            return [self._sessions[session][0]] if session in self._sessions else []
        if any(name not in self._requests for name in names):
            raise record.wrong("wait_for", "a list of request ids that stand on lines above")
        return sorted({self._requests[name] for name in names})

    def _think_us(self, record: Record, parents: list[int], stamp_us: int | None) -> int:
        pauses = [record.number(key) for key in ("delay", "tool_wait_ms") if key in record]
        if pauses:
            return round(sum(pauses) * US_PER_MS)
        before_us = self._stamps_us[parents[-1]]
        if stamp_us is None or before_us is None:
            return 0
        if stamp_us < before_us:
            raise record.wrong("timestamp", "no earlier than that of the row it waits for")
        return stamp_us - before_us

    def _program(self, record: Record, session: str, parents: list[int]) -> int:
        if session in self._sessions:
            return self._sessions[session][1]
        if parents and not session:
            return self.program[parents[0]]
        if not session and "request_id" not in record:
            return -1
        self._program_count += 1
        return self._program_count - 1
