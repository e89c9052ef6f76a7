"""Reads the body of an HTTP request, never more of it than allowed and never for longer."""

import asyncio

from starlette.requests import Request
from starlette.types import Message

from forebay.core.errors import InvalidArgument


async def read_body(request: Request, bytes_max: int, timeout_s: float) -> bytes:
    """The body. A larger one than allowed is refused as soon as that is known, if it can be before it is read.

    Raises InvalidArgument with reason BODY_TOO_LARGE or BODY_TOO_SLOW.
    """
    _check_announced(request, bytes_max)
    body = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            async for part in request.stream():
                body += part
                if len(body) > bytes_max:
                    raise _too_large(bytes_max)
    except TimeoutError as error:
        raise too_slow() from error
    return bytes(body)


def bounded(request: Request, bytes_max: int) -> Request:
    """The same request, whose body raises InvalidArgument as soon as it is larger than allowed."""
    _check_announced(request, bytes_max)
    seen = 0

    async def receive() -> Message:
        nonlocal seen
        message = await request.receive()
        seen += len(message.get("body", b""))
        if seen > bytes_max:
            raise _too_large(bytes_max)
        return message

    return Request(request.scope, receive)


def too_slow() -> InvalidArgument:
    """The error of a body that takes too long."""
    return InvalidArgument("the body took too long to arrive; send it again", reason="BODY_TOO_SLOW")


def _check_announced(request: Request, bytes_max: int) -> None:
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > bytes_max:
        raise _too_large(bytes_max)


def _too_large(bytes_max: int) -> InvalidArgument:
    return InvalidArgument(f"the body is larger than {bytes_max} bytes; send less", reason="BODY_TOO_LARGE")
