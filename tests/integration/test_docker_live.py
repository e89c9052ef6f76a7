"""An autoscaler process whose instances are containers of a real Docker engine."""

import json
import os
import signal

from forebay.autoscaler.config import ModelConfig
from forebay.autoscaler.docker_api import DockerApi
from forebay.autoscaler.launch import command_of
from tests.integration.container_engines import Engine, docker_engine
from tests.integration.test_autoscaler_process import READY, Stage, stage, until

__all__ = ["docker_engine", "stage"]


def settings(engine: Engine) -> str:
    """A model `boxed` with two instances in containers."""
    container = engine.container(command_of(ModelConfig(name="boxed"), ""))
    fields = {"image": container.image, "command": container.command, "environment": container.environment}
    fields |= {"networks": container.networks, "binds": container.binds, "ulimits": container.ulimits}
    lines = "\n".join(f"{key} = {json.dumps(value)}" for key, value in fields.items())
    model = '[[autoscaler.models]]\nname = "boxed"\nlauncher = "docker"\ninstances_initial = 2\nwarm_up_tokens = 2\n'
    return f"{model}[autoscaler.models.container]\n{lines}\n"


async def test_containers_come_outlive_the_autoscaler_are_replaced_and_go(stage: Stage, docker_engine: Engine) -> None:
    fleet = f"test{os.getpid()}"
    stage.peers["DOCKER_HOST"] = docker_engine.host
    stage.write(instances_min=0, instances_initial=0, settings=f'fleet = "{fleet}"', more=settings(docker_engine))
    async with DockerApi(docker_engine.host) as api:

        async def running() -> set[str]:
            listed = await api.containers({"forebay.fleet": fleet})
            return {one["Names"][0].lstrip("/") for one in listed if one["State"] == "running"}

        await stage.start()
        assert await until(lambda: stage.has(2)), stage.log()
        before = await running()
        assert before == {f"{fleet}-local-1", f"{fleet}-local-2"}
        assert await stage.end(signal.SIGKILL) == -signal.SIGKILL
        assert await running() == before
        await stage.start()
        assert await until(lambda: stage.has(2)), stage.log()
        await api.stop(f"{fleet}-local-1", 0)

        async def is_replaced() -> bool:
            return sorted(await stage.states()) == ["local-2/boxed", "local-3/boxed"] and await stage.has(2)

        assert await until(is_replaced), stage.log()
        assert await running() == {f"{fleet}-local-2", f"{fleet}-local-3"}
        await stage.bound(0, 0, "boxed")

        async def is_gone() -> bool:
            return not await running()

        assert await until(is_gone), stage.log()
    assert READY not in (await stage.states()).values()
