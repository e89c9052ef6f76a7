"""The gateway's gRPC front as unmodified Triton clients see it."""

import asyncio
import json
import queue
from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton_sync
import tritonclient.grpc.aio as triton_aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from forebay.gateway.config import Config
from forebay.gateway.values import RequestStatus
from tests.contract.gateway_stage import (
    MODEL,
    Stage,
    answers,
    dies_after_three,
    dies_at_once,
    hangs,
    refuses,
    staged,
    talks_for_ever,
    until,
)

WORDS = ["w0 ", "w1 ", "w2 ", "w3 ", "w4 "]
COUNTS = ("finish_reason", "num_input_tokens", "num_output_tokens")


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with staged() as one:
        yield one


def tensor(name: str, value: str | bool) -> Any:
    datatype = "BOOL" if isinstance(value, bool) else "BYTES"
    one = triton_sync.InferInput(name, [1], datatype)
    one.set_data_from_numpy(np.array([value], dtype=bool if isinstance(value, bool) else object))
    return one


def tensors(text: str = "Hello", **values: str | bool) -> list[Any]:
    return [tensor("text_input", text), *(tensor(name, value) for name, value in values.items())]


def text_of(result: Any) -> str:
    return str(result.as_numpy("text_output")[0].decode())


async def ask(stage: Stage, *requests: dict[str, Any], headers: dict[str, str] | None = None) -> list[Any]:
    """All results of requests sent over one stream of the asynchronous client; errors stand among them."""

    async def feed() -> AsyncIterator[dict[str, Any]]:
        for request in requests:
            yield {"model_name": MODEL, **request}

    async with triton_aio.InferenceServerClient(stage.grpc_address) as client:
        return [error or result async for result, error in client.stream_infer(feed(), headers=headers)]


def raw_request(request_id: str = "", text: str = "Hello", *, is_stream: bool = True) -> Any:
    request = service_pb2.ModelInferRequest(model_name=MODEL, id=request_id)
    for name, datatype, raw in (
        ("text_input", "BYTES", len(text).to_bytes(4, "little") + text.encode()),
        ("stream", "BOOL", bytes([is_stream])),
    ):
        request.inputs.add(name=name, datatype=datatype, shape=[1])
        request.raw_input_contents.append(raw)
    return request


# Health and description


async def test_health_and_descriptions(stage: Stage) -> None:
    async with triton_aio.InferenceServerClient(stage.grpc_address) as client:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready(MODEL)
        assert not await client.is_model_ready("nobody")
        assert (await client.get_server_metadata()).name == "forebay"
        assert (await client.get_model_metadata(MODEL)).platform == "python"
        assert (await client.get_model_config(MODEL)).config.model_transaction_policy.decoupled
        with pytest.raises(InferenceServerException, match="known models: llama") as caught:
            await client.get_model_config("nobody")
        assert caught.value.status() == "StatusCode.NOT_FOUND"


async def test_a_gateway_without_a_ready_instance_is_not_ready() -> None:
    async with staged(instance_count=0) as empty, triton_aio.InferenceServerClient(empty.grpc_address) as client:
        assert await client.is_server_live()
        assert not await client.is_server_ready()


async def test_the_standard_health_service_answers(stage: Stage) -> None:
    async with grpc.aio.insecure_channel(stage.grpc_address) as channel:
        request = health_pb2.HealthCheckRequest(service="inference.GRPCInferenceService")
        answer = await health_pb2_grpc.HealthStub(channel).Check(request, timeout=5)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_what_manages_one_server_is_not_offered(stage: Stage) -> None:
    async with triton_aio.InferenceServerClient(stage.grpc_address) as client:
        for call in (client.load_model(MODEL), client.get_model_repository_index(), client.get_trace_settings()):
            with pytest.raises(InferenceServerException) as caught:
                await call
            assert caught.value.status() == "StatusCode.UNIMPLEMENTED"


# Inference


