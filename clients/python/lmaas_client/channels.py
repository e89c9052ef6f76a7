"""Opens connections to services: plaintext or TLS, with retries, keep-alive and traces."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from lmaas_client import telemetry
from lmaas_client.requests import CHANNEL_OPTIONS


@dataclass(frozen=True, slots=True)
class Tls:
    """Certificates, PEM: roots to trust, by default the system's, and the client's own where the server wants them."""

    roots: bytes | None = None
    private_key: bytes | None = None
    certificates: bytes | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """The same for gRPC."""
        return grpc.ssl_channel_credentials(self.roots, self.private_key, self.certificates)


def open_aio(address: str, tls: Tls | None, interceptors: Sequence[grpc.aio.ClientInterceptor]) -> grpc.aio.Channel:
    """An asynchronous channel to host:port; it connects lazily and reconnects by itself. The caller closes it."""
    around = [*interceptors, *telemetry.aio_interceptors()]
    if tls is None:
        return grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS, interceptors=around)
    return grpc.aio.secure_channel(address, tls.credentials(), options=CHANNEL_OPTIONS, interceptors=around)


def open_blocking(address: str, tls: Tls | None, interceptors: Sequence[Any]) -> grpc.Channel:
    """The same, blocking; the first interceptor is the outermost."""
    around = [*interceptors, *telemetry.blocking_interceptors()]
    if tls is None:
        return grpc.intercept_channel(grpc.insecure_channel(address, options=CHANNEL_OPTIONS), *around)
    channel = grpc.secure_channel(address, tls.credentials(), options=CHANNEL_OPTIONS)
    return grpc.intercept_channel(channel, *around)
