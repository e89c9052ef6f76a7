"""How each configured model is launched: its command line, its container, or its place on a running server."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from forebay.autoscaler.actuator import Actuator, ByPool, Elsewhere, Limited
from forebay.autoscaler.actuator_docker import DockerActuator, Recipe
from forebay.autoscaler.actuator_process import ProcessActuator
from forebay.autoscaler.actuator_repository import RepositoryActuator
from forebay.autoscaler.config import Config, ModelConfig
from forebay.autoscaler.container import ContainerConfig
from forebay.autoscaler.docker_api import SOCKET
from forebay.core.values import Batching, Instance, InstanceRole

START_LIMIT_S, SURVEY_LIMIT_S = 45.0, 10.0
"""Longest times for beginning a start and for looking around; what a start begins may take longer."""
STOP_MARGIN_S = 60.0
"""How long a stop may take beyond the grace of what it ends."""
_PORTS = ("--grpc-port", "{grpc_port}", "--http-port", "{http_port}", "--metrics-port", "{metrics_port}")


def make_actuator(config: Config, environment: Mapping[str, str]) -> Actuator:
    """The actuator that acts, by pool: local processes unless the launcher says otherwise; every call ends in time."""
    made = {kind: make(config, environment) for kind, make in _MAKERS.items() if _pools(config, kind)}
    limited = {kind: _limited(actuator, config) for kind, actuator in made.items()}
    by_pool = {model.pool_name: limited[kind] for kind in made for model in _pools(config, kind)}
    # An instance from before its pool had a name belongs to the first pool of its model.
    homes = {model.name: by_pool.get(model.pool_name) for model in reversed(config.models)}
    by_home = {name: actuator for name, actuator in homes.items() if actuator is not None}
    return ByPool({**by_home, **by_pool}, otherwise=_limited(_processes(config, environment), config))


def _pools(config: Config, launcher: str) -> list[ModelConfig]:
    return [model for model in config.models if model.launcher == launcher]


def _limited(actuator: Actuator, config: Config) -> Actuator:
    return Limited(actuator, START_LIMIT_S, config.stop_grace_s + STOP_MARGIN_S, SURVEY_LIMIT_S)


def _processes(config: Config, environment: Mapping[str, str]) -> Actuator:
    return ProcessActuator(
        commands={
            model.pool_name: command_of(model, config.triton_start)
            for model in config.models
            if model.launcher not in _MAKERS
        },
        state_dir=Path(config.state_dir),
        port_base=config.port_base,
        environment=environment,
        grace_s=config.stop_grace_s,
        openai=frozenset(model.pool_name for model in config.models if model.speaks_openai),
    )


def _repository(config: Config, environment: Mapping[str, str]) -> Actuator:
    return RepositoryActuator(templates_of(config), config.start_timeout_s, config.stop_grace_s)


def _docker(config: Config, environment: Mapping[str, str]) -> Actuator:
    recipes = {
        model.pool_name: Recipe(_with_arguments(model), model.hardware[1], model.speaks_openai)
        for model in _pools(config, "docker")
    }
    host = config.docker_host or environment.get("DOCKER_HOST", "") or SOCKET
    return DockerActuator(host, config.fleet, recipes, config.port_base, config.stop_grace_s)


def _with_arguments(model: ModelConfig) -> ContainerConfig:
    return replace(model.container, command=(*model.container.command, *model.arguments))


_MAKERS: Mapping[str, Callable[[Config, Mapping[str, str]], Actuator]] = {
    "repository": _repository,
    "docker": _docker,
    "keda": lambda config, environment: Elsewhere(),
}


def command_of(model: ModelConfig, triton_start: str) -> tuple[str, ...]:
    """The command line of one instance, with {grpc_port} and so on left open."""
    if model.launcher == "command":
        return (*model.command, *model.arguments)
    if model.launcher == "triton":
        return (triton_start, "--load-model", model.name, *_PORTS, *model.arguments)
    served = f"{model.name}={model.profile}" if model.profile else model.name
    return (sys.executable, "-m", "forebay.emulator", "--model", served, *_PORTS, *model.arguments)


def templates_of(config: Config) -> list[Instance]:
    """Every pair of a model and a server that it may be loaded on, as an instance."""
    servers = {server.server_id: server for server in config.servers}
    return [
        Instance(
            instance_id=f"{server_id}/{model.name}",
            model=model.name,
            grpc_address=servers[server_id].grpc_address,
            server_id=server_id,
            metrics_url=servers[server_id].metrics_url,
            openai_address=servers[server_id].openai_address,
            region=model.region,
            profile=model.profile,
            concurrency_max=model.concurrency_max,
            kv_tokens_max=model.kv_tokens_max,
            context_tokens_max=model.context_tokens_max,
            role=InstanceRole[model.role.upper()],
            batching=Batching[model.batching.upper()],
            pool=model.pool,
        )
        for model in config.models
        for server_id in model.servers
    ]
