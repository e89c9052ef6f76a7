"""One HTTP request and its response as a proxy tells of them, part by part: what becomes of each."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from forebay.core.errors import Aborted, ForebayError, InvalidArgument, Unavailable
from forebay.core.openai import Question, read_question
from forebay.core.values import Outcome
from forebay.gateway.picker.answers import Reader
from forebay.gateway.picker.values import (
    Action,
    Break,
    Count,
    Finish,
    Place,
    Point,
    Refuse,
    ReturnBody,
    ReturnHead,
    ReturnTrailers,
    SendBody,
    SendHead,
    SendTrailers,
    Served,
)

PIECE_BYTES = 60_000
"""Proxies refuse pieces of a body above 64 KB."""
_ASKING = b'"stream_options":{"include_usage":true},'
_LENGTH = "length"
_BAD, _SERVER_ERROR, _TOO_MANY = 400, 500, 429


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of a body is kept, in bytes, and whether streams are asked for their token counts."""

    body_bytes_max: int
    response_bytes_max: int
    asks_for_usage: bool


class Phase(Enum):
    """What an exchange waits for."""

    HEAD = "the head of the request"
    BODY = "the body of the request"
    PLACEMENT = "an instance"
    RESPONSE = "the instance's answer"
    ENDED = "nothing: what still comes passes"


class Exchange:
    """Sans I/O. The request is kept back until its body is whole and an instance is found, then goes on unchanged.

    Every exchange that was placed ends by exactly one of Finish and Break, or by the shell when the proxy hangs up.
    With `is_duplex_response` false, the proxy sends on what it has by itself and only wants to hear so.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._phase = Phase.HEAD
        self._headers: Mapping[str, str] = {}
        self._subset: frozenset[str] | None = None
        self._body = bytearray()
        self._has_body = False
        self._has_trailers = False
        self._question: Question | None = None
        self._asks_for_usage = False
        self._is_duplex_response = True
        self._reader: Reader | None = None

    def on_request_head(
        self,
        headers: Mapping[str, str],
        subset: frozenset[str] | None,
        is_last: bool,
        is_duplex: bool = True,
        is_duplex_response: bool = True,
    ) -> list[Action]:
        """The head came; `is_last`: without a body."""
        self._headers, self._subset, self._is_duplex_response = headers, subset, is_duplex_response
        if not is_duplex and not is_last:
            text = "the proxy must send the request's body to the endpoint picker in mode FULL_DUPLEX_STREAMED"
            return self._refuse(Unavailable(f"{text}; mend its configuration", reason="PROXY_MISCONFIGURED"))
        if is_last:
            self._phase = Phase.PLACEMENT
            return [Point(headers, subset)]
        self._phase, self._has_body = Phase.BODY, True
        return []

    def on_request_body(self, piece: bytes, is_last: bool) -> list[Action]:
        """A piece of the body came."""
        if self._phase is not Phase.BODY:
            return []
        self._body += piece
        if len(self._body) > self._limits.body_bytes_max:
            text = f"the body is larger than {self._limits.body_bytes_max} bytes; send less"
            return self._refuse(InvalidArgument(text, reason="BODY_TOO_LARGE"))
        return self._ask() if is_last else []

    def on_request_trailers(self) -> list[Action]:
        """Trailers came after the body."""
        if self._phase is not Phase.BODY:
            return [SendTrailers()]
        self._has_trailers = True
        return self._ask()

    def on_found(self, endpoints: str) -> list[Action]:
        """There is an instance; the request goes to its endpoint."""
        self._phase = Phase.RESPONSE
        actions: list[Action] = [SendHead(endpoints), *(self._pieces() if self._has_body else ())]
        self._body.clear()
        return [*actions, SendTrailers()] if self._has_trailers else actions

    def on_refused(self, error: ForebayError) -> list[Action]:
        """There is no instance."""
        return self._refuse(error)

    def on_response_head(self, status: int, headers: Mapping[str, str], served: str, is_last: bool) -> list[Action]:
        """The instance, or the proxy in its place, answers."""
        named = (headers.get("content-type", ""), headers.get("content-encoding", ""))
        strips_usage = self._asks_for_usage and self._is_duplex_response
        self._reader = Reader(*named, self._limits.response_bytes_max, strips_usage)
        actions: list[Action] = [Served(served)] if served else []
        if status >= _BAD:
            actions += self._break(_failure(status))
        if is_last:
            actions += self._end()
        is_retry_due = status >= _SERVER_ERROR and "retry-after" not in headers
        return [*actions, ReturnHead(is_retry_due)]

    def on_response_body(self, piece: bytes, is_last: bool) -> list[Action]:
        """A piece of the answer came."""
        reader = self._reader
        if reader is None:
            return [ReturnBody(piece, is_last)]
        before = reader.tokens
        passing = reader.take(piece, is_last)
        actions: list[Action] = []
        if reader.tokens > before or (is_last and reader.prompt_tokens):
            actions.append(Count(reader.prompt_tokens, reader.tokens, reader.is_stream))
        # Clients leave as soon as they have read the end, before the proxy sees that of the body.
        if is_last or reader.is_done or reader.failure:
            actions += self._end()
        if passing or is_last or not self._is_duplex_response:
            actions += [ReturnBody(part, is_end) for part, is_end in _cut(passing, is_last)]
        return actions

    def on_response_trailers(self) -> list[Action]:
        """Trailers came after the answer."""
        return [*self._end(), ReturnTrailers()]

    def _ask(self) -> list[Action]:
        try:
            question = read_question(bytes(self._body))
        except InvalidArgument as error:
            return self._refuse(error)
        self._phase, self._question = Phase.PLACEMENT, question
        is_silent = question.is_stream and not question.asks_options
        self._asks_for_usage = self._limits.asks_for_usage and is_silent and self._is_duplex_response
        return [Place(self._headers, question, self._subset)]

    def _pieces(self) -> list[Action]:
        body = bytes(self._body)
        if self._asks_for_usage:
            begin = body.index(b"{") + 1
            body = body[:begin] + _ASKING + body[begin:]
        return [SendBody(part, is_end) for part, is_end in _cut(body, not self._has_trailers)]

    def _refuse(self, error: ForebayError) -> list[Action]:
        self._phase = Phase.ENDED
        self._body.clear()
        return [Refuse(error)]

    def _break(self, error: ForebayError) -> list[Action]:
        if self._phase is Phase.ENDED:
            return []
        self._phase = Phase.ENDED
        return [Break(error)]

    def _end(self) -> list[Action]:
        if self._phase is Phase.ENDED or self._reader is None:
            return []
        if self._reader.failure:
            return self._break(Aborted(f"the instance failed: {self._reader.failure[:500]}"))
        if not self._reader.is_whole:
            return self._break(Aborted("the instance ended its answer without a last token; try again"))
        self._phase = Phase.ENDED
        return [Finish(Outcome.LENGTH if self._reader.finish_reason == _LENGTH else Outcome.STOPPED)]


def _cut(body: bytes, is_last: bool) -> Iterator[tuple[bytes, bool]]:
    """The body in pieces that a proxy takes, the last of which may be the last of all."""
    starts = range(0, max(1, len(body)), PIECE_BYTES)
    for start in starts:
        yield body[start : start + PIECE_BYTES], is_last and start == starts[-1]


def _failure(status: int) -> ForebayError:
    if status < _SERVER_ERROR and status != _TOO_MANY:
        return InvalidArgument(f"the model refused the request with HTTP {status}", reason="REFUSED_BY_MODEL")
    return Aborted(f"the instance, or the proxy in its place, answered with HTTP {status}; try again")
