"""A small Docker engine for tests: it answers the calls that the actuator makes by the documented rules of the API.

Containers are local processes in the host's network, so what is started is real; images are only names. `requests`
holds what was asked, and `delay_s` makes the engine slow.
"""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

VERSION = "1.43"


@dataclass(slots=True)
class Container:
    """One container; `state` is created, running or exited."""

    name: str
    body: dict[str, Any]
    log: Path
    state: str = "created"
    code: int = 0
    networks: dict[str, Any] = field(default_factory=dict)
    process: asyncio.subprocess.Process | None = None

    @property
    def labels(self) -> Mapping[str, str]:
        return dict(self.body.get("Labels") or {})

    def listed(self) -> dict[str, Any]:
        return {"Id": f"id-{self.name}", "Names": [f"/{self.name}"], "State": self.state, "Labels": self.labels}

    def inspected(self) -> dict[str, Any]:
        config = {key: value for key, value in self.body.items() if key not in ("HostConfig", "NetworkingConfig")}
        bound = (self.body["HostConfig"].get("PortBindings") or {}) if self.state == "running" else {}
        return {
            "Id": f"id-{self.name}",
            "Name": f"/{self.name}",
            "Config": {"Labels": None, "Hostname": "abc", **config},
            "HostConfig": self.body["HostConfig"],
            "State": {"Status": self.state, "ExitCode": self.code, "OOMKilled": False},
            "NetworkSettings": {
                "Networks": self.networks,
                "Ports": {port: [{"HostIp": "127.0.0.1", "HostPort": port.split("/")[0]}] for port in bound},
            },
        }


