"""What every replay of a journal needs: a clock, a wire between objects of this process, and a comparison."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, TypeAlias, TypeVar

import grpc
import numpy as np
from google.protobuf.message import Message

from forebay.core.errors import ForebayError
from forebay.predictor.engine import Answering, Learning
from forebay.simulator.shell.journal import QUESTIONS, Entry, Journal
from forebay.wire import validate

M = TypeVar("M", bound=Message)

S = 1_000_000
TURNS_MAX = 400
"""So often others get their turn while something is awaited: nothing that is replayed takes longer."""

Told: TypeAlias = tuple[str, Any, Any]
"""An event of an engine: its name, arguments and answer, all plain."""


class Clock:
    """The time that the journal gives; a shell whose clock is wrong by `shift_us` hears another one."""

    def __init__(self, shift_us: int = 0) -> None:
        self.now_us = 0
        self._shift_us = shift_us

    def __call__(self) -> int:
        """The time that the shell hears."""
        return self.now_us + self._shift_us


class Heard(Journal):
    """The journal of a live engine."""

    def __init__(self) -> None:
        super().__init__()
        self._seen_count = self._event_count = 0

    @property
    def event_count(self) -> int:
        """Events so far; questions are not among them."""
        fresh = self.entries[self._seen_count :]
        self._seen_count += len(fresh)
        self._event_count += sum(one.event not in QUESTIONS for one in fresh)
        return self._event_count


@dataclass
class Replay:
    """What a part was told and what came of it at its ports, by port; equal replays mean equal behaviour."""

    told: list[Told] = field(default_factory=list)
    done: dict[str, list[Any]] = field(default_factory=dict)

    def note(self, port: str, *values: Any) -> None:
        """Something came out."""
        self.done.setdefault(port, []).append(plain(values))


def told(entries: Iterable[Entry], part: str) -> list[Told]:
    """The events of one part, as a live engine should hear them, with all its actions."""
    found = [one for one in entries if one.part == part and one.event not in QUESTIONS]
    return [(one.event, plain(one.arguments), plain(one.answer)) for one in found]


def difference(wanted: Replay, found: Replay) -> str:
    """Where the two part, in words; empty where they are equal."""
    if text := _first("told", wanted.told, found.told):
        return text
    for port in sorted(wanted.done.keys() | found.done.keys()):
        if text := _first(port, wanted.done.get(port, []), found.done.get(port, [])):
            return text
    return ""


def _first(what: str, wanted: Sequence[Any], found: Sequence[Any]) -> str:
    for number, (left, right) in enumerate(zip(wanted, found, strict=False)):
        if left != right:
            return f"{what} {number}:\n  simulated {left}\n  live      {right}"
    if len(wanted) != len(found):
        longer = wanted if len(wanted) > len(found) else found
        extra = longer[min(len(wanted), len(found))]
        return f"{what}: {len(wanted)} simulated and {len(found)} live; the first without a twin is {extra}"
    return ""


def plain(value: Any) -> Any:
    """The value as data that compares by content: sequences as tuples, errors and work in progress by what they say."""
    match value:
        case ForebayError():
            return (type(value).__name__, value.code, value.message, value.retry_after_us, value.violations)
        case Answering():
            return ("answers", value.by.label, tuple(value.predictions))
        case Learning():
            return ("learned", tuple(value.outcomes))
        case np.generic():
            return value.item()
        case Mapping():
            return {key: plain(one) for key, one in value.items()}
        case list() | tuple():
            return tuple(plain(one) for one in value)
    if is_dataclass(value) and any(isinstance(getattr(value, one.name), ForebayError) for one in fields(value)):
        return (type(value).__name__, *(plain(getattr(value, one.name)) for one in fields(value)))
    return value


async def settle(is_done: Callable[[], bool]) -> None:
    """Lets others go on until it is done, or until it is clear that it will never be."""
    for _ in range(TURNS_MAX):
        if is_done():
            return
        await asyncio.sleep(0)


class Post:
    """Carries messages from one side to the other, as bytes."""

    def carry(self, message: M) -> M:
        """The message as the other side reads it."""
        return type(message).FromString(message.SerializeToString())


class Spy(Post):
    """Notes which fields are ever set, such as "InferenceRequest.tenant"."""

    def __init__(self) -> None:
        self.fields: dict[str, None] = {}

    def carry(self, message: M) -> M:
        """The message with nothing changed."""
        for inner in _ours(message):
            self.fields.update((f"{inner.DESCRIPTOR.name}.{one.name}", None) for one, _ in inner.ListFields())
        return super().carry(message)


class Forgetful(Post):
    """Loses one field."""

    def __init__(self, name: str) -> None:
        self._message, _, self._field = name.partition(".")

    def carry(self, message: M) -> M:
        """The message without the field."""
        carried = super().carry(message)
        for inner in list(_ours(carried)):
            if inner.DESCRIPTOR.name == self._message:
                inner.ClearField(self._field)
        return carried


def _ours(message: Message) -> Iterator[Message]:
    """The message and those of the contract inside it."""
    yield message
    for one, value in message.ListFields():
        if one.message_type is None or not one.message_type.full_name.startswith("lmaas."):
            continue
        for inner in value if isinstance(value, Sequence) else (value,):
            yield from _ours(inner)


Method: TypeAlias = Callable[[Any, Any], Any]


class Wire:
    """A channel to methods of this process, by name; the post carries each message, and rules of the contract hold.

    A method that raises an AioRpcError fails the call with it.
    """

    def __init__(self, post: Post, *servicers: object, **methods: Method) -> None:
        self._post = post
        self._servicers = servicers
        self._methods = methods

    def unary_unary(self, path: str, **codec: Any) -> Callable[..., Awaitable[Any]]:
        """A call with one request and one response."""
        method = self._find(path)

        async def call(request: Message, timeout: float | None = None) -> Any:
            received = self._post.carry(request)
            if path.startswith("/lmaas."):
                validate.check(received)
            answer: Message = await method(received, None)
            return self._post.carry(answer)

        return call

    def stream_unary(self, path: str, **codec: Any) -> Callable[..., Awaitable[Any]]:
        """A call with many requests and one response."""
        method = self._find(path)

        async def call(requests: Iterable[Message], timeout: float | None = None) -> Any:
            answer: Message = await method(_stream(map(self._post.carry, requests)), None)
            return self._post.carry(answer)

        return call

    def stream_stream(self, path: str, **codec: Any) -> Callable[..., Any]:
        """A call with many requests and many responses: the method gives the object that stands for it."""
        method = self._find(path)
        return lambda: method(None, None)

    def unary_stream(self, path: str, **codec: Any) -> Callable[..., Any]:
        """Nothing here watches by itself."""
        return self._find(path)

    async def close(self) -> None:
        """Nothing is held."""

    def _find(self, path: str) -> Method:
        name = path.rpartition("/")[2]
        for servicer in self._servicers:
            if hasattr(servicer, name):
                found: Method = getattr(servicer, name)
                return found
        return self._methods.get(name, _unimplemented)


async def _unimplemented(request: Any, context: Any) -> Any:
    raise failure(grpc.StatusCode.UNIMPLEMENTED)


def failure(code: grpc.StatusCode, text: str = "") -> grpc.aio.AioRpcError:
    """A call that failed."""
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), text)


async def _stream(messages: Iterable[Any]) -> AsyncIterator[Any]:
    for message in messages:
        yield message
