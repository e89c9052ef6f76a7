"""Starts instances as containers of a Docker engine, which knows them again after a restart by their labels."""

import asyncio
import json
import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from forebay.autoscaler import container, process
from forebay.autoscaler.actuator import Survey, pool_of
from forebay.autoscaler.container import HOST, NUMBER, PORTS, ContainerConfig
from forebay.autoscaler.docker_api import DockerApi
from forebay.core.errors import AlreadyExists, FailedPrecondition, ForebayError, NotFound, Unavailable
from forebay.core.fleet import instance_of
from forebay.core.values import Instance

FLEET, INSTANCE, HOST_PORTS, GPUS = (f"forebay.{name}" for name in ("fleet", "instance", "ports", "gpus"))
LIVING = ("running", "restarting", "paused")
GONE_WAIT_S = 10.0
POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the instances of one pool are made: their container, how many GPUs each takes, what its HTTP port speaks."""

    container: ContainerConfig
    gpu_count: int = 0
    speaks_openai: bool = False


class DockerActuator:
    """Starts one container an instance by its pool's recipe, and labels it with the `fleet` and the instance.

    Only containers with the label of the fleet are ever touched. What ended by itself is removed once its end was told;
    the reason has its last words.
    """

    def __init__(self, host: str, fleet: str, recipes: Mapping[str, Recipe], port_base: int, grace_s: float) -> None:
        self._api = DockerApi(host)
        self._fleet = fleet
        self._recipes = recipes
        self._port_base = port_base
        self._grace_s = grace_s
        self._outside = urlsplit(host).hostname if not host.startswith("unix:") else "127.0.0.1"
        self._publish_ip = "127.0.0.1" if host.startswith("unix:") else ""
        self._making = asyncio.Lock()
        self._starting: set[str] = set()
        self._published: dict[str, Instance] = {}

    async def start(self, instance: Instance) -> Instance | None:
        """Makes and starts the container; one that is there already is started and told of. Raises a ForebayError."""
        name = self._name(instance)
        self._starting.add(name)
        try:
            return await self._started(name, instance)
        finally:
            # Whatever was made and does not run is cleared away by the next survey.
            self._starting.discard(name)

    async def retire(self, instance: Instance) -> bool:
        """Always."""
        return True

    async def stop(self, instance: Instance) -> bool:
        """Stops and removes the container. Raises Unavailable when the engine does not do it."""
        name = self._name(instance)
        try:
            await self._owned(name, instance)
            await self._api.stop(name, self._grace_s)
            await self._remove(name)
        except NotFound:
            return True
        return True

    async def survey(self, expected: Collection[Instance]) -> Survey:
        """Lists the fleet's containers; nothing can be told while the engine does not answer."""
        names = {self._name(instance): instance for instance in expected}
        starting = set(self._starting)
        try:
            found = {_name_of(one): one for one in await self._api.containers({FLEET: self._fleet})}
            alive = [await self._seen(one) for one in found.values() if _lives(one)]
        except (Unavailable, NotFound):
            return Survey()
        gone: dict[str, str] = {}
        ended = [name for name in found if not _lives(found[name]) and name not in starting | self._starting]
        for name in ended:
            gone[_instance(found[name]["Labels"]).instance_id] = await self._end(name)
        for name, instance in names.items():
            if name not in found:
                gone[instance.instance_id] = "there is no container of it"
        wanted = {instance.instance_id for instance in expected}
        return Survey(
            {one.instance_id: one for one in alive}, {key: text for key, text in gone.items() if key in wanted}
        )

    async def close(self) -> None:
        """Closes the connections to the engine."""
        await self._api.close()

    async def _started(self, name: str, instance: Instance) -> Instance:
        try:
            await self._owned(name, instance)
        except NotFound:
            await self._make(name, instance)
        try:
            await self._api.start(name)
            return await self._placed(await self._api.inspect(name))
        except ForebayError:
            with suppress(ForebayError):
                await self._api.remove(name)
            raise

    async def _seen(self, listed: Mapping[str, Any]) -> Instance:
        """The instance of a container that was listed; the engine is asked at most once for its ports."""
        instance = _instance(listed["Labels"])
        if instance.grpc_address:
            return instance
        if listed["Id"] not in self._published:
            self._published[listed["Id"]] = await self._placed(await self._api.inspect(listed["Id"]))
        return self._published[listed["Id"]]

    async def _owned(self, name: str, instance: Instance) -> None:
        """Raises FailedPrecondition when the name belongs to somebody else's container, NotFound when to none."""
        labels = (await self._api.inspect(name))["Config"]["Labels"] or {}
        if labels.get(FLEET) != self._fleet or _instance(labels).instance_id != instance.instance_id:
            text = f"container {name!r} is not {instance.instance_id} of fleet {self._fleet!r}"
            raise FailedPrecondition(f"{text}; remove it or choose another fleet name")

    async def _make(self, name: str, instance: Instance) -> None:
        recipe = self._recipes.get(pool_of(instance))
        if recipe is None:
            raise FailedPrecondition(f"no container is configured for {pool_of(instance)}")
        async with self._making:
            ours = await self._api.containers({FLEET: self._fleet})
            pattern = await self._pattern(recipe.container)
            networks = container.networks_of(recipe.container, pattern)
            ports = self._ports(recipe.container, networks, ours)
            gpus = _free_gpus(recipe, ours)
            placed = self._addressed(instance, name, recipe, networks, ports)
            body = container.from_pattern(pattern, _next_number(pattern, ours)) if pattern else None
            values = {"model": instance.model, **dict(zip(PORTS, map(str, ports), strict=True))}
            body = container.fit(
                body or container.from_image(recipe.container),
                recipe.container,
                networks,
                values,
                gpus,
                self._publish_ip,
            )
            body["Labels"] = {
                **body["Labels"],
                FLEET: self._fleet,
                INSTANCE: json.dumps(asdict(placed)),
                HOST_PORTS: ",".join(map(str, ports)) if HOST in networks else "",
                GPUS: ",".join(gpus),
            }
            await self._create(name, body, recipe.container)
            for network in networks[1:]:
                await self._api.connect(network, name, {})

    async def _create(self, name: str, body: Mapping[str, Any], config: ContainerConfig) -> None:
        try:
            await self._api.create(name, body)
        except NotFound as error:
            raise FailedPrecondition(f"{error.message}; `docker pull {config.image or body['Image']}`") from error

    async def _pattern(self, config: ContainerConfig) -> Mapping[str, Any] | None:
        """The container of the Compose service that is copied; None where there is an image instead."""
        if not config.service:
            return None
        found = [one for one in await self._api.containers(config.pattern) if FLEET not in one["Labels"]]
        if not found:
            project, _, service = config.service.partition("/")
            text = f"Compose project {project!r} has no container of service {service!r}"
            raise FailedPrecondition(f"{text}; `docker compose -p {project} up --no-start {service}` makes one")
        return await self._api.inspect(_name_of(min(found, key=_number)))

    def _ports(
        self, config: ContainerConfig, networks: Sequence[str], ours: Sequence[Mapping[str, Any]]
    ) -> tuple[int, ...]:
        if HOST not in networks:
            return config.ports
        listed = ",".join(one["Labels"].get(HOST_PORTS, "") for one in ours)
        return process.free_ports(self._port_base, len(PORTS), {int(port) for port in listed.split(",") if port})

    def _addressed(
        self, instance: Instance, name: str, recipe: Recipe, networks: Sequence[str], ports: Sequence[int]
    ) -> Instance:
        """The instance with its address, which is empty as long as the engine has to pick its ports."""
        if container.is_published(recipe.container, networks):
            return instance
        return _reached(instance, recipe, str(self._outside) if HOST in networks else name, ports)

    async def _placed(self, inspected: Mapping[str, Any]) -> Instance:
        """The instance of a container with its address."""
        instance = _instance(inspected["Config"]["Labels"])
        recipe = self._recipes.get(pool_of(instance))
        if instance.grpc_address or recipe is None:
            return instance
        bound = inspected["NetworkSettings"]["Ports"] or {}
        ports = [(bound.get(f"{port}/tcp") or [{}])[0].get("HostPort", "") for port in recipe.container.ports]
        if not ports[0]:
            raise Unavailable(
                f"container {_name_of(inspected)} has no port on the host: {await self._last_words(inspected)}"
            )
        return _reached(instance, recipe, str(self._outside), ports)

    async def _end(self, name: str) -> str:
        """Why a container ended; it is removed."""
        try:
            inspected = await self._api.inspect(name)
            text = _cause(inspected["State"]) + await self._last_words(inspected)
            await self._api.remove(name)
        except ForebayError as error:
            return f"its container ended; {error.message}"
        return text

    async def _last_words(self, inspected: Mapping[str, Any]) -> str:
        words = ""
        with suppress(ForebayError):
            words = await self._api.last_words(inspected["Id"])
        return f": {words}" if words else ""

    async def _remove(self, name: str) -> None:
        for _ in range(int(GONE_WAIT_S / POLL_S)):
            with suppress(AlreadyExists):
                # A removal that is under way already is a conflict.
                await self._api.remove(name)
            await self._api.inspect(name)
            await asyncio.sleep(POLL_S)
        raise Unavailable(f"the Docker engine does not remove container {name}")

    def _name(self, instance: Instance) -> str:
        return re.sub(r"[^a-zA-Z0-9_.-]", "-", f"{self._fleet}-{instance.server_id}")


