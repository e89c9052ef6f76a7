"""The emulator as a process, seen by unmodified Triton clients: timing, memory, faults, life and death."""

import asyncio
import json
import queue
from collections.abc import Iterator, Mapping
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from forebay.core.instance import PrefillChunk, compute_profile
from forebay.wire.clock import now_us
from tests.integration.emulated_triton import EmulatedTriton, start_emulator, status_of, wait_until

PROFILE = "H100/Llama-3-8B"
LONG = {"max_tokens": 8000, "ignore_eos": True}
ANSWER_S = 60
LATE_US = 1_000_000
"""How late a busy machine may be."""


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatedTriton]:
    answers = tmp_path_factory.mktemp("emulator") / "answers.jsonl"
    known = [
        {"prompt": "How deep is the pool?", "output_tokens": 11, "input_tokens": 300},
        {"prompt": "Tell me all.", "output_tokens": 2000, "input_tokens": 4},
    ]
    answers.write_text("".join(json.dumps(line) + "\n" for line in known))
    server = start_emulator(f"--model=llm={PROFILE}", "--available=other=L4/Llama-3-8B", f"--answers={answers}")
    yield server
    server.terminate()


def inputs(prompt: str, sampling: Mapping[str, object], stream: bool = True) -> list[triton.InferInput]:
    flags = dict.fromkeys(("return_finish_reason", "return_num_input_tokens", "return_num_output_tokens"), True)
    texts = {"text_input": prompt, "sampling_parameters": json.dumps(sampling)}
    built = []
    for name, text in texts.items():
        built.append(triton.InferInput(name, [1], "BYTES"))
        built[-1].set_data_from_numpy(np.array([text.encode()], dtype=np.object_))
    for name, value in {"stream": stream, **flags}.items():
        built.append(triton.InferInput(name, [1], "BOOL"))
        built[-1].set_data_from_numpy(np.array([value], dtype=bool))
    return built


class Answer:
    """All results of one request, with the time of each in microseconds."""

    def __init__(self) -> None:
        self.times_us: list[int] = []
        self.counts: list[int] = []
        self.text = ""
        self.reason = ""
        self.input_tokens = 0

    def add(self, result: Any) -> bool:
        """Whether this was the last result."""
        self.times_us.append(now_us())
        self.counts.append(int(result.as_numpy("num_output_tokens")[0]))
        self.text += result.as_numpy("text_output")[0].decode()
        self.reason = result.as_numpy("finish_reason")[0].decode()
        self.input_tokens = int(result.as_numpy("num_input_tokens")[0])
        final: bool = result.get_response().parameters["triton_final_response"].bool_param
        return final


async def ask(server: EmulatedTriton, prompt: str, sampling: Mapping[str, object], model: str = "llm") -> Answer:
    answer = Answer()

    async def requests() -> Any:
        yield {"model_name": model, "inputs": inputs(prompt, sampling), "request_id": "1"}

    async with triton_aio.InferenceServerClient(server.grpc_address) as client:
        async for result, error in client.stream_infer(requests()):
            if error is not None:
                raise error
            if answer.add(result):
                break
    return answer


async def test_the_answers_file_is_the_truth(emulator: EmulatedTriton) -> None:
    answer = await ask(emulator, "How deep is the pool?", {"max_tokens": 100})
    assert (sum(answer.counts), answer.input_tokens, answer.reason) == (11, 300, "stop")
    assert len(answer.text.split()) == 11
    cut = await ask(emulator, "How deep is the pool?", {"max_tokens": 5})
    assert (sum(cut.counts), cut.reason) == (5, "length")


