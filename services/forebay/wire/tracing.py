"""Spans as the shells see them; whether any is recorded is settled once, when a service starts.

The header names and their values are those of W3C Trace Context (https://www.w3.org/TR/trace-context/).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal, Protocol, TypeAlias

from forebay.core.errors import ForebayError

TRACEPARENT, TRACESTATE = "traceparent", "tracestate"
Kind: TypeAlias = Literal["server", "client", "internal"]
Attributes: TypeAlias = Mapping[str, str | int | float | bool | Sequence[str]]
NOTHING: Attributes = {}


class Span(Protocol):
    """One step of a traced request. Nothing here waits or fails; it is ended exactly once, and then left alone."""

    @property
    def traceparent(self) -> str:
        """What a message carries so that the next service hangs its spans under this one."""
        ...

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The same for the metadata of a call, with the vendors' state."""
        ...

    def child(self, name: str, kind: Kind, attributes: Attributes = NOTHING) -> "Span":
        """Begins a step of this one."""
        ...

    def note(self, event: str, attributes: Attributes = NOTHING, at_us: int = 0) -> None:
        """Marks a moment: now, or the one that is given in microseconds since 1970."""
        ...

    def set(self, attributes: Attributes) -> None:
        """Adds attributes."""
        ...

    def end(self, error: str = "") -> None:
        """Ends the step; `error` is the stable reason of what went wrong."""
        ...


class Tracer(Protocol):
    """Begins spans."""

    @property
    def is_on(self) -> bool:
        """Whether any span may be recorded."""
        ...

    def begin(self, name: str, kind: Kind, headers: Mapping[str, str], attributes: Attributes = NOTHING) -> Span | None:
        """Begins a span under the one that the headers name, or a trace; None where it is not to be recorded.

        Headers that do not parse count as none.
        """
        ...

    def close(self, timeout_s: float) -> None:
        """Delivers what is there within the time; what is left then is lost. Blocks."""
        ...


class Off:
    """Records nothing."""

    is_on = False

    def begin(self, name: str, kind: Kind, headers: Mapping[str, str], attributes: Attributes = NOTHING) -> None:
        """None."""

    def close(self, timeout_s: float) -> None:
        """Nothing is there."""


OFF: Tracer = Off()

_CURRENT: ContextVar[Span | None] = ContextVar("forebay_span", default=None)


def current() -> Span | None:
    """The span of the call that this task answers, if it is recorded."""
    return _CURRENT.get()


@contextmanager
def answering(span: Span) -> Iterator[None]:
    """Makes a span current for a block, ends it with the block, and notes the error that the block raised."""
    token, error = _CURRENT.set(span), ""
    try:
        yield
    except BaseException as raised:
        error = raised.code if isinstance(raised, ForebayError) else type(raised).__name__
        raise
    finally:
        _CURRENT.reset(token)
        span.end(error)


def server_of(address: str) -> Attributes:
    """The attributes that name the server at host:port."""
    host, _, port = address.rpartition(":")
    return {"server.address": host, "server.port": int(port)} if port.isdecimal() else {"server.address": address}