class FakeDocker:
    """One engine on a socket of its own."""

    def __init__(self, folder: Path, images: frozenset[str] = frozenset({"triton"})) -> None:
        self.host = f"unix://{folder}/docker.sock"
        self.images = images
        self.requests: list[tuple[str, str]] = []
        self.delay_s = 0.0
        self.missing_networks: set[str] = set()
        self.containers: dict[str, Container] = {}
        self._folder = folder
        routes = [
            Route("/version", self._version),
            Route("/v{version}/containers/json", self._list),
            Route("/v{version}/containers/create", self._create, methods=["POST"]),
            Route("/v{version}/containers/{name}/json", self._inspect),
            Route("/v{version}/containers/{name}/logs", self._logs),
            Route("/v{version}/containers/{name}/start", self._start, methods=["POST"]),
            Route("/v{version}/containers/{name}/stop", self._stop, methods=["POST"]),
            Route("/v{version}/containers/{name}", self._remove, methods=["DELETE"]),
            Route("/v{version}/networks/{network}/connect", self._connect, methods=["POST"]),
        ]
        self._app = Starlette(routes=routes)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["FakeDocker"]:
        """Answers until the end of the block; then all containers are killed."""
        path = self.host.removeprefix("unix://")
        server = uvicorn.Server(uvicorn.Config(self._app, uds=path, log_level="error", lifespan="off"))
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        try:
            yield self
        finally:
            server.should_exit = True
            await serving
            for container in self.containers.values():
                await self._end(container, signal.SIGKILL)

    async def kill(self, name: str) -> None:
        """Ends a container behind everybody's back."""
        await self._end(self.containers[name], signal.SIGKILL)

    async def _version(self, request: Request) -> Response:
        return JSONResponse({"ApiVersion": VERSION})

    async def _list(self, request: Request) -> Response:
        wanted = json.loads(request.query_params["filters"])["label"]
        assert request.query_params["all"] == "true"
        await self._note(request)

        def fits(one: Container, label: str) -> bool:
            name, has_value, value = label.partition("=")
            return name in one.labels and (not has_value or one.labels[name] == value)

        found = [one.listed() for one in self.containers.values() if all(fits(one, label) for label in wanted)]
        return JSONResponse(found)

    async def _create(self, request: Request) -> Response:
        await self._note(request)
        name, body = request.query_params["name"], await request.json()
        if name in self.containers:
            return _refused(409, f'Conflict. The container name "/{name}" is already in use')
        if body["Image"] not in self.images:
            return _refused(404, f"No such image: {body['Image']}")
        endpoints = (body.get("NetworkingConfig") or {}).get("EndpointsConfig") or {}
        if len(endpoints) > 1:
            return _refused(400, "Container cannot be connected to network endpoints")
        self.containers[name] = Container(name, body, self._folder / f"{name}.log", networks=dict(endpoints))
        return JSONResponse({"Id": f"id-{name}", "Warnings": []}, 201)

    async def _inspect(self, request: Request) -> Response:
        await self._note(request)
        container = self._find(request)
        return JSONResponse(container.inspected()) if container else _missing(request)

    async def _logs(self, request: Request) -> Response:
        container = self._find(request)
        if container is None:
            return _missing(request)
        lines = container.log.read_bytes().splitlines(keepends=True) if container.log.exists() else []
        frames = [b"\x01\0\0\0" + len(line).to_bytes(4, "big") + line for line in lines]
        return Response(b"".join(frames[-int(request.query_params["tail"]) :]))

    async def _start(self, request: Request) -> Response:
        await self._note(request)
        container = self._find(request)
        if container is None:
            return _missing(request)
        if container.state == "running":
            return Response(status_code=304)
        environment = {**os.environ, **dict(text.split("=", 1) for text in container.body.get("Env") or ())}
        try:
            with container.log.open("wb") as log:
                container.process = await asyncio.create_subprocess_exec(
                    *container.body["Cmd"], stdout=log, stderr=log, env=environment
                )
        except OSError as error:
            return _refused(400, f"failed to create task for container: exec: {error}")
        container.state = "running"
        return Response(status_code=204)

    async def _stop(self, request: Request) -> Response:
        await self._note(request)
        container = self._find(request)
        if container is None:
            return _missing(request)
        if container.state != "running":
            return Response(status_code=304)
        await self._end(container, signal.SIGTERM, float(request.query_params["t"]))
        return Response(status_code=204)

    async def _remove(self, request: Request) -> Response:
        await self._note(request)
        container = self._find(request)
        if container is None:
            return _missing(request)
        if container.state == "running":
            if request.query_params.get("force") != "true":
                return _refused(409, "You cannot remove a running container")
            await self._end(container, signal.SIGKILL)
        del self.containers[container.name]
        return Response(status_code=204)

    async def _connect(self, request: Request) -> Response:
        body, network = await request.json(), request.path_params["network"]
        if network in self.missing_networks:
            return _refused(404, f"network {network} not found")
        self.containers[body["Container"]].networks[network] = body["EndpointConfig"]
        return Response(status_code=200)

    async def _end(self, container: Container, number: int, grace_s: float = 10.0) -> None:
        process = container.process
        if process is None:
            return
        with suppress(ProcessLookupError):
            process.send_signal(number)
        try:
            await asyncio.wait_for(process.wait(), grace_s)
        except TimeoutError:
            process.kill()
            await process.wait()
        self._settle(container)

    def _find(self, request: Request) -> Container | None:
        for container in self.containers.values():
            self._settle(container)
        return self.containers.get(str(request.path_params["name"]).removeprefix("id-"))

    def _settle(self, container: Container) -> None:
        if container.process is not None and container.process.returncode is not None:
            code = container.process.returncode
            container.state, container.code = "exited", code if code >= 0 else 128 - code

    async def _note(self, request: Request) -> None:
        for container in self.containers.values():
            self._settle(container)
        self.requests.append((request.method, request.url.path))
        await asyncio.sleep(self.delay_s)


def _refused(status: int, text: str) -> Response:
    return JSONResponse({"message": text}, status)


def _missing(request: Request) -> Response:
    return _refused(404, f"No such container: {request.path_params['name']}")
