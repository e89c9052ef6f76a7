"""Client channels: keep-alive, bounded messages, retries of calls that may be repeated."""

import grpc

from forebay.wire.errors import DOMAIN
from lmaas_client.requests import SERVICE_CONFIG

MESSAGE_BYTES_MAX = 16 * 1024 * 1024
NAME_PREFIX = "dns:"
"""Begins the address of a name that stands for several replicas."""

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
    # A container that starts again may have another address; by default its name would not be asked for 30 s.
    ("grpc.dns_min_time_between_resolutions_ms", 1_000),
    ("grpc.primary_user_agent", DOMAIN),
    ("grpc.enable_retries", 1),
    ("grpc.service_config", SERVICE_CONFIG),
]

_IN_TURN = [("grpc.lb_policy_name", "round_robin")]


def connect(address: str) -> grpc.aio.Channel:
    """A channel to host:port; it connects lazily and reconnects by itself. The caller closes it.

    Calls to `dns:host:port` go in turn to all that the name stands for.
    """
    if not address.startswith(NAME_PREFIX):
        return grpc.aio.insecure_channel(address, options=OPTIONS)
    return grpc.aio.insecure_channel(address.replace(NAME_PREFIX, f"{NAME_PREFIX}///"), options=[*OPTIONS, *_IN_TURN])