async def test_tokens_come_when_the_engine_model_says(emulator: EmulatedTriton) -> None:
    profile = compute_profile("H100", "Llama-3-8B")
    start_us = now_us()
    answer = await ask(emulator, "Tell me all.", {"max_tokens": 100})
    ttft_us = profile.duration_ps(0, 0, [PrefillChunk(4, 0)]) / 1e6
    decode_us = sum(profile.duration_ps(1, context) for context in range(4, 103)) / 1e6
    assert answer.times_us[0] - start_us >= ttft_us
    assert 0.95 * decode_us < answer.times_us[-1] - answer.times_us[0] < decode_us + LATE_US


async def test_requests_on_one_stream_run_together(emulator: EmulatedTriton) -> None:
    answers = {name: Answer() for name in "abcdefgh"}

    async def requests() -> Any:
        for name in answers:
            sampling = {"max_tokens": 40, "ignore_eos": True}
            yield {"model_name": "llm", "inputs": inputs(f"Question {name}", sampling), "request_id": name}

    order = []
    async with triton_aio.InferenceServerClient(emulator.grpc_address) as client:
        async for result, error in client.stream_infer(requests()):
            assert error is None
            name = result.get_response().id
            answers[name].add(result)
            order.append(name)
    assert {sum(answer.counts) for answer in answers.values()} == {40}
    assert set(order[:40]) == set(answers)


def test_the_synchronous_client_gets_the_whole_answer_in_one_result(emulator: EmulatedTriton) -> None:
    results: queue.SimpleQueue[tuple[Any, Any]] = queue.SimpleQueue()
    with triton.InferenceServerClient(emulator.grpc_address) as client:
        client.start_stream(lambda result, error: results.put((result, error)))
        client.async_stream_infer(
            "llm", inputs("How deep is the pool?", {"max_tokens": 50}, stream=False), enable_empty_final_response=True
        )
        result, error = results.get(timeout=ANSWER_S)
        client.stop_stream()
    assert error is None
    answer = Answer()
    assert answer.add(result)
    assert answer.counts == [11]
    assert answer.text.startswith("How deep is the pool?the water")


async def test_a_client_that_goes_away_frees_its_memory(emulator: EmulatedTriton) -> None:
    def used() -> float:
        return emulator.metric("nv_trt_llm_kv_cache_block_metrics", 'model="llm"', 'kv_cache_block_type="used"')

    tasks = [asyncio.ensure_future(ask(emulator, f"{name} " * 400, LONG)) for name in "abc"]
    assert await asyncio.to_thread(wait_until, lambda: used() > 60)
    assert emulator.metric("vllm:num_requests_running", 'model="llm"') == 3
    cancelled_before = emulator.metric("nv_inference_request_failure", 'reason="CANCELED"')
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert await asyncio.to_thread(wait_until, lambda: used() == 0)
    assert emulator.metric("nv_inference_request_failure", 'reason="CANCELED"') == cancelled_before + 3


async def test_metrics_count_what_was_served(emulator: EmulatedTriton) -> None:
    names = ("nv_inference_request_success", "nv_inference_count", "vllm:generation_tokens_total")
    before = [emulator.metric(name, 'model="llm"') for name in names]
    duration_us = emulator.metric("nv_inference_request_duration_us", 'model="llm"')
    answer = await ask(emulator, "How deep is the pool?", {"max_tokens": 50})
    assert [emulator.metric(name, 'model="llm"') for name in names] == [before[0] + 1, before[1] + 1, before[2] + 11]
    served_us = emulator.metric("nv_inference_request_duration_us", 'model="llm"') - duration_us
    assert answer.times_us[-1] - answer.times_us[0] < served_us < 10_000_000


