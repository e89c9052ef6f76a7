"""Waits for answers and reads streams, asynchronous and blocking: a failed call becomes a ForebayError."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from typing import Any, TypeVar

import grpc

from lmaas_client.errors import from_call

T = TypeVar("T")


async def answered(call: Awaitable[T]) -> T:
    """The answer of a call."""
    try:
        return await call
    except grpc.RpcError as error:
        raise from_call(error) from error


async def streamed(call: Any) -> AsyncGenerator[Any, None]:
    """The messages of a call; whoever stops reading ends the call."""
    try:
        async for message in call:
            yield message
    except grpc.RpcError as error:
        raise from_call(error) from error
    finally:
        call.cancel()


def answer(call: Callable[[], T]) -> T:
    """The answer of a blocking call."""
    try:
        return call()
    except grpc.RpcError as error:
        raise from_call(error) from error


def stream(call: Any) -> Iterator[Any]:
    """The messages of a blocking call; whoever stops reading ends the call."""
    try:
        yield from call
    except grpc.RpcError as error:
        raise from_call(error) from error
    finally:
        call.cancel()
