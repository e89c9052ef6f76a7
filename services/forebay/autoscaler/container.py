"""How an instance becomes a container: what an operator sets, and the engine's description that follows from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

HOST = "host"
COMPOSE = "com.docker.compose."
PROJECT, SERVICE, NUMBER, ONE_OFF = (COMPOSE + name for name in ("project", "service", "container-number", "oneoff"))
PORTS = ("grpc_port", "http_port", "metrics_port")
BYTES_PER_MB = 1_048_576
Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ContainerConfig:
    """The container of one instance: of an `image`, or like those of a Compose service, as `docker compose scale` does.

    `service` is PROJECT/SERVICE; its lowest-numbered container that is not ours is the pattern, may be stopped
    (`docker compose up --no-start`), and is never touched. `command` takes the place of the image's or the pattern's,
    and `environment` (KEY=VALUE) is added; both may hold {model}, {grpc_port}, {http_port} and {metrics_port}.
    `networks` replace the pattern's: in one of the engine's networks the container is reached by its name, in "host"
    under ports upwards from `port_base`, and with `publish` or without any network under ports that the engine picks on
    the host. `gpus` are the ids of the GPUs that may be given out, as many to each instance as its `gpu_count` says and
    none twice. `grpc_port`, `http_port` and `metrics_port` are those inside of a container that is not in "host".
    """

    image: str = ""
    service: str = ""
    command: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    binds: tuple[str, ...] = ()
    ulimits: tuple[str, ...] = ()
    gpus: tuple[str, ...] = ()
    shared_memory_mb: int = 0
    publish: bool = False
    grpc_port: int = 8001
    http_port: int = 8000
    metrics_port: int = 8002

    def __post_init__(self) -> None:
        if self.service and self.service.count("/") != 1:
            raise ValueError(f"container: service {self.service!r} must be PROJECT/SERVICE")
        if self.image and self.service:
            raise ValueError("container: give an image or a service, not both")
        bad = [text for text in (*self.environment, *self.ulimits) if "=" not in text]
        if bad:
            raise ValueError(f"container: {bad[0]!r} is not KEY=VALUE")
        if self.publish and HOST in self.networks:
            raise ValueError("container: ports in network 'host' are the host's own; leave publish out")

    @property
    def is_set(self) -> bool:
        """Whether it says what to start."""
        return bool(self.image or self.service)

    @property
    def pattern(self) -> Mapping[str, str]:
        """The labels of the Compose service."""
        project, _, service = self.service.partition("/")
        return {PROJECT: project, SERVICE: service}

    @property
    def ports(self) -> tuple[int, int, int]:
        """The ports inside of the container."""
        return (self.grpc_port, self.http_port, self.metrics_port)


def from_image(config: ContainerConfig) -> Body:
    """The description of a container of an image."""
    return {"Image": config.image, "Labels": {}, "HostConfig": {"NetworkMode": (*config.networks, "default")[0]}}


def from_pattern(pattern: Mapping[str, Any], number: int) -> Body:
    """The description of one more container like `pattern`, as the engine told of it."""
    settings = {key: value for key, value in pattern["Config"].items() if key not in ("Hostname", "Domainname")}
    # Of a service's containers that are not marked as one-off, `docker compose up` removes those beyond its own scale.
    labels = {**(settings.get("Labels") or {}), NUMBER: str(number), ONE_OFF: "True"}
    # The pattern's host ports are taken by the pattern, and a file is written for one container only.
    host = {
        key: value for key, value in pattern["HostConfig"].items() if key not in ("PortBindings", "ContainerIDFile")
    }
    # podman tells the limits by names that it does not take.
    limits = [{**one, "Name": one["Name"].removeprefix("RLIMIT_").lower()} for one in host.get("Ulimits") or ()]
    return {**settings, "Labels": labels, "HostConfig": {**host, "AutoRemove": False, "Ulimits": limits}}


def networks_of(config: ContainerConfig, pattern: Mapping[str, Any] | None) -> tuple[str, ...]:
    """The networks that the container shall be in; none: the engine's default one."""
    if config.networks or pattern is None:
        return config.networks
    # Not every engine tells of a network there where a container is in the host's.
    if pattern["HostConfig"]["NetworkMode"] == HOST:
        return (HOST,)
    return tuple(pattern["NetworkSettings"]["Networks"] or ())


def fit(
    body: Body,
    config: ContainerConfig,
    networks: Sequence[str],
    values: Mapping[str, str],
    gpus: Sequence[str],
    ip: str,
) -> Body:
    """Fills in what is this instance's own. `ip` is the host's address that ports are published on; empty: all."""
    host = dict(body["HostConfig"])
    body = {**body, "Env": [*(body.get("Env") or ()), *(filled(one, values) for one in config.environment)]}
    command = config.command or tuple(body.get("Cmd") or ())
    if command:
        body["Cmd"] = [filled(word, values) for word in command]
    # What ends is replaced by the autoscaler, which has to see it end.
    host["RestartPolicy"] = {"Name": "no"}
    host["Binds"] = [*(host.get("Binds") or ()), *config.binds]
    if config.shared_memory_mb:
        host["ShmSize"] = config.shared_memory_mb * BYTES_PER_MB
    if config.ulimits:
        host["Ulimits"] = [_ulimit(text) for text in config.ulimits]
    if gpus:
        host["DeviceRequests"] = [{"DeviceIDs": list(gpus), "Capabilities": [["gpu"]]}]
    if networks:
        host["NetworkMode"] = networks[0]
    body.pop("NetworkingConfig", None)
    if networks and networks[0] != HOST:
        # The name of a service stands for all of its containers.
        alias = [config.pattern[SERVICE]] if config.service else []
        body["NetworkingConfig"] = {"EndpointsConfig": {networks[0]: {"Aliases": alias}}}
    if is_published(config, networks):
        ports = [f"{port}/tcp" for port in config.ports]
        body["ExposedPorts"] = {**(body.get("ExposedPorts") or {}), **{port: {} for port in ports}}
        host["PortBindings"] = {port: [{"HostIp": ip, "HostPort": ""}] for port in ports}
    return {**body, "HostConfig": host}


def is_published(config: ContainerConfig, networks: Sequence[str]) -> bool:
    """Whether others reach it under ports of the host that the engine picks."""
    return config.publish or not networks


def filled(word: str, values: Mapping[str, str]) -> str:
    """The word with each {name} replaced."""
    for key, value in values.items():
        word = word.replace("{" + key + "}", value)
    return word


def _ulimit(text: str) -> Mapping[str, object]:
    name, _, value = text.partition("=")
    soft, _, hard = value.partition(":")
    return {"Name": name, "Soft": int(soft), "Hard": int(hard or soft)}
