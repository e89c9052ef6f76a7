"""The few calls of the Docker Engine API that starting and stopping containers takes.

Paths, codes and fields are those of Docker's public reference of the API (docs.docker.com/reference/api/engine);
podman's service answers the same calls.
"""

import json
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import httpx

from forebay.core.errors import AlreadyExists, ConfigError, FailedPrecondition, ForebayError, NotFound, Unavailable

VERSION_NEWEST = (1, 43)
SOCKET = "unix:///var/run/docker.sock"
CONNECT_TIMEOUT_S = 2.0
CALL_TIMEOUT_S = 20.0
STOP_MARGIN_S = 10.0
LOG_LINES = 3
FRAME_BYTES = 8
"""Each piece of a log comes with this many bytes before it: the stream, three zeros, and its length."""


class DockerApi:
    """One engine. `host` is unix:///path, tcp://host:port, http:// or https://.

    Speaks version 1.43 of the API, or the engine's own where that is older. Every call raises Unavailable when the
    engine does not answer in time, and otherwise what its answer means; messages are the engine's own.
    """

    def __init__(self, host: str) -> None:
        scheme, _, rest = host.partition("://")
        if scheme not in ("unix", "tcp", "http", "https") or not rest:
            raise ConfigError(f"docker_host {host!r} must be unix:///path or tcp://host:port")
        self._host = host
        transport = httpx.AsyncHTTPTransport(uds=rest) if scheme == "unix" else httpx.AsyncHTTPTransport()
        base_url = "http://docker" if scheme == "unix" else f"http://{rest}" if scheme == "tcp" else host
        timeout = httpx.Timeout(CALL_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
        self._client = httpx.AsyncClient(transport=transport, base_url=base_url, timeout=timeout)
        self._prefix = ""

    async def __aenter__(self) -> "DockerApi":
        """The engine itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes its connections."""
        await self.close()

    async def close(self) -> None:
        """Closes its connections."""
        await self._client.aclose()

    async def containers(self, labels: Mapping[str, str]) -> list[Mapping[str, Any]]:
        """All containers with these labels, whatever their state."""
        filters = {"label": [f"{name}={value}" if value else name for name, value in labels.items()]}
        answer = await self._call("GET", "/containers/json", {"all": "true", "filters": json.dumps(filters)})
        found: list[Mapping[str, Any]] = answer.json() or []
        return found

    async def inspect(self, name: str) -> Mapping[str, Any]:
        """Everything about one container, by id or name. Raises NotFound."""
        found: Mapping[str, Any] = (await self._call("GET", f"/containers/{name}/json")).json()
        return found

    async def create(self, name: str, body: Mapping[str, Any]) -> None:
        """Makes a container. Raises AlreadyExists when the name is taken, NotFound when there is no such image."""
        await self._call("POST", "/containers/create", {"name": name}, body)

    async def connect(self, network: str, name: str, endpoint: Mapping[str, Any]) -> None:
        """Puts a container into one more network."""
        await self._call("POST", f"/networks/{network}/connect", body={"Container": name, "EndpointConfig": endpoint})

    async def start(self, name: str) -> None:
        """Starts a container; one that runs is left alone."""
        await self._call("POST", f"/containers/{name}/start")

    async def stop(self, name: str, grace_s: float) -> None:
        """SIGTERM, then SIGKILL after `grace_s`; returns when it has ended, at once when it had. Raises NotFound."""
        seconds = max(1, round(grace_s))
        await self._call("POST", f"/containers/{name}/stop", {"t": str(seconds)}, timeout_s=seconds + STOP_MARGIN_S)

    async def remove(self, name: str) -> None:
        """Removes a container with its anonymous volumes, killing what still runs; one that is gone is no error."""
        try:
            await self._call("DELETE", f"/containers/{name}", {"force": "true", "v": "true"})
        except NotFound:
            return

    async def last_words(self, name: str) -> str:
        """The end of a container's output as one line; empty when there is none."""
        query = {"stdout": "true", "stderr": "true", "tail": str(LOG_LINES)}
        answer = await self._call("GET", f"/containers/{name}/logs", query)
        return " | ".join(line for line in _unframed(answer.content).splitlines() if line.strip())

    async def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        timeout_s: float = CALL_TIMEOUT_S,
    ) -> httpx.Response:
        if not self._prefix:
            version = (await self._send("GET", "/version", None, None, CALL_TIMEOUT_S)).json()["ApiVersion"]
            major, minor = min(VERSION_NEWEST, tuple(map(int, str(version).split(".")[:2])))
            self._prefix = f"/v{major}.{minor}"
        return await self._send(method, self._prefix + path, query, body, timeout_s)

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Mapping[str, Any] | None,
        timeout_s: float,
    ) -> httpx.Response:
        timeout = httpx.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S)
        try:
            answer = await self._client.request(method, path, params=query, json=body, timeout=timeout)
        except httpx.HTTPError as error:
            text = f"the Docker engine at {self._host} does not answer: {type(error).__name__} {error}"
            raise Unavailable(text.strip()) from error
        if answer.is_error:
            raise _error(answer)
        return answer


def _error(answer: httpx.Response) -> ForebayError:
    try:
        text = str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        text = answer.text or f"the Docker engine answered {answer.status_code}"
    kinds: Mapping[int, type[ForebayError]] = {
        httpx.codes.NOT_FOUND: NotFound,
        httpx.codes.CONFLICT: AlreadyExists,
        httpx.codes.SERVICE_UNAVAILABLE: Unavailable,
    }
    return kinds.get(answer.status_code, FailedPrecondition)(text)


def _unframed(content: bytes) -> str:
    """The text of a log; that of a container with a terminal has no frames."""
    if content[:1] not in (b"\x00", b"\x01", b"\x02"):
        return content.decode(errors="replace")
    pieces = []
    while content:
        length = int.from_bytes(content[4:FRAME_BYTES], "big")
        pieces.append(content[FRAME_BYTES : FRAME_BYTES + length])
        content = content[FRAME_BYTES + length :]
    return b"".join(pieces).decode(errors="replace")
