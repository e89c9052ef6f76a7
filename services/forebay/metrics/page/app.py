"""The page's HTTP: its files, the stream of changes, and single decisions; it changes nothing and tells no secrets."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from forebay.core.errors import ForebayError, InvalidArgument, NotFound, ResourceExhausted
from forebay.metrics.page.feed import Feed

log = logging.getLogger(__name__)

STATIC = Path(__file__).parent / "static"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
"""No inline code or style, and nothing from elsewhere."""
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-cache"),
)
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")

Explain = Callable[[str], Awaitable[Mapping[str, Any]]]
"""The record of a decision by its id. Raises NotFound where nobody knows it, Unavailable where nobody answers."""


class Secured:
    """Adds the headers to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = [pair for pair in message["headers"] if pair[0] != b"cache-control"]
                message = {**message, "headers": [*given, *HEADERS]}
            await send(message)

        await self._app(scope, receive, sending)


def page_app(feed: Feed, explain: Explain, host: str) -> Starlette:
    """The application. On loopback it answers callers who name this machine, so that no other site can read it."""

    async def index(request: Request) -> Response:
        return FileResponse(STATIC / "index.html")

    async def events(request: Request) -> Response:
        return StreamingResponse(await feed.frames(), media_type="text/event-stream")

    async def decision(request: Request) -> Response:
        return JSONResponse(await explain(request.path_params["decision_id"]))

    routes = [
        Route("/", index),
        Route("/events", events),
        Route("/decisions/{decision_id:path}", decision),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    hosts = list(LOOPBACK) if host in ("127.0.0.1", "::1", "localhost") else ["*"]
    middleware = [
        Middleware(Secured),
        Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False),
        Middleware(GZipMiddleware, minimum_size=1_024),
    ]
    return Starlette(routes=routes, middleware=middleware, exception_handlers={ForebayError: _error})


_STATUSES = {NotFound: 404, InvalidArgument: 400, ResourceExhausted: 503}


async def _error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ForebayError)
    status = next((code for kind, code in _STATUSES.items() if isinstance(error, kind)), 503)
    return JSONResponse({"reason": error.code, "message": error.message}, status)