async def test_a_model_loads_with_another_profile_while_others_serve(emulator: EmulatedTriton) -> None:
    async with triton_aio.InferenceServerClient(emulator.grpc_address) as client:
        assert not await client.is_model_ready("other")
        parameters = {"profile": {"string_value": "H200/Llama-3-8B"}, "max_seqs": {"string_value": "3"}}
        await client.load_model("other", config=json.dumps({"parameters": parameters}))
        assert await client.is_model_ready("other")
        loaded = (await client.get_model_config("other")).config.parameters
        assert (loaded["profile"].string_value, loaded["max_seqs"].string_value) == ("H200/Llama-3-8B", "3")
        assert emulator.metric("nv_trt_llm_request_metrics", 'model="other"', 'request_type="max"') == 3
        assert sum((await ask(emulator, "Hello.", {"max_tokens": 3}, "other")).counts) == 3
        await client.unload_model("other")
        assert not await client.is_model_ready("other")
        with pytest.raises(InferenceServerException, match="has no available versions"):
            await ask(emulator, "Hello.", {"max_tokens": 3}, "other")


async def test_an_unloaded_model_finishes_what_it_began(emulator: EmulatedTriton) -> None:
    async with triton_aio.InferenceServerClient(emulator.grpc_address) as client:
        await client.load_model("other")
        running = asyncio.ensure_future(ask(emulator, "Hello.", {"max_tokens": 12, "ignore_eos": True}, "other"))
        running_count = "vllm:num_requests_running"
        assert await asyncio.to_thread(wait_until, lambda: emulator.metric(running_count, 'model="other"') == 1)
        await client.unload_model("other")
        states = {model.name: model.state for model in (await client.get_model_repository_index()).models}
        assert states == {"llm": "READY", "other": "UNLOADING"}
        assert sum((await running).counts) == 12
        states = {model.name: model.state for model in (await client.get_model_repository_index()).models}
        assert states == {"llm": "READY", "other": "UNAVAILABLE"}


async def test_a_load_that_cannot_be_says_why_and_leaves_the_old_model(emulator: EmulatedTriton) -> None:
    async with triton_aio.InferenceServerClient(emulator.grpc_address) as client:
        config = json.dumps({"parameters": {"profile": {"string_value": "V100/Llama-3-8B"}}})
        with pytest.raises(InferenceServerException, match="failed to load 'llm', unknown GPU 'V100'"):
            await client.load_model("llm", config=config)
        assert await client.is_model_ready("llm")


def check_health(channel: Any, timeout_s: float) -> Any:
    check: Any = health_pb2_grpc.HealthStub(channel)
    return check.Check(health_pb2.HealthCheckRequest(), timeout=timeout_s)


def test_health_and_reflection_answer_on_grpc(emulator: EmulatedTriton) -> None:
    with grpc.insecure_channel(emulator.grpc_address) as channel:
        reply = check_health(channel, ANSWER_S)
        assert reply.status == health_pb2.HealthCheckResponse.SERVING
        watch: Any = health_pb2_grpc.HealthStub(channel)
        changes = watch.Watch(health_pb2.HealthCheckRequest(), timeout=ANSWER_S)
        assert next(changes).status == health_pb2.HealthCheckResponse.SERVING
        changes.cancel()
        listed = ProtoReflectionDescriptorDatabase(channel).get_services()
        assert {"inference.GRPCInferenceService", "grpc.health.v1.Health"} <= set(listed)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v2/health/live", 200),
        ("/v2/health/ready", 200),
        ("/v2/models/llm/ready", 200),
        ("/v2/models/nope/ready", 400),
        ("/metrics", 200),
        ("/zork", 404),
    ],
)
def test_http_answers_as_triton_does(emulator: EmulatedTriton, path: str, status: int) -> None:
    assert status_of(f"http://{emulator.http_address}{path}") == status


async def test_a_slow_server_takes_longer_until_it_recovers(emulator: EmulatedTriton) -> None:
    async def decode_us() -> int:
        answer = await ask(emulator, "Tell me all.", {"max_tokens": 25})
        return answer.times_us[-1] - answer.times_us[0]

    usual_us = await decode_us()
    assert emulator.inject({"slow": 5}) == 200
    slow_us = await decode_us()
    assert emulator.inject({"slow": 1}) == 200
    assert slow_us > 3.5 * usual_us
    assert await decode_us() < slow_us / 2