async def test_a_simple_client_gets_the_whole_answer_in_one_response(stage: Stage) -> None:
    async with triton_aio.InferenceServerClient(stage.grpc_address) as client:
        asked = tensors(exclude_input_in_output=True, return_num_output_tokens=True, return_finish_reason=True)
        result = await client.infer(MODEL, asked, request_id="mine")
    assert text_of(result) == "".join(WORDS)
    assert result.as_numpy("num_output_tokens")[0] == 5
    assert result.as_numpy("finish_reason")[0] == b"stop"
    assert result.as_numpy("num_input_tokens") is None
    assert result.get_response().id == "mine"
    assert result.get_response().parameters["forebay_instance"].string_param == "t0/llama"


async def test_a_whole_answer_begins_with_the_prompt_as_vllm_has_it(stage: Stage) -> None:
    async with triton_aio.InferenceServerClient(stage.grpc_address) as client:
        assert text_of(await client.infer(MODEL, tensors())) == "Hello" + "".join(WORDS)


async def test_a_stream_brings_tokens_as_they_come(stage: Stage) -> None:
    results = await ask(stage, {"inputs": tensors(stream=True), "request_id": "mine"})
    assert [text_of(one) for one in results] == [*WORDS, ""]
    assert {one.get_response().id for one in results} == {"mine"}
    names = {output.name for one in results for output in one.get_response().outputs}
    assert names == {"text_output"}
    finals = [one.get_response().parameters["triton_final_response"].bool_param for one in results]
    assert finals == [False] * 5 + [True]


async def test_counts_are_passed_on_to_those_who_ask(stage: Stage) -> None:
    asked = tensors(stream=True, **{f"return_{name}": True for name in COUNTS})
    results = await ask(stage, {"inputs": asked})
    assert sum(int(one.as_numpy("num_output_tokens")[0]) for one in results) == 5
    assert results[-1].as_numpy("finish_reason")[0] == b"stop"


async def test_outputs_may_be_chosen_by_name(stage: Stage) -> None:
    results = await ask(
        stage,
        {"inputs": tensors(stream=True), "outputs": [triton_sync.InferRequestedOutput("num_output_tokens")]},
    )
    assert {output.name for one in results for output in one.get_response().outputs} == {"num_output_tokens"}


async def test_the_synchronous_client_streams_with_a_callback(stage: Stage) -> None:
    def run() -> list[Any]:
        found: queue.Queue[Any] = queue.Queue()
        with triton_sync.InferenceServerClient(stage.grpc_address) as client:
            client.start_stream(lambda result, error: found.put(error or result))
            for number in range(3):
                client.async_stream_infer(
                    MODEL,
                    tensors(stream=True),
                    request_id=f"r{number}",
                    enable_empty_final_response=True,
                )
            results, finals = [], 0
            while finals < 3:
                results.append(found.get(timeout=20))
                assert not isinstance(results[-1], Exception)
                finals += results[-1].get_response().parameters["triton_final_response"].bool_param
            client.stop_stream()
            return results

    results = await asyncio.to_thread(run)
    for number in range(3):
        own = [one for one in results if one.get_response().id == f"r{number}"]
        assert "".join(text_of(one) for one in own) == "".join(WORDS)


async def test_the_synchronous_client_infers_whole(stage: Stage) -> None:
    def run() -> str:
        with triton_sync.InferenceServerClient(stage.grpc_address) as client:
            return text_of(client.infer(MODEL, tensors(exclude_input_in_output=True)))

    assert await asyncio.to_thread(run) == "".join(WORDS)


async def test_requests_on_one_stream_run_at_the_same_time(stage: Stage) -> None:
    stage.triton.pause_s = 0.05
    requests = [{"inputs": tensors(stream=True), "request_id": f"r{number}"} for number in range(20)]
    async with asyncio.timeout(4):
        results = await ask(stage, *requests)
    assert len(results) == 20 * 6
    first_six = {one.get_response().id for one in results[:20]}
    assert len(first_six) > 5, "answers are interleaved"


async def test_a_stream_without_streaming_brings_one_response_each(stage: Stage) -> None:
    results = await ask(stage, {"inputs": tensors(exclude_input_in_output=True)})
    assert [text_of(one) for one in results] == ["".join(WORDS)]


