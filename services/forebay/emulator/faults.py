"""Faults that can be injected into an emulated server, at its start or while it runs."""

import asyncio
import dataclasses
import math
import random
from collections.abc import Callable, Mapping

from forebay.core.errors import InvalidArgument, Unavailable


@dataclasses.dataclass(frozen=True, slots=True)
class FaultState:
    """What is wrong with a server.

    `crash`: the process ends at once. `hang`: no progress, and no answer to anything, health included. `slow`: factor
    on every iteration. `refuse`: share of new requests that are turned away as UNAVAILABLE.
    """

    crash: bool = False
    hang: bool = False
    slow: float = 1.0
    refuse: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.slow) and 0.01 <= self.slow <= 1000):
            raise ValueError(f"slow must be between 0.01 and 1000, got {self.slow}")
        if not 0 <= self.refuse <= 1:
            raise ValueError(f"refuse must be between 0 and 1, got {self.refuse}")


class Faults:
    """The faults of one server; `subscribe` hears of every change."""

    def __init__(self, crash: Callable[[], None], seed: int = 0) -> None:
        self.state = FaultState()
        self._crash = crash
        self._generator = random.Random(seed)
        self._listeners: list[Callable[[FaultState], None]] = []
        self._moving = asyncio.Event()
        self._moving.set()

    def subscribe(self, listener: Callable[[FaultState], None]) -> None:
        """Call `listener` with the state after each change."""
        self._listeners.append(listener)

    def change(self, values: Mapping[str, object]) -> FaultState:
        """Set some faults and leave the others. Raises InvalidArgument for unknown names and impossible values."""
        self.state = parse_faults(values, self.state)
        if self.state.crash:
            self._crash()
        if self.state.hang:
            self._moving.clear()
        else:
            self._moving.set()
        for listener in self._listeners:
            listener(self.state)
        return self.state

    async def gate(self) -> None:
        """Returns at once unless the server hangs, then when it goes on."""
        await self._moving.wait()

    def check_refusal(self) -> None:
        """Raises Unavailable for the share of requests that are turned away."""
        if self._generator.random() < self.state.refuse:
            raise Unavailable("server refuses new requests (injected fault)")


def parse_faults(values: Mapping[str, object], state: FaultState | None = None) -> FaultState:
    """`state` with `values` set, which may be booleans, numbers or their texts. Raises InvalidArgument."""
    fields = {field.name: field.type for field in dataclasses.fields(FaultState)}
    unknown = sorted(set(values) - set(fields))
    if unknown:
        raise InvalidArgument(f"unknown fault {unknown[0]!r}; known: {', '.join(fields)}")
    try:
        changes = {name: _convert(value, str(fields[name])) for name, value in values.items()}
        return dataclasses.replace(state or FaultState(), **changes)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise InvalidArgument(f"fault: {error}") from error


@dataclasses.dataclass(frozen=True, slots=True)
class ScheduledFault:
    """Faults to set `after_s` seconds after the start."""

    after_s: float
    values: Mapping[str, object]


def parse_fault_option(text: str) -> ScheduledFault:
    """`NAME[=VALUE][@SECONDS]` of a command line. Raises InvalidArgument."""
    fault, _, after = text.partition("@")
    name, _, value = fault.partition("=")
    values: dict[str, object] = {name: value or "1"}
    parse_faults(values)
    try:
        return ScheduledFault(float(after or 0), values)
    except ValueError as error:
        raise InvalidArgument(f"fault {text!r} is not NAME[=VALUE][@SECONDS], such as slow=2@30") from error


def _convert(value: object, type_name: str) -> bool | float:
    number = float(str(value).lower().replace("true", "1").replace("false", "0"))
    return number != 0 if "bool" in type_name else number
