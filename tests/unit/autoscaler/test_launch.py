"""How models are launched."""

import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from forebay.autoscaler.actuator import ByPool
from forebay.autoscaler.config import LAUNCHERS, Config, ModelConfig, ServerConfig
from forebay.autoscaler.container import ContainerConfig
from forebay.autoscaler.launch import command_of, make_actuator, templates_of
from forebay.core.config import from_mapping
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


def test_an_emulator_speaks_openai_s_protocol_and_others_where_they_are_said_to() -> None:
    assert ModelConfig(name="m").speaks_openai
    assert not ModelConfig(name="m", launcher="triton").speaks_openai
    assert ModelConfig(name="m", launcher="command", command=("serve",), serves_openai=True).speaks_openai


def test_a_server_s_openai_address_is_that_of_its_places() -> None:
    server = ServerConfig(server_id="a", grpc_address="a:1", openai_address="a:2")
    config = Config(models=(ModelConfig(name="m", launcher="repository", servers=("a",)),), servers=(server,))
    assert [one.openai_address for one in templates_of(config)] == ["a:2"]
    with pytest.raises(ValueError, match="openai_address must be host:port"):
        ServerConfig(server_id="a", grpc_address="a:1", openai_address="a")


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


def test_each_pool_gets_the_actuator_of_its_launcher() -> None:
    image = ContainerConfig(image="triton", command=("serve",))
    config = Config(
        models=(
            ModelConfig(name="m", launcher="repository", servers=("a",)),
            ModelConfig(name="m", pool="m-box", launcher="docker", container=image, arguments=("-v",)),
            ModelConfig(name="n", pool="n-eu", launcher="keda"),
            ModelConfig(name="own"),
        ),
        servers=(ServerConfig(server_id="a", grpc_address="a:1"),),
        state_dir="/nowhere",
    )
    actuator = make_actuator(config, {})
    assert isinstance(actuator, ByPool)
    assert actuator.kinds == {
        "m": "RepositoryActuator",
        "m-box": "DockerActuator",
        "n": "Elsewhere",
        "n-eu": "Elsewhere",
        "": "ProcessActuator",
    }


def test_a_model_that_is_broadcast_wants_one_on_each_of_its_servers() -> None:
    model = ModelConfig(name="m", launcher="repository", servers=("a", "b", "c"), broadcast=True, instances_max=1)
    assert model.instances_range == (3, 3)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"launcher": "docker"}, "for launcher 'docker'"),
        ({"container": ContainerConfig(image="triton")}, "for launcher 'docker'"),
        ({"broadcast": True}, "broadcast belongs to launcher 'repository'"),
        ({"memory_mb": -1}, "memory_mb must not be negative"),
    ],
)
def test_a_launcher_that_is_told_what_it_cannot_do_is_refused(values: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        ModelConfig(name="m", **values)


DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "actuators" / "README.md"


@pytest.mark.parametrize("text", re.findall(r"```toml\n(.*?)```", DOCUMENT.read_text(), re.S))
def test_the_settings_that_the_page_of_actuators_shows_are_taken(text: str) -> None:
    assert from_mapping(Config, tomllib.loads(text)["autoscaler"], "autoscaler").models


def test_the_page_of_actuators_names_every_launcher() -> None:
    page = DOCUMENT.read_text()
    assert [name for name in LAUNCHERS if f"`{name}`" not in page] == []
