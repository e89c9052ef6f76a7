"""Client channels: keep-alive, bounded messages, retries of calls that may be repeated."""

import grpc

from forebay.wire.errors import DOMAIN
from lmaas_client.requests import SERVICE_CONFIG

MESSAGE_BYTES_MAX = 16 * 1024 * 1024

OPTIONS = [
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.initial_reconnect_backoff_ms", 100),
    # Despite its name this is how long one attempt to connect may take.
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.primary_user_agent", DOMAIN),
    ("grpc.enable_retries", 1),
    ("grpc.service_config", SERVICE_CONFIG),
]


def connect(address: str) -> grpc.aio.Channel:
    """A channel to host:port; it connects lazily and reconnects by itself. The caller closes it."""
    return grpc.aio.insecure_channel(address, options=OPTIONS)
