"""uvicorn's HTTP connection with a bound on the head of a request: on its size and on the time it takes."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES_MAX = 64 * 1024


class BoundedHttp(HttpToolsProtocol):
    """Refuses a head that is larger than about HEAD_BYTES_MAX; closes a connection that needs longer than
    `head_timeout_s` for one.

    The body is bounded where it is read, and an idle connection by uvicorn itself.
    """

    def __init__(self, *, head_timeout_s: float, **settings: Any) -> None:
        super().__init__(**settings)
        self._head_timeout_s = head_timeout_s
        self._in_head = True
        self._head_bytes = 0
        self._expiry: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """A client connected: its first head is due."""
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._cancel_expiry()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parses what came; a head that goes on beyond it is counted."""
        super().data_received(data)
        if self._in_head and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX:
                self.send_400_response(f"The head of the request is larger than {HEAD_BYTES_MAX} bytes.")

    def on_message_begin(self) -> None:
        """Another request begins."""
        super().on_message_begin()
        self._expect_head()

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._in_head = False
        self._cancel_expiry()
        super().on_headers_complete()

    def _expect_head(self) -> None:
        self._in_head, self._head_bytes = True, 0
        self._cancel_expiry()
        self._expiry = self.loop.call_later(self._head_timeout_s, self._expire)

    def _expire(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()

    def _cancel_expiry(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
