"""The description of a container that the engine gets."""

import pytest

from forebay.autoscaler.container import (
    NUMBER,
    ONE_OFF,
    SERVICE,
    ContainerConfig,
    fit,
    from_image,
    from_pattern,
    networks_of,
)
from forebay.core.config import from_mapping
from forebay.core.errors import ConfigError

VALUES = {"model": "m", "grpc_port": "7300"}
PATTERN = {
    "Config": {
        "Hostname": "0a1b",
        "Image": "triton:24.10",
        "Cmd": ["tritonserver", "--grpc-port", "{grpc_port}"],
        "Env": ["A=1"],
        "Labels": {NUMBER: "1", SERVICE: "llm", "com.docker.compose.config-hash": "abc"},
    },
    "HostConfig": {
        "NetworkMode": "demo_default",
        "PortBindings": {"8001/tcp": [{"HostPort": "8001"}]},
        "RestartPolicy": {"Name": "always"},
        "ShmSize": 1_000,
        "Binds": ["/models:/models:ro"],
        "AutoRemove": True,
        "ContainerIDFile": "",
    },
    "NetworkSettings": {"Networks": {"demo_default": {}, "demo_gpu": {}}},
}


def test_an_image_gets_its_command_ports_and_limits() -> None:
    config = ContainerConfig(
        image="triton",
        command=("serve", "{model}", "{grpc_port}"),
        environment=("PORT={grpc_port}",),
        networks=("llm",),
        binds=("/models:/models",),
        ulimits=("memlock=-1", "nofile=10:20"),
        shared_memory_mb=64,
    )
    body = fit(from_image(config), config, networks_of(config, None), VALUES, ("3", "5"), "127.0.0.1")
    assert body == {
        "Image": "triton",
        "Labels": {},
        "Cmd": ["serve", "m", "7300"],
        "Env": ["PORT=7300"],
        "NetworkingConfig": {"EndpointsConfig": {"llm": {"Aliases": []}}},
        "HostConfig": {
            "NetworkMode": "llm",
            "Binds": ["/models:/models"],
            "ShmSize": 64 * 1_048_576,
            "RestartPolicy": {"Name": "no"},
            "Ulimits": [
                {"Name": "memlock", "Soft": -1, "Hard": -1},
                {"Name": "nofile", "Soft": 10, "Hard": 20},
            ],
            "DeviceRequests": [{"DeviceIDs": ["3", "5"], "Capabilities": [["gpu"]]}],
        },
    }


def test_without_a_network_its_ports_are_published_on_the_host() -> None:
    config = ContainerConfig(image="triton")
    body = fit(from_image(config), config, (), {}, (), "127.0.0.1")
    assert body["HostConfig"]["NetworkMode"] == "default"
    assert body["HostConfig"]["PortBindings"] == {
        f"{port}/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}] for port in (8001, 8000, 8002)
    }
    assert set(body["ExposedPorts"]) == {"8001/tcp", "8000/tcp", "8002/tcp"}


def test_one_more_of_a_service_is_like_its_pattern_but_for_what_only_one_can_have() -> None:
    config = ContainerConfig(service="demo/llm")
    networks = networks_of(config, PATTERN)
    body = fit(from_pattern(PATTERN, 4), config, networks, VALUES, (), "127.0.0.1")
    assert networks == ("demo_default", "demo_gpu")
    assert (body["Image"], body["Cmd"], body["Env"]) == (
        "triton:24.10",
        ["tritonserver", "--grpc-port", "7300"],
        ["A=1"],
    )
    assert body["Labels"][NUMBER] == "4"
    assert body["Labels"]["com.docker.compose.config-hash"] == "abc"
    assert body["Labels"][ONE_OFF] == "True"
    assert body["NetworkingConfig"] == {"EndpointsConfig": {"demo_default": {"Aliases": ["llm"]}}}
    host = body["HostConfig"]
    assert (host["ShmSize"], host["Binds"]) == (1_000, ["/models:/models:ro"])
    assert (host["RestartPolicy"], host["AutoRemove"]) == ({"Name": "no"}, False)
    assert not {"PortBindings", "ContainerIDFile"} & set(host)
    assert "Hostname" not in body
    assert PATTERN["Config"]["Labels"][NUMBER] == "1"  # type: ignore[index]


def test_in_the_network_of_the_host_there_is_no_endpoint() -> None:
    config = ContainerConfig(image="triton", networks=("host",))
    body = fit(from_image(config), config, ("host",), {}, (), "")
    assert body["HostConfig"]["NetworkMode"] == "host"
    assert "NetworkingConfig" not in body
    assert "PortBindings" not in body["HostConfig"]


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"image": "a", "service": "p/s"}, "not both"),
        ({"service": "llm"}, "PROJECT/SERVICE"),
        ({"image": "a", "environment": ["X"]}, "KEY=VALUE"),
        ({"image": "a", "networks": ["host"], "publish": True}, "leave publish out"),
    ],
)
def test_a_container_that_cannot_be_is_refused(values: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        from_mapping(ContainerConfig, values, "autoscaler.models[0].container")