async def test_the_labels_come_from_the_metadata(stage: Stage) -> None:
    headers = {"x-forebay-slo-class": "deferred", "x-forebay-tenant": "acme", "x-request-id": "abc"}
    sampling = json.dumps({"max_tokens": "3", "temperature": "0.5"})
    await ask(stage, {"inputs": tensors(stream=True, sampling_parameters=sampling)}, headers=headers)
    [arrived] = stage.scheduler.arrived
    assert (arrived.slo_class, arrived.tenant, arrived.tokens_max, arrived.temperature) == (3, "acme", 3, 0.5)
    assert arrived.request_id.startswith("abc-")


async def test_the_client_s_own_priority_wins(stage: Stage) -> None:
    await ask(stage, {"inputs": tensors(stream=True), "priority": 5, "timeout": 9_000_000})
    parameters = stage.triton.requests[0].parameters
    assert parameters["priority"].uint64_param == 5
    assert parameters["timeout"].int64_param == 9_000_000
    await ask(stage, {"inputs": tensors(stream=True)})
    assert stage.triton.requests[1].parameters["priority"].uint64_param == 2


# Errors


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ([tensor("stream", True)], "'text_input' is missing"),
        (tensors(""), "must not be empty"),
        (tensors(sampling_parameters="{"), "not valid JSON"),
        (tensors(sampling_parameters="[1]"), "must be a JSON object"),
        (tensors(stream=True, exclude_input_in_output=False), "exclude_input_in_output"),
    ],
)
async def test_a_bad_request_is_refused(stage: Stage, inputs: list[Any], said: str) -> None:
    async with triton_aio.InferenceServerClient(stage.grpc_address) as client:
        with pytest.raises(InferenceServerException, match=said) as caught:
            await client.infer(MODEL, inputs)
        assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"
    [error] = await ask(stage, {"inputs": inputs})
    assert said in str(error)


async def test_one_request_s_error_leaves_the_others_of_its_stream_alone(stage: Stage) -> None:
    results = await ask(
        stage,
        {"inputs": tensors("")},
        {"inputs": tensors(stream=True), "request_id": "good"},
        {"inputs": tensors(stream=True), "model_name": "nobody"},
    )
    errors = [one for one in results if isinstance(one, Exception)]
    assert len(errors) == 2
    assert any("known models: llama" in str(one) for one in errors)
    assert "".join(text_of(one) for one in results if not isinstance(one, Exception)) == "".join(WORDS)


async def test_an_error_on_a_stream_names_its_request(stage: Stage) -> None:
    async with grpc.aio.insecure_channel(stage.grpc_address) as channel:
        call = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer(timeout=10)
        await call.write(raw_request("mine", ""))
        response = await call.read()
        assert (response.infer_response.id, response.infer_response.model_name) == ("mine", MODEL)
        assert "empty" in response.error_message
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF


async def test_typed_contents_are_read(stage: Stage) -> None:
    request = service_pb2.ModelInferRequest(model_name=MODEL)
    request.inputs.add(name="text_input", datatype="BYTES", shape=[1]).contents.bytes_contents.append(b"Hello")
    async with grpc.aio.insecure_channel(stage.grpc_address) as channel:
        response = await service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=10)
    assert response.raw_output_contents[0].endswith(b"w4 ")
    assert stage.triton.text() == "Hello"


@pytest.mark.parametrize(
    ("reason", "code"), [("NO_INSTANCE_READY", "UNAVAILABLE"), ("HELD_TOO_LONG", "RESOURCE_EXHAUSTED")]
)
async def test_a_no_for_now_has_its_status(stage: Stage, reason: str, code: str) -> None:
    stage.scheduler.answer = lambda request: stage.scheduler.retry(request, reason, 1.5)
    async with triton_aio.InferenceServerClient(stage.grpc_address) as client:
        with pytest.raises(InferenceServerException, match="come back") as caught:
            await client.infer(MODEL, tensors())
    assert caught.value.status() == f"StatusCode.{code}"


async def test_before_the_first_token_another_instance_takes_over() -> None:
    async with staged(instance_count=2) as stage:
        stage.triton.script = dies_at_once
        results = await ask(stage, {"inputs": tensors(stream=True)})
        assert [text_of(one) for one in results] == [*WORDS, ""]
        last = results[-1].get_response().parameters
        assert last["forebay_instance"].string_param == "t1/llama"


