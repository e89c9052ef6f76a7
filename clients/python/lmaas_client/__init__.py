"""Python client of Forebay: the same verbs, asynchronous (`AsyncClient`) and blocking (`Client`).

`ForebayError` is the one exception; its `reason` is stable and its `retry_after_s` says when to come back.
"""

from lmaas_client.aio import AsyncClient
from lmaas_client.blocking import Client
from lmaas_client.channels import Tls
from lmaas_client.deferred import AsyncDeferredClient
from lmaas_client.deferred_blocking import DeferredClient
from lmaas_client.errors import ForebayError
from lmaas_client.requests import Addresses, new_request

__all__ = [
    "Addresses",
    "AsyncClient",
    "AsyncDeferredClient",
    "Client",
    "DeferredClient",
    "ForebayError",
    "Tls",
    "new_request",
]
