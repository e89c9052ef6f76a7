"""What the Docker actuator asks of an engine, and what it makes of the engine's answers."""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from forebay.autoscaler.actuator import Survey
from forebay.autoscaler.actuator_docker import DockerActuator, Recipe
from forebay.autoscaler.config import ModelConfig
from forebay.autoscaler.container import NUMBER, PROJECT, SERVICE, ContainerConfig, fit, from_image
from forebay.autoscaler.docker_api import DockerApi
from forebay.autoscaler.launch import command_of
from forebay.core.errors import ConfigError, FailedPrecondition, NotFound, Unavailable
from forebay.core.values import Instance
from forebay.wire.channel import connect
from tests.integration.container_engines import Engine, docker_engine, podman_engine
from tests.integration.fake_docker import Container, FakeDocker

__all__ = ["docker_engine", "podman_engine"]

SLEEPER = (sys.executable, "-c", "import time; time.sleep(600)")
ON_HOST = ContainerConfig(image="triton", networks=("host",), command=SLEEPER)


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[FakeDocker]:
    async with FakeDocker(tmp_path).serving() as one:
        yield one


class Fleet:
    """An actuator on an engine."""

    def __init__(self, engine: FakeDocker, container: ContainerConfig, gpu_count: int = 1, fleet: str = "test") -> None:
        recipe = Recipe(container, gpu_count, speaks_openai=True)
        self.actuator = DockerActuator(engine.host, fleet, {"m": recipe}, 0, 5.0)

    async def __aenter__(self) -> DockerActuator:
        return self.actuator

    async def __aexit__(self, *error: object) -> None:
        await self.actuator.close()


def local(number: int) -> Instance:
    return Instance(f"local-{number}/m", "m", "", f"local-{number}")


def pattern(engine: FakeDocker, folder: Path, state: str = "created", command: Sequence[str] = SLEEPER) -> Container:
    """The container that `docker compose up --no-start` leaves."""
    labels = {PROJECT: "demo", SERVICE: "llm", NUMBER: "1"}
    body = {
        "Image": "triton",
        "Cmd": list(command),
        "Labels": labels,
        "HostConfig": {"NetworkMode": "demo_default", "PortBindings": {"8001/tcp": [{"HostPort": "8001"}]}},
    }
    networks = {"demo_default": {}, "demo_gpu": {}}
    engine.containers["demo-llm-1"] = Container("demo-llm-1", body, folder / "p.log", state, networks=networks)
    return engine.containers["demo-llm-1"]


async def test_a_compose_service_is_scaled_by_copies_of_its_container(engine: FakeDocker, tmp_path: Path) -> None:
    first = pattern(engine, tmp_path)
    async with Fleet(engine, ContainerConfig(service="demo/llm")) as actuator:
        made = [await actuator.start(local(number)) for number in (1, 2)]
        assert [one.grpc_address for one in made if one] == ["test-local-1:8001", "test-local-2:8001"]
        copies = [engine.containers[f"test-local-{number}"] for number in (1, 2)]
        assert [one.labels[NUMBER] for one in copies] == ["2", "3"]
        assert all(one.labels[SERVICE] == "llm" for one in copies)
        assert [set(one.networks) for one in copies] == [{"demo_default", "demo_gpu"}] * 2
        assert set((await actuator.survey([])).alive) == {"local-1/m", "local-2/m"}
        for number in (1, 2):
            assert await actuator.stop(local(number))
    assert list(engine.containers) == ["demo-llm-1"]
    assert first.state == "created"


async def test_a_service_that_was_never_made_says_how_to_make_it(engine: FakeDocker) -> None:
    async with Fleet(engine, ContainerConfig(service="demo/llm")) as actuator:
        with pytest.raises(FailedPrecondition, match="docker compose -p demo up --no-start llm"):
            await actuator.start(local(1))


async def test_an_image_that_the_engine_does_not_have_says_how_to_get_it(engine: FakeDocker) -> None:
    async with Fleet(engine, ContainerConfig(image="nobody/triton")) as actuator:
        with pytest.raises(FailedPrecondition, match="docker pull nobody/triton"):
            await actuator.start(local(1))


