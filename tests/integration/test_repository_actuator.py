"""Loading and unloading on running servers, and warm-up, on an emulated Triton and on a real one."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from forebay.autoscaler.actuator_repository import RepositoryActuator
from forebay.autoscaler.config import ModelConfig
from forebay.autoscaler.warmup import WarmUp
from forebay.core.errors import Unavailable
from forebay.core.values import Instance
from forebay.wire.channel import connect
from tests.integration.emulated_triton import EmulatedTriton, start_emulator
from tests.integration.real_triton import RealTriton, real_triton

__all__ = ["real_triton"]

ATTEMPTS = 600
POLL_S = 0.1


@dataclass(slots=True)
class Stage:
    """A server with models `m` and `n` that may be loaded and nothing else."""

    server: EmulatedTriton
    stub: service_pb2_grpc.GRPCInferenceServiceStub
    actuator: RepositoryActuator

    def instance(self, model: str = "m") -> Instance:
        return Instance(f"gpu-1/{model}", model, self.server.grpc_address, "gpu-1")

    async def state(self, model: str = "m") -> str:
        index = await self.stub.RepositoryIndex(service_pb2.RepositoryIndexRequest(), timeout=5)
        return next(str(one.state) for one in index.models if one.name == model)

    async def until(self, state: str, model: str = "m") -> bool:
        for _ in range(ATTEMPTS):
            if await self.state(model) == state:
                return True
            await asyncio.sleep(POLL_S)
        return False


async def staged(*arguments: str, unload_timeout_s: float = 30.0) -> AsyncIterator[Stage]:
    server = await asyncio.to_thread(start_emulator, "--available", "m", "--available", "n", *arguments)
    async with connect(server.grpc_address) as channel:
        actuator = RepositoryActuator([], 60.0, unload_timeout_s)
        yield Stage(server, service_pb2_grpc.GRPCInferenceServiceStub(channel), actuator)
        await actuator.close()
    await asyncio.to_thread(server.terminate)


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async for one in staged():
        yield one


@pytest.fixture
async def slow() -> AsyncIterator[Stage]:
    """Weights take two seconds."""
    async for one in staged("--cold-start", "weights=2", "--time-scale", "1"):
        yield one


async def test_the_last_model_of_a_server_can_be_unloaded(stage: Stage) -> None:
    await stage.actuator.start(stage.instance())
    assert await stage.until("READY")
    assert await stage.actuator.stop(stage.instance())
    assert await stage.state() == "UNAVAILABLE"


async def test_several_models_share_a_server(stage: Stage) -> None:
    for model in ("m", "n"):
        await stage.actuator.start(stage.instance(model))
    assert await stage.until("READY", "m")
    assert await stage.until("READY", "n")
    assert await stage.actuator.stop(stage.instance("m"))
    assert await stage.state("n") == "READY"


async def test_an_unload_is_over_only_when_the_requests_are_and_the_memory_is_free(stage: Stage) -> None:
    await stage.actuator.start(stage.instance())
    assert await stage.until("READY")
    assert await asyncio.to_thread(stage.server.inject, {"slow": 100})
    answering = asyncio.create_task(_generate(stage, 40))
    await asyncio.sleep(3 * POLL_S)
    stopping = asyncio.create_task(stage.actuator.stop(stage.instance()))
    await asyncio.sleep(3 * POLL_S)
    assert not stopping.done()
    assert await stage.state() == "UNLOADING"
    assert await asyncio.to_thread(stage.server.inject, {"slow": 1})
    assert await stopping
    assert await answering > 0
    assert await stage.state() == "UNAVAILABLE"


async def test_a_model_that_is_still_loading_when_it_is_stopped_does_not_stay(slow: Stage) -> None:
    await slow.actuator.start(slow.instance())
    assert await slow.until("LOADING")
    assert await slow.actuator.stop(slow.instance())
    assert await slow.state() == "UNAVAILABLE"
    assert not (await slow.actuator.survey([])).alive


async def test_a_server_that_hangs_is_an_error_in_time() -> None:
    async for stage in staged(unload_timeout_s=1.0):
        await stage.actuator.start(stage.instance())
        assert await stage.until("READY")
        assert await asyncio.to_thread(stage.server.inject, {"hang": True})
        with pytest.raises(Unavailable, match="cannot unload gpu-1/m"):
            await stage.actuator.stop(stage.instance())
        stage.server.process.kill()


async def test_an_instance_answers_one_request_before_it_counts_as_ready(stage: Stage) -> None:
    await stage.actuator.start(stage.instance())
    assert await stage.until("READY")
    warm_up = WarmUp([ModelConfig(name="m", warm_up_tokens=3), ModelConfig(name="n")])
    assert await warm_up(stage.instance("n"), stage.stub)
    assert await _answered(stage) == 0
    assert await warm_up(stage.instance(), stage.stub)
    assert await _answered(stage) == 1


async def test_an_instance_that_cannot_answer_is_not_ready(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    warm_up = WarmUp([ModelConfig(name="m", warm_up_tokens=3)])
    assert not await warm_up(stage.instance(), stage.stub)
    await stage.actuator.start(stage.instance())
    assert await stage.until("READY")
    assert await asyncio.to_thread(stage.server.inject, {"refuse": 1.0})
    assert not await warm_up(stage.instance(), stage.stub)
    assert await asyncio.to_thread(stage.server.inject, {"refuse": 0.0})
    assert await warm_up(stage.instance(), stage.stub)


async def test_a_real_model_is_loaded_warmed_up_and_gone_after_its_unload(real_triton: RealTriton) -> None:
    instance = Instance("gpu-1/smollm2_short", "smollm2_short", real_triton.grpc_address, "gpu-1")
    actuator = RepositoryActuator([instance], 60.0, 30.0)
    warm_up = WarmUp([ModelConfig(name="smollm2_short", warm_up_tokens=2)])
    async with connect(real_triton.grpc_address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        assert not await warm_up(instance, stub)
        await actuator.start(instance)
        ready = service_pb2.ModelReadyRequest(name=instance.model)
        for _ in range(ATTEMPTS):
            if (await stub.ModelReady(ready, timeout=5)).ready:
                break
            await asyncio.sleep(POLL_S)
        assert await warm_up(instance, stub)
        request = service_pb2.ModelStatisticsRequest(name=instance.model)
        (stats,) = (await stub.ModelStatistics(request, timeout=5)).model_stats
        assert stats.inference_stats.success.count == 1
        assert await actuator.stop(instance)
        index = await stub.RepositoryIndex(service_pb2.RepositoryIndexRequest(), timeout=5)
        states = {one.name: one.state for one in index.models}
        assert states["smollm2_short"] == "UNAVAILABLE"
        assert states[real_triton.model] == "READY"
    await actuator.close()


async def _answered(stage: Stage) -> int:
    request = service_pb2.ModelStatisticsRequest(name="m")
    (stats,) = (await stage.stub.ModelStatistics(request, timeout=5)).model_stats
    return int(stats.inference_stats.success.count)


async def _generate(stage: Stage, tokens: int) -> int:
    """The number of responses to a request of so many tokens."""
    message = service_pb2.ModelInferRequest(model_name="m")
    for name, raw in (
        ("text_input", b"\x02\0\0\0hi"),
        ("sampling_parameters", _text(f'{{"max_tokens": {tokens}, "ignore_eos": true}}')),
    ):
        message.inputs.add(name=name, datatype="BYTES", shape=[1])
        message.raw_input_contents.append(raw)
    message.inputs.add(name="stream", datatype="BOOL", shape=[1])
    message.raw_input_contents.append(b"\x01")

    async def requests() -> AsyncIterator[service_pb2.ModelInferRequest]:
        yield message

    count = 0
    async for answer in stage.stub.ModelStreamInfer(requests()):
        assert not answer.error_message
        count += 1
        if answer.infer_response.parameters["triton_final_response"].bool_param:
            break
    return count


def _text(text: str) -> bytes:
    return len(text).to_bytes(4, "little") + text.encode()
