"""The HTTP side of an emulated Triton: health, metrics, OpenAI's protocol, and the control of injected faults.

`GET /v2/health/live`, `/v2/health/ready`, `/v2/models/NAME/ready` and `/metrics` are Triton's. `/emulator/faults` is
ours: GET tells the faults, POST sets those in its JSON object, such as `{"slow": 3}`, `{"hang": true}`,
`{"refuse": 0.5}` or `{"crash": true}`. It answers while the server hangs, and only to callers on this machine.
"""

import contextlib
import dataclasses
import json
import socket
from collections.abc import Iterator

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from forebay.core.errors import ConfigError, InvalidArgument
from forebay.emulator import metrics
from forebay.emulator.faults import Faults
from forebay.emulator.openai import OpenAiApi
from forebay.emulator.repository import Repository

_CLOSE_S = 1
_LOOPBACK = ("127.0.0.1", "::1")


class HttpApi:
    """The handlers, over one repository and its faults."""

    def __init__(self, repository: Repository, faults: Faults) -> None:
        self._repository = repository
        self._faults = faults
        self.app = Starlette(
            routes=[
                Route("/v2/health/live", self.live),
                Route("/v2/health/ready", self.ready),
                Route("/v2/models/{model}/ready", self.model_ready),
                Route("/metrics", self.metrics),
                Route("/emulator/faults", self.faults, methods=["GET", "POST"]),
                *OpenAiApi(repository, faults).routes,
            ]
        )

    async def live(self, request: Request) -> Response:
        """200 once the process is past provisioning, image and runtime; 400 before."""
        await self._faults.gate()
        return _status(self._repository.live)

    async def ready(self, request: Request) -> Response:
        """200 when every model that should be loaded is; 400 otherwise."""
        await self._faults.gate()
        return _status(self._repository.ready)

    async def model_ready(self, request: Request) -> Response:
        """200 when the model takes requests; 400 otherwise."""
        await self._faults.gate()
        name = request.path_params["model"]
        return _status(any(e.spec.name == name and e.host is not None for e in self._repository.entries()))

    async def metrics(self, request: Request) -> Response:
        """All metrics in Prometheus' text format."""
        await self._faults.gate()
        return Response(metrics.expose(self._repository), media_type=metrics.CONTENT_TYPE)

    async def faults(self, request: Request) -> Response:
        """The faults; POST changes them first."""
        if request.client is None or request.client.host not in _LOOPBACK:
            return JSONResponse({"error": "faults are set from this machine only"}, 403)
        if request.method == "POST":
            try:
                self._faults.change(_object(await request.body()))
            except InvalidArgument as error:
                return JSONResponse({"error": error.message}, 400)
        return JSONResponse(dataclasses.asdict(self._faults.state))


class HttpServer(uvicorn.Server):
    """Serves the API on sockets that are bound already; leaves signals to the composition root."""

    def __init__(self, api: HttpApi) -> None:
        config = uvicorn.Config(
            api.app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=_CLOSE_S
        )
        super().__init__(config)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises ConfigError when the address cannot be bound."""
    try:
        return socket.create_server((host, port))
    except OSError as error:
        raise ConfigError(f"cannot listen on {host}:{port}: choose another port or stop its owner") from error


def _status(good: bool) -> Response:
    return PlainTextResponse("", 200 if good else 400)


def _object(body: bytes) -> dict[str, object]:
    try:
        values = json.loads(body)
    except ValueError as error:
        raise InvalidArgument(f"body is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise InvalidArgument('body must be a JSON object, such as {"slow": 2}')
    return values