async def test_a_command_that_does_not_run_leaves_no_container_behind(engine: FakeDocker) -> None:
    async with Fleet(engine, replace(ON_HOST, command=("/no/such/program",))) as actuator:
        with pytest.raises(FailedPrecondition, match="/no/such/program"):
            await actuator.start(local(1))
    assert not engine.containers


async def test_no_gpu_is_given_out_twice(engine: FakeDocker) -> None:
    async with Fleet(engine, replace(ON_HOST, gpus=("0", "1", "2")), gpu_count=2) as actuator:
        assert await actuator.start(local(1))
        requests = engine.containers["test-local-1"].body["HostConfig"]["DeviceRequests"]
        assert requests == [{"DeviceIDs": ["0", "1"], "Capabilities": [["gpu"]]}]
        with pytest.raises(FailedPrecondition, match="2 GPUs are needed, and 1 of"):
            await actuator.start(local(2))
        await actuator.stop(local(1))
        assert await actuator.start(local(2))


async def test_containers_in_the_host_network_have_ports_of_their_own(engine: FakeDocker) -> None:
    async with Fleet(engine, ON_HOST) as actuator:
        made = [await actuator.start(local(number)) for number in range(3)]
    assert len({one.grpc_address for one in made if one}) == 3


async def test_published_ports_are_those_that_the_engine_picked(engine: FakeDocker) -> None:
    async with Fleet(engine, ContainerConfig(image="triton", command=SLEEPER)) as actuator:
        placed = await actuator.start(local(1))
        assert placed is not None
        assert (placed.grpc_address, placed.metrics_url) == ("127.0.0.1:8001", "http://127.0.0.1:8002/metrics")
        assert placed.openai_address == "127.0.0.1:8000"
        assert (await actuator.survey([])).alive == {"local-1/m": placed}


async def test_the_reason_of_an_end_has_the_status_and_the_last_words_and_the_container_goes(
    engine: FakeDocker,
) -> None:
    talker = (sys.executable, "-c", "print('CUDA out of memory', flush=True); raise SystemExit(3)")
    async with Fleet(engine, replace(ON_HOST, command=talker)) as actuator:
        placed = await actuator.start(local(1))
        assert placed is not None
        process = engine.containers["test-local-1"].process
        assert process is not None
        await process.wait()
        gone = (await actuator.survey([placed])).gone
        assert gone == {"local-1/m": "its container exited with status 3: CUDA out of memory"}
        assert not engine.containers
        assert (await actuator.survey([placed])).gone == {"local-1/m": "there is no container of it"}


async def test_what_was_made_and_never_started_is_cleared_away(engine: FakeDocker) -> None:
    async with Fleet(engine, ON_HOST) as actuator:
        await actuator.start(local(1))
        engine.containers["test-local-1"].state = "created"
        engine.containers["test-local-1"].process, process = None, engine.containers["test-local-1"].process
        assert (await actuator.survey([])).alive == {}
        assert not engine.containers
    assert process is not None
    process.kill()
    await process.wait()


async def test_a_start_that_fails_half_way_leaves_no_container_and_no_gpu_behind(engine: FakeDocker) -> None:
    container = replace(ON_HOST, networks=("demo_default", "gone"), gpus=("0",))
    engine.missing_networks.add("gone")
    async with Fleet(engine, container) as actuator:
        with pytest.raises(NotFound, match="network gone"):
            await actuator.start(local(1))
        assert engine.containers
        assert await actuator.survey([]) == Survey()
    assert not engine.containers


async def test_nothing_of_another_fleet_is_seen_or_touched(engine: FakeDocker) -> None:
    async with Fleet(engine, ON_HOST, fleet="other") as other, Fleet(engine, ON_HOST) as ours:
        foreign = await other.start(local(1))
        assert foreign is not None
        assert (await ours.survey([])).alive == {}
        engine.containers["test-local-1"] = engine.containers.pop("other-local-1")
        for call in (ours.start(local(1)), ours.stop(local(1))):
            with pytest.raises(FailedPrecondition, match="is not local-1/m of fleet 'test'"):
                await call
        assert engine.containers["test-local-1"].state == "running"


