"""How each configured model is launched: its command line, or its place on a running server."""

import sys
from collections.abc import Mapping
from pathlib import Path

from forebay.autoscaler.actuator import Actuator, ByModel
from forebay.autoscaler.actuator_process import ProcessActuator
from forebay.autoscaler.actuator_repository import RepositoryActuator
from forebay.autoscaler.config import Config, ModelConfig
from forebay.core.values import Batching, Instance, InstanceRole

_PORTS = ("--grpc-port", "{grpc_port}", "--http-port", "{http_port}", "--metrics-port", "{metrics_port}")


def make_actuator(config: Config, environment: Mapping[str, str]) -> Actuator:
    """The actuator that acts: local processes, and model repositories for the models that say so."""
    processes = ProcessActuator(
        commands={model.name: command_of(model, config.triton_start) for model in config.models if not model.servers},
        state_dir=Path(config.state_dir),
        port_base=config.port_base,
        environment=environment,
        grace_s=config.stop_grace_s,
    )
    templates = templates_of(config)
    if not templates:
        return processes
    repository = RepositoryActuator(templates, config.start_timeout_s, config.stop_grace_s)
    return ByModel({template.model: repository for template in templates}, otherwise=processes)


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
            region=model.region,
            profile=model.profile,
            concurrency_max=model.concurrency_max,
            kv_tokens_max=model.kv_tokens_max,
            context_tokens_max=model.context_tokens_max,
            role=InstanceRole[model.role.upper()],
            batching=Batching[model.batching.upper()],
        )
        for model in config.models
        for server_id in model.servers
    ]