def _lives(listed: Mapping[str, Any]) -> bool:
    return listed["State"] in LIVING


def _name_of(one: Mapping[str, Any]) -> str:
    """The name of a container that was listed or inspected."""
    return str(one["Names"][0] if "Names" in one else one["Name"]).lstrip("/")


def _instance(labels: Mapping[str, str]) -> Instance:
    return instance_of(json.loads(labels[INSTANCE]))


def _reached(instance: Instance, recipe: Recipe, host: str, ports: Sequence[int | str]) -> Instance:
    """The instance where its three ports are."""
    grpc_port, http_port, metrics_port = ports
    return replace(
        instance,
        grpc_address=f"{host}:{grpc_port}",
        metrics_url=f"http://{host}:{metrics_port}/metrics",
        openai_address=f"{host}:{http_port}" if recipe.speaks_openai and http_port else "",
    )


def _number(listed: Mapping[str, Any]) -> int:
    number = str(listed["Labels"].get(NUMBER, ""))
    return int(number) if number.isdecimal() else 0


def _next_number(pattern: Mapping[str, Any], ours: Sequence[Mapping[str, Any]]) -> int:
    return 1 + max(map(_number, [{"Labels": pattern["Config"]["Labels"]}, *ours]))


def _free_gpus(recipe: Recipe, ours: Sequence[Mapping[str, Any]]) -> list[str]:
    if not recipe.container.gpus:
        return []
    taken = {gpu for one in ours for gpu in one["Labels"].get(GPUS, "").split(",")}
    free = [gpu for gpu in recipe.container.gpus if gpu not in taken]
    if len(free) < recipe.gpu_count:
        raise FailedPrecondition(
            f"{recipe.gpu_count} GPUs are needed, and {len(free)} of {recipe.container.gpus} are free"
        )
    return free[: recipe.gpu_count]


def _cause(state: Mapping[str, Any]) -> str:
    if state.get("OOMKilled"):
        return "its container was killed for want of memory"
    return f"its container {state.get('Status', 'ended')} with status {state.get('ExitCode', 0)}"