async def test_an_engine_that_is_not_there_tells_nothing_and_starts_nothing(tmp_path: Path) -> None:
    actuator = DockerActuator(f"unix://{tmp_path}/none", "test", {"m": Recipe(ON_HOST)}, 0, 1.0)
    assert await actuator.survey([local(1)]) == Survey()
    for call in (actuator.start(local(1)), actuator.stop(local(1))):
        with pytest.raises(Unavailable, match="does not answer"):
            await call
    await actuator.close()


async def test_the_version_of_the_api_is_the_newest_that_both_know(engine: FakeDocker) -> None:
    async with DockerApi(engine.host) as api:
        assert await api.containers({"forebay.fleet": ""}) == []
    assert engine.requests == [("GET", "/v1.43/containers/json")]


@pytest.mark.parametrize("host", ["/var/run/docker.sock", "ssh://gpu-1", "unix://"])
def test_an_address_that_is_none_is_refused(host: str) -> None:
    with pytest.raises(ConfigError, match=r"unix:///path or tcp://host:port"):
        DockerApi(host)


@pytest.mark.parametrize("kind", ["docker_engine", "podman_engine"])
async def test_a_real_engine_takes_copies_of_what_it_tells_of_a_container(
    kind: str, request: pytest.FixtureRequest
) -> None:
    real: Engine = request.getfixturevalue(kind)
    labels = {PROJECT: "demo", SERVICE: "llm", NUMBER: "1"}
    service = real.container(SLEEPER)
    body = fit(from_image(service), service, service.networks, {}, (), "")
    async with DockerApi(real.host) as api:
        await api.create("demo-llm-1", {**body, "Labels": labels})
        recipe = Recipe(ContainerConfig(service="demo/llm"))
        actuator = DockerActuator(real.host, "copies", {"m": recipe}, 0, 1.0)
        try:
            placed = await actuator.start(local(1))
            assert placed is not None
            assert set((await actuator.survey([])).alive) == {"local-1/m"}
            copied = await api.inspect("copies-local-1")
            assert copied["Config"]["Labels"][NUMBER] == "2"
            assert copied["Config"]["Cmd"] == list(SLEEPER)
            assert (await api.inspect("demo-llm-1"))["State"]["Status"] == "created"
            assert await actuator.stop(local(1))
            assert (await actuator.survey([placed])).gone == {"local-1/m": "there is no container of it"}
        finally:
            await api.remove("demo-llm-1")
            await actuator.close()


async def test_in_networks_of_a_real_engine_an_instance_is_reached_by_its_published_port(docker_engine: Engine) -> None:
    command = command_of(ModelConfig(name="m", arguments=("--host", "0.0.0.0")), "")
    container = replace(docker_engine.container(command), networks=("llm-front", "llm-back"), publish=True)
    actuator = DockerActuator(docker_engine.host, "published", {"m": Recipe(container)}, 0, 5.0)
    with docker_engine.networks("llm-front", "llm-back"):
        placed = await actuator.start(local(1))
        assert placed is not None
        assert placed.grpc_address.startswith("127.0.0.1:")
        async with connect(placed.grpc_address) as channel, DockerApi(docker_engine.host) as api:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            ready = service_pb2.ModelReadyRequest(name="m")
            for _ in range(300):
                if (await stub.ModelReady(ready, timeout=60, wait_for_ready=True)).ready:
                    break
                await asyncio.sleep(0.1)
            else:
                pytest.fail("the model does not become ready")
            networks = (await api.inspect("published-local-1"))["NetworkSettings"]["Networks"]
            assert set(networks) == {"llm-front", "llm-back"}
        assert (await actuator.survey([placed])).alive == {"local-1/m": placed}
        assert await actuator.stop(placed)
    await actuator.close()
