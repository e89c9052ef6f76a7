"""Asks one part of the system what it knows, within a deadline, and keeps its last answer and whether it is there."""

import logging
from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar

import grpc
import httpx

from forebay.metrics.page.seen import Part
from forebay.wire.errors import from_rpc_error

log = logging.getLogger(__name__)

T = TypeVar("T")
LATE_COUNT_MAX = 3
HINTS = {
    "scheduler": "gateways place by least outstanding until it is back",
    "autoscaler": "the fleet stays as it is until it is back",
    "predictor": "the scheduler's own histogram answers lengths, and there are no forecasts, until it is back",
    "gateway": "no request gets in here until it is back",
    "database": "live traffic goes on; events wait in memory, history and deferred work are away until it is back",
}


class Source(Protocol):
    """One part as the collector sees it."""

    async def refresh(self, now_us: int) -> None:
        """Asks the part if it is time; never fails."""
        ...

    def part(self) -> Part:
        """Whether it is there."""
        ...


class Asked(Generic[T]):
    """A part with its last answer: `answer` is None while it is away. It is asked once in `interval_us`.

    It is away at once where nobody listens, and where it is late, after `LATE_COUNT_MAX` times in a row: a busy machine
    must not make the page flicker.
    """

    def __init__(self, kind: str, address: str, ask: Callable[[int], Awaitable[T]], interval_us: int) -> None:
        self.answer: T | None = None
        self._kind, self._address, self._ask, self._interval_us = kind, address, ask, interval_us
        self._asked_us = 0
        self._since_us = 0
        self._late_count = 0
        self._note = ""

    async def refresh(self, now_us: int) -> None:
        """Asks the part if it is time."""
        # An early wake must not make it every other second.
        if now_us < self._asked_us + self._interval_us - self._interval_us // 5:
            return
        was_up = not self._note
        try:
            self.answer, self._note, self._late_count = await self._ask(now_us), "", 0
        except (grpc.RpcError, httpx.HTTPError, OSError, TimeoutError) as error:
            log.debug("no answer", extra={"fields": {"part": self._kind, "error": repr(error)}})
            self._failed(error)
        if not self._since_us or was_up != (not self._note):
            self._since_us = now_us
        self._asked_us = now_us

    def _failed(self, error: BaseException) -> None:
        self._late_count += 1
        if is_late(error) and self.answer is not None and self._late_count < LATE_COUNT_MAX:
            return
        self.answer, self._note = None, f"{reason_of(error)}; {HINTS[self._kind]}"

    def part(self) -> Part:
        """Whether it is there, and since when."""
        return Part(self._kind, self._address, not self._note, self._since_us, self._note)


def is_late(error: BaseException) -> bool:
    """Whether the part is there, as far as is known, and only takes too long."""
    if isinstance(error, grpc.aio.AioRpcError):
        return error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    return isinstance(error, httpx.TimeoutException | TimeoutError)


def reason_of(error: BaseException) -> str:
    """Why there was no answer, in a few words without addresses or causes of causes."""
    if isinstance(error, grpc.aio.AioRpcError):
        # What no server of ours said tells of sockets and retries.
        is_told = any(key == "grpc-status-details-bin" for key, _ in error.trailing_metadata() or ())
        return from_rpc_error(error).message if is_told else "it does not answer"
    return "it does not answer" if isinstance(error, httpx.TransportError | TimeoutError) else str(error)
