"""Several models on several running servers, placed by memory, with an autoscaler process that acts."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.integration.emulated_triton import EmulatedTriton, start_emulator
from tests.integration.test_autoscaler_process import READY, Stage, stage, until

__all__ = ["stage"]

MODELS = ("everywhere", "large", "small")


@pytest.fixture
async def servers() -> AsyncIterator[list[EmulatedTriton]]:
    available = [word for model in MODELS for word in ("--available", model)]
    made = [await asyncio.to_thread(start_emulator, *available) for _ in range(2)]
    yield made
    for server in made:
        await asyncio.to_thread(server.terminate)


def settings(servers: list[EmulatedTriton]) -> str:
    """Server a is small and b is large; model `everywhere` is broadcast."""
    parts = [
        f'[[autoscaler.servers]]\nserver_id = "{name}"\ngrpc_address = "{server.grpc_address}"\nmemory_mb = {size}\n'
        for name, size, server in zip("ab", (30, 100), servers, strict=True)
    ]
    for name, size, more in (("everywhere", 10, "broadcast = true"), ("large", 80, ""), ("small", 20, "")):
        parts.append(
            f'[[autoscaler.models]]\nname = "{name}"\nlauncher = "repository"\nservers = ["a", "b"]\n'
            f"memory_mb = {size}\nwarm_up_tokens = 2\n{more}\n"
        )
    return "\n".join(parts)


async def test_models_share_servers_by_memory_and_answer_before_they_are_ready(
    stage: Stage, servers: list[EmulatedTriton]
) -> None:
    stage.write(instances_min=0, instances_initial=0, more=settings(servers))
    await stage.start()
    wanted = {"a/everywhere": READY, "b/everywhere": READY, "a/small": READY, "b/large": READY}

    async def is_placed() -> bool:
        return await stage.states() == wanted

    assert await until(is_placed), (await stage.states(), stage.log())
    for server, model in ((servers[0], "small"), (servers[1], "large"), (servers[1], "everywhere")):
        assert server.metric("nv_inference_request_success", f'model="{model}"') == 1