async def test_after_the_first_token_the_error_follows_what_was_sent() -> None:
    async with staged(instance_count=2) as stage:
        stage.triton.script = dies_after_three
        *texts, error = await ask(stage, {"inputs": tensors(stream=True)})
        assert [text_of(one) for one in texts] == WORDS[:3]
        assert "CUDA error" in str(error)
        assert not stage.tritons[1].requests


async def test_what_the_model_refuses_is_told(stage: Stage) -> None:
    stage.triton.script = refuses
    async with triton_aio.InferenceServerClient(stage.grpc_address) as client:
        with pytest.raises(InferenceServerException, match="seed must be positive") as caught:
            await client.infer(MODEL, tensors())
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"


async def test_a_silent_instance_times_out() -> None:
    async with staged(Config(first_token_timeout_s=0.2)) as stage:
        stage.triton.script = hangs
        async with triton_aio.InferenceServerClient(stage.grpc_address) as client:
            with pytest.raises(InferenceServerException) as caught:
                await client.infer(MODEL, tensors())
        assert caught.value.status() == "StatusCode.DEADLINE_EXCEEDED"


async def test_a_bug_tells_nothing(stage: Stage) -> None:
    def bug(_: Any) -> Any:
        raise RuntimeError("secret")

    stage.loop.arrive = bug  # type: ignore[method-assign]
    async with triton_aio.InferenceServerClient(stage.grpc_address) as client:
        with pytest.raises(InferenceServerException) as caught:
            await client.infer(MODEL, tensors())
    assert caught.value.status() == "StatusCode.INTERNAL"
    assert "secret" not in str(caught.value)
    [error] = await ask(stage, {"inputs": tensors(stream=True)})
    assert "secret" not in str(error)


# When clients leave


async def test_a_client_that_cancels_its_stream_cancels_its_requests_on_the_instances(stage: Stage) -> None:
    stage.triton.script, stage.triton.pause_s = talks_for_ever, 0.01
    async with grpc.aio.insecure_channel(stage.grpc_address) as channel:
        call = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer(timeout=30)
        for number in range(3):
            await call.write(raw_request(f"r{number}"))
        seen: set[str] = set()
        while len(seen) < 3:
            seen.add((await call.read()).infer_response.id)
        call.cancel()
        await until(lambda: stage.triton.cancelled_count == 3, "the cancellation on the instance")
    records = await stage.records(3)
    assert {one.status for one in records} == {RequestStatus.CANCELLED}


async def test_a_simple_client_that_cancels_cancels_on_the_instance(stage: Stage) -> None:
    stage.triton.script, stage.triton.pause_s = talks_for_ever, 0.01
    async with grpc.aio.insecure_channel(stage.grpc_address) as channel:
        call = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(raw_request(is_stream=False), timeout=30)
        waiting = asyncio.ensure_future(call.code())
        await until(lambda: stage.triton.requests)
        call.cancel()
        assert await waiting is grpc.StatusCode.CANCELLED
        await until(lambda: stage.triton.cancelled_count == 1, "the cancellation on the instance")


async def test_a_client_that_does_not_read_holds_up_nobody_else(stage: Stage) -> None:
    stage.triton.script, stage.triton.padding = talks_for_ever, 20_000
    async with grpc.aio.insecure_channel(stage.grpc_address) as channel:
        call = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer(timeout=60)
        await call.write(raw_request())
        await call.read()

        async def stalled() -> bool:
            before = stage.triton.talked_count
            await asyncio.sleep(0.3)
            return stage.triton.talked_count == before > 0

        async with asyncio.timeout(20):
            while not await stalled():
                pass
        stage.triton.padding = 0
        async with triton_aio.InferenceServerClient(stage.grpc_address) as client:
            stage.triton.script = answers
            assert text_of(await client.infer(MODEL, tensors(exclude_input_in_output=True))) == "".join(WORDS)
        call.cancel()
        await until(lambda: stage.triton.cancelled_count == 1)
