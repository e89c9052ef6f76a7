"""What one exchange with a proxy asks its shell to do."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from forebay.core.errors import ForebayError
from forebay.core.openai import Question
from forebay.core.values import Outcome


@dataclass(frozen=True, slots=True)
class Place:
    """Action: find an instance for the question, among those with these endpoints (None: among all)."""

    headers: Mapping[str, str] = field(repr=False)
    question: Question = field(repr=False)
    subset: frozenset[str] | None


@dataclass(frozen=True, slots=True)
class Point:
    """Action: find any instance, for a request that asks no model anything, such as a list of models."""

    headers: Mapping[str, str] = field(repr=False)
    subset: frozenset[str] | None


@dataclass(frozen=True, slots=True)
class Refuse:
    """Action: answer the client with this error; nothing else is sent of the exchange."""

    error: ForebayError


@dataclass(frozen=True, slots=True)
class SendHead:
    """Action: let the head of the request go on, to these endpoints: the first, then in turn where one fails."""

    endpoints: str


@dataclass(frozen=True, slots=True)
class SendBody:
    """Action: let this piece of the request's body go on."""

    piece: bytes = field(repr=False)
    is_last: bool


@dataclass(frozen=True, slots=True)
class SendTrailers:
    """Action: let the trailers of the request go on as they came."""


@dataclass(frozen=True, slots=True)
class ReturnHead:
    """Action: let the head of the response go on, with our headers where the request was placed."""

    is_retry_due: bool
    """Whether the client may come again at once: the instance failed, and its answer does not say when."""


@dataclass(frozen=True, slots=True)
class ReturnBody:
    """Action: let this piece of the response's body go on."""

    piece: bytes = field(repr=False)
    is_last: bool


@dataclass(frozen=True, slots=True)
class ReturnTrailers:
    """Action: let the trailers of the response go on as they came."""


@dataclass(frozen=True, slots=True)
class Served:
    """Action: the proxy says that this endpoint answers, which it may have chosen among several."""

    endpoint: str


@dataclass(frozen=True, slots=True)
class Count:
    """Action: the answer has come so far; `is_stream` says that the client sees it grow."""

    prompt_tokens: int
    tokens: int
    is_stream: bool


@dataclass(frozen=True, slots=True)
class Finish:
    """Action: the answer has ended."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Break:
    """Action: the instance failed the request, and the client sees that."""

    error: ForebayError


Action: TypeAlias = (
    Place
    | Point
    | Refuse
    | SendHead
    | SendBody
    | SendTrailers
    | ReturnHead
    | ReturnBody
    | ReturnTrailers
    | Served
    | Count
    | Finish
    | Break
)