async def refused(server: EmulatedTriton) -> Any:
    """The refusal of a call, asked for again where grpc loses it: it came before the message of the stream was sent."""
    for _ in range(10):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await ask(server, "Hello.", {"max_tokens": 3})
        if raised.value.code() != grpc.StatusCode.INTERNAL:
            break
    return raised.value


async def test_a_refusing_server_turns_calls_away_as_unavailable(emulator: EmulatedTriton) -> None:
    assert emulator.inject({"refuse": 1}) == 200
    try:
        raised = await refused(emulator)
        assert (raised.code(), "refuses new requests" in raised.details()) == (grpc.StatusCode.UNAVAILABLE, True)
    finally:
        assert emulator.inject({"refuse": 0}) == 200
    assert sum((await ask(emulator, "Hello.", {"max_tokens": 3, "ignore_eos": True})).counts) == 3


def test_faults_that_cannot_be_are_refused(emulator: EmulatedTriton) -> None:
    assert emulator.inject({"boom": 1}) == 400
    assert status_of(f"http://{emulator.http_address}/emulator/faults", b"{zz") == 400
    assert status_of(f"http://{emulator.http_address}/emulator/faults") == 200


async def test_a_hung_server_answers_nothing_and_goes_on_where_it_stopped(emulator: EmulatedTriton) -> None:
    request = service_pb2.ServerReadyRequest()
    running = asyncio.ensure_future(ask(emulator, "Tell me all.", {"max_tokens": 60}))
    assert await asyncio.to_thread(wait_until, lambda: emulator.metric("vllm:num_requests_running") == 1)
    async with grpc.aio.insecure_channel(emulator.grpc_address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        assert emulator.inject({"hang": True}) == 200
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stub.ServerReady(request, timeout=1)
        assert raised.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        with pytest.raises(grpc.aio.AioRpcError):
            await check_health(channel, 0.5)
        assert not running.done()
        assert emulator.inject({"hang": False}) == 200
        assert (await stub.ServerReady(request, timeout=ANSWER_S)).ready
    assert sum((await running).counts) == 60


def test_a_crash_ends_the_process_at_once() -> None:
    server = start_emulator(f"--model=llm={PROFILE}")
    server.inject({"crash": True})
    assert server.process.wait(ANSWER_S) == 70
    server.terminate()


def test_a_fault_can_be_scheduled_at_the_start() -> None:
    server = start_emulator(f"--model=llm={PROFILE}", "--faults=crash@1")
    assert server.process.wait(ANSWER_S) == 70
    server.terminate()


def test_a_cold_start_takes_its_time_in_phases() -> None:
    start_us = now_us()
    phases = "--cold-start=provisioning=10,image=5,runtime=5,weights=20"
    server = start_emulator(f"--model=llm={PROFILE}", phases, "--time-scale=20", wait=False)
    try:
        assert status_of(f"http://{server.http_address}/v2/health/live") == 400
        assert wait_until(lambda: status_of(f"http://{server.http_address}/v2/health/live") == 200)
        live_us = now_us() - start_us
        assert not server.ready()
        with grpc.insecure_channel(server.grpc_address) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            (model,) = stub.RepositoryIndex(service_pb2.RepositoryIndexRequest()).models
            assert model.state == "LOADING"
        assert wait_until(server.ready)
        assert live_us >= 1_000_000
        assert now_us() - start_us >= 2_000_000
    finally:
        server.terminate()


async def test_a_load_takes_the_time_of_the_weights_while_others_serve() -> None:
    server = start_emulator(f"--model=llm={PROFILE}", f"--available=spare={PROFILE}", "--cold-start=weights=1")
    try:
        async with triton_aio.InferenceServerClient(server.grpc_address) as client:
            start_us = now_us()
            loading = asyncio.ensure_future(client.load_model("spare"))
            await asyncio.sleep(0.2)
            states = {model.name: model.state for model in (await client.get_model_repository_index()).models}
            assert states == {"llm": "READY", "spare": "LOADING"}
            assert not await client.is_server_ready()
            assert sum((await ask(server, "Hello.", {"max_tokens": 3, "ignore_eos": True})).counts) == 3
            await loading
            assert now_us() - start_us >= 1_000_000
            assert await client.is_server_ready()
            assert await client.is_model_ready("spare")
    finally:
        server.terminate()


async def test_emulated_time_can_run_faster_than_the_clock() -> None:
    server = start_emulator(f"--model=llm={PROFILE}", "--time-scale=50")
    try:
        answer = await ask(server, "Tell me all.", {"max_tokens": 1000, "ignore_eos": True})
    finally:
        server.terminate()
    profile = compute_profile("H100", "Llama-3-8B")
    decode_us = sum(profile.duration_ps(1, context) for context in range(3, 1002)) / 1e6
    assert sum(answer.counts) == 1000
    assert 0.9 * decode_us / 50 < answer.times_us[-1] - answer.times_us[0] < decode_us / 50 + LATE_US


async def test_a_static_engine_returns_all_answers_of_a_batch_when_it_ends() -> None:
    settings = ("batcher=static", "batch_answers_wait=true", "batch_delay_us=2000000", "max_seqs=2")
    server = start_emulator(f"--model=llm={PROFILE}", *(f"--set={setting}" for setting in settings))
    try:
        sampling = [{"max_tokens": tokens, "ignore_eos": True} for tokens in (5, 200)]
        short, long = await asyncio.gather(*(ask(server, "Tell me all.", one) for one in sampling))
        assert (short.counts, long.counts) == ([5], [200])
        assert abs(short.times_us[0] - long.times_us[0]) < LATE_US / 2
    finally:
        server.terminate()


async def test_a_termination_lets_what_is_in_flight_end_and_takes_nothing_new() -> None:
    server = start_emulator(f"--model=llm={PROFILE}")
    running = asyncio.ensure_future(ask(server, "Tell me all.", {"max_tokens": 120, "ignore_eos": True}))
    assert await asyncio.to_thread(wait_until, lambda: server.metric("vllm:num_requests_running") == 1)
    server.process.terminate()
    assert await asyncio.to_thread(wait_until, lambda: not server.ready())
    with pytest.raises((InferenceServerException, grpc.aio.AioRpcError), match=r"stopp|refused|[Cc]onnect"):
        await ask(server, "Hello.", {"max_tokens": 3})
    assert sum((await running).counts) == 120
    assert server.terminate() == 0


async def test_a_termination_cuts_off_what_takes_longer_than_its_limit() -> None:
    server = start_emulator(f"--model=llm={PROFILE}", "--exit-timeout=0.2")
    running = asyncio.ensure_future(ask(server, "Tell me all.", LONG))
    assert await asyncio.to_thread(wait_until, lambda: server.metric("vllm:num_requests_running") == 1)
    assert server.terminate() == 0
    with pytest.raises(InferenceServerException, match="was stopped before the answer was complete"):
        await running


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--model=llm=V100/Llama-3-8B"], "unknown GPU 'V100'"),
        (["--model=llm=L4/Llama-3-70B"], "kv_tokens must hold at least one block"),
        (["--model=llm", "--set=max_seq=3"], "unknown setting 'max_seq'"),
        (["--model=llm", "--cold-start=boot=3"], "unknown cold-start phase 'boot'"),
        (["--model=llm", "--faults=boom"], "unknown fault 'boom'"),
        (["--model=llm", "--model=llm"], "named once"),
    ],
)
def test_a_command_line_that_cannot_be_ends_with_one_line(
    arguments: list[str], complaint: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(AssertionError, match="ended with status 1"):
        start_emulator(*arguments)
    text = capfd.readouterr().err
    assert complaint in text
    assert "Traceback" not in text
