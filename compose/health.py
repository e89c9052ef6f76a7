"""Asks grpc.health.v1 on this machine and exits 0 where it says SERVING: `health.py [PORT]`, or that of FOREBAY_LISTEN.

It speaks the few frames of HTTP/2 that one call takes (RFC 9113, RFC 7541), because a health check that imports a gRPC
library takes half a second of a core, in each container, every few seconds.
"""

import os
import socket
import sys

TIMEOUT_S = 2.0
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS = 0, 1, 4
END_STREAM, END_HEADERS = 1, 4
STREAM = 1
HEADER_BYTES = 9
METHOD_POST, SCHEME_HTTP = b"\x83", b"\x86"
"""Entries 3 and 6 of HPACK's static table."""
SERVING = b"\0\0\0\0\x02\x08\x01"
"""A message of two bytes, not compressed: HealthCheckResponse with status 1."""
FIELDS = {
    b":path": b"/grpc.health.v1.Health/Check",
    b":authority": b"localhost",
    b"content-type": b"application/grpc",
    b"te": b"trailers",
}


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One frame."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def literal(name: bytes, value: bytes) -> bytes:
    """A header field as it is, without indexing."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


def call() -> bytes:
    """All that the client says: the preface and one call with an empty message."""
    fields = METHOD_POST + SCHEME_HTTP + b"".join(literal(*one) for one in FIELDS.items())
    return b"".join(
        (
            PREFACE,
            frame(SETTINGS, 0, 0, b""),
            frame(HEADERS, END_HEADERS, STREAM, fields),
            frame(DATA, END_STREAM, STREAM, b"\0" * 5),
        )
    )


def exactly(connection: socket.socket, count: int) -> bytes:
    """So many bytes; fewer where the other side ends."""
    found = b""
    while len(found) < count and (more := connection.recv(count - len(found))):
        found += more
    return found


def is_serving(port: int) -> bool:
    """Whether what listens there says that it serves. Raises OSError where nothing listens or answers in time."""
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as connection:
        connection.sendall(call())
        said = b""
        while len(head := exactly(connection, HEADER_BYTES)) == HEADER_BYTES:
            payload = exactly(connection, int.from_bytes(head[:3], "big"))
            if int.from_bytes(head[5:], "big") != STREAM:
                continue
            said += payload if head[3] == DATA else b""
            if head[4] & END_STREAM or len(said) >= len(SERVING):
                break
    return said == SERVING


def main() -> int:
    """The exit status of the check."""
    port = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("FOREBAY_LISTEN", "").rpartition(":")[2]
    try:
        serving = is_serving(int(port))
    except (OSError, ValueError) as error:
        print(f"port {port}: {error}")
        return 1
    print("serving" if serving else f"port {port} does not say SERVING")
    return 0 if serving else 1


if __name__ == "__main__":
    sys.exit(main())
