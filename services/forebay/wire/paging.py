"""Page tokens: opaque to clients, and refused where they come with another query than the one that made them."""

import base64
import binascii
import struct
import zlib

from google.protobuf.message import Message

from forebay.core.errors import InvalidArgument


def to_token(request: Message, *numbers: int) -> str:
    """A token that holds `numbers` (64 bits each) and belongs to the query in `request`, whatever its page size."""
    packed = struct.pack(f">I{len(numbers)}q", _query(request), *numbers)
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def from_token(request: Message, count: int) -> tuple[int, ...]:
    """The `count` numbers in the request's `page_token`; none for the first page.

    Raises InvalidArgument for a token that this service did not make for this query.
    """
    token: str = getattr(request, "page_token")  # noqa: B009 - Message itself has no such field
    if not token:
        return ()
    try:
        packed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        query, *numbers = struct.unpack(f">I{len(packed) // 8}q", packed)
    except (binascii.Error, ValueError, struct.error) as error:
        raise _refused() from error
    if query != _query(request) or len(numbers) != count:
        raise _refused()
    return tuple(numbers)


def _query(request: Message) -> int:
    copy = type(request)()
    copy.CopyFrom(request)
    for field in ("page_token", "page_size"):
        copy.ClearField(field)
    return zlib.crc32(copy.SerializeToString(deterministic=True))


def _refused() -> InvalidArgument:
    text = "is not a token of this query; repeat the query it came from unchanged, or leave it empty to start over"
    return InvalidArgument(f"page_token {text}", violations={"page_token": text})
