"""How models are launched."""

import sys

from forebay.autoscaler.config import Config, ModelConfig, ServerConfig
from forebay.autoscaler.launch import command_of, templates_of
from forebay.core.values import InstanceRole

PORTS = ("--grpc-port", "{grpc_port}", "--http-port", "{http_port}", "--metrics-port", "{metrics_port}")


def test_an_emulator_serves_the_model_with_its_profile() -> None:
    model = ModelConfig(name="m", profile="A100-80G/Llama-3-8B/tp1", arguments=("--time-scale", "2"))
    served = (sys.executable, "-m", "forebay.emulator", "--model", "m=A100-80G/Llama-3-8B/tp1")
    assert command_of(model, "") == (*served, *PORTS, "--time-scale", "2")


def test_a_real_triton_loads_the_model() -> None:
    model = ModelConfig(name="smollm2", launcher="triton")
    assert command_of(model, "start.sh") == ("start.sh", "--load-model", "smollm2", *PORTS)


def test_any_command_is_taken_as_it_is() -> None:
    model = ModelConfig(name="m", launcher="command", command=("serve", "{model}"), arguments=("-v",))
    assert command_of(model, "") == ("serve", "{model}", "-v")


def test_a_repository_model_has_a_place_on_each_of_its_servers() -> None:
    config = Config(
        models=(ModelConfig(name="m", launcher="repository", servers=("a", "b")), ModelConfig(name="n")),
        servers=tuple(ServerConfig(server_id=name, grpc_address=f"{name}:1") for name in "abc"),
    )
    assert [(one.instance_id, one.grpc_address) for one in templates_of(config)] == [("a/m", "a:1"), ("b/m", "b:1")]


def test_a_place_has_the_role_of_its_model() -> None:
    model = ModelConfig(name="m", launcher="repository", servers=("a",), role="batch")
    config = Config(models=(model,), servers=(ServerConfig(server_id="a", grpc_address="a:1"),))
    assert [one.role for one in templates_of(config)] == [InstanceRole.BATCH]
