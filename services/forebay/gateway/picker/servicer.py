"""ExternalProcessor: Envoy's requests, each one stream, and whether the picker is ready for them."""

import asyncio
from typing import Any

from lmaas.extproc.external_processor_pb2_grpc import ExternalProcessorServicer, add_ExternalProcessorServicer_to_server

from forebay.gateway.picker.stream import Parts, Stream
from forebay.wire.server import Server

SERVICE = "envoy.service.ext_proc.v3.ExternalProcessor"
LIVENESS, READINESS = "liveness", "readiness"
_LOOK_S = 0.2


class PickerServicer(ExternalProcessorServicer):
    """Answers any number of proxies; each stream is one HTTP request."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def Process(self, requests: Any, context: Any) -> None:  # type: ignore[override]
        """Places the request, watches its answer, and ends its lease."""
        await Stream(self._parts, context).run()

    def add_to(self, server: Server) -> None:
        """Adds the service to the server."""
        add_ExternalProcessorServicer_to_server(self, server.grpc)

    async def run_health(self, server: Server) -> None:
        """Tells on the server's health service that we live, and whether we know a fleet to choose from, for ever."""
        told: bool | None = None
        await server.tell_health(LIVENESS, True)
        while True:
            is_ready = self._parts.loop.engine.fleet.seen
            if is_ready is not told:
                told = is_ready
                for name in (READINESS, SERVICE):
                    await server.tell_health(name, is_ready)
            await asyncio.sleep(_LOOK_S)
