"""The real language model on the real Triton: what the fleet's managers rely on, seen from a client."""

import json
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event

import grpc
import pytest
from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

from tests.integration.real_triton import ROOT, RealTriton, real_triton, start_server, stop_server

__all__ = ["real_triton"]

# The machine may be busy with other tests; nothing here is about speed.
ANSWER_S = 120
PATIENCE_STEPS = 600
STEP_S = 0.05
COUNTS = ("return_finish_reason", "return_num_input_tokens", "return_num_output_tokens")
ENDLESS = {"max_tokens": 1500, "ignore_eos": True}


@dataclass(frozen=True, slots=True)
class Response:
    """One message of a stream; `outputs` holds text as str and counts as int."""

    request_id: str
    error: str
    is_final: bool
    outputs: dict[str, str | int]


def decode(message: service_pb2.ModelStreamInferResponse) -> Response:
    answer = message.infer_response
    outputs: dict[str, str | int] = {}
    for tensor, content in zip(answer.outputs, answer.raw_output_contents, strict=True):
        is_text = tensor.datatype == "BYTES"
        outputs[tensor.name] = content[4:].decode() if is_text else int.from_bytes(content, "little")
    is_final = answer.parameters["triton_final_response"].bool_param
    return Response(answer.id, message.error_message, is_final, outputs)


def make_request(
    model: str,
    text: str | bytes,
    sampling: Mapping[str, object] | bytes | None = None,
    request_id: str = "",
    **flags: bool,
) -> service_pb2.ModelInferRequest:
    request = service_pb2.ModelInferRequest(model_name=model, id=request_id)

    def add(name: str, datatype: str, content: bytes) -> None:
        request.inputs.add(name=name, datatype=datatype, shape=[1])
        request.raw_input_contents.append(content)

    def add_text(name: str, content: str | bytes) -> None:
        encoded = content.encode() if isinstance(content, str) else content
        add(name, "BYTES", len(encoded).to_bytes(4, "little") + encoded)

    add_text("text_input", text)
    if sampling is not None:
        add_text("sampling_parameters", sampling if isinstance(sampling, bytes) else json.dumps(sampling))
    for name, value in flags.items():
        add(name, "BOOL", bytes([value]))
    return request


@pytest.fixture(scope="module")
def stub(real_triton: RealTriton) -> Iterator[service_pb2_grpc.GRPCInferenceServiceStub]:
    with grpc.insecure_channel(real_triton.grpc_address) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


Ask = Callable[..., list[Response]]


@pytest.fixture(scope="module")
def ask(stub: service_pb2_grpc.GRPCInferenceServiceStub) -> Ask:
    """Send one request on a stream of its own and return all responses."""

    def send(text: str | bytes, sampling: Mapping[str, object] | bytes | None = None, **flags: bool) -> list[Response]:
        request = make_request("smollm2", text, sampling, "", **flags)
        return [decode(message) for message in stub.ModelStreamInfer(iter([request]), timeout=ANSWER_S)]

    return send


def ask_with_counts(ask: Ask, text: str, **sampling: object) -> list[Response]:
    return ask(text, {"temperature": 0, **sampling}, stream=True, **dict.fromkeys(COUNTS, True))


def text_of(responses: list[Response]) -> str:
    return "".join(str(response.outputs["text_output"]) for response in responses)


def read_metric(server: RealTriton, name: str) -> float:
    """The metric of model smollm2, summed over the processes that report it."""
    with urllib.request.urlopen(server.metrics_url, timeout=30) as reply:
        lines = reply.read().decode().splitlines()
    values = [line.rsplit(" ", 1)[1] for line in lines if line.startswith(name + "{") and 'model="smollm2"' in line]
    assert values, name
    return sum(map(float, values))


def wait_until(condition: Callable[[], bool], steps: int = PATIENCE_STEPS) -> bool:
    return any(condition() or Event().wait(STEP_S) for _ in range(steps))


def test_server_and_model_are_live_and_ready(stub: service_pb2_grpc.GRPCInferenceServiceStub) -> None:
    assert stub.ServerLive(service_pb2.ServerLiveRequest()).live
    assert stub.ServerReady(service_pb2.ServerReadyRequest()).ready
    assert stub.ModelReady(service_pb2.ModelReadyRequest(name="smollm2")).ready


def test_a_second_model_loads_answers_and_unloads(stub: service_pb2_grpc.GRPCInferenceServiceStub) -> None:
    def states() -> dict[str, str]:
        return {model.name: model.state for model in stub.RepositoryIndex(service_pb2.RepositoryIndexRequest()).models}

    assert set(states()) == {"smollm2", "smollm2_short", "smollm2_static"}
    assert states()["smollm2_short"] != "READY"
    load = service_pb2.RepositoryModelLoadRequest(model_name="smollm2_short")
    stub.RepositoryModelLoad(load, timeout=ANSWER_S)
    assert states()["smollm2_short"] == "READY"
    request = make_request("smollm2_short", "What is the capital of France?", {"max_tokens": 30, "temperature": 0})
    (response,) = [decode(message) for message in stub.ModelStreamInfer(iter([request]), timeout=ANSWER_S)]
    assert "Paris" in str(response.outputs["text_output"])
    unload = service_pb2.RepositoryModelUnloadRequest(model_name="smollm2_short")
    stub.RepositoryModelUnload(unload, timeout=ANSWER_S)
    assert wait_until(lambda: (states()["smollm2"], states()["smollm2_short"]) == ("READY", "UNAVAILABLE"))


@pytest.fixture(scope="module", params=["false", "true"], ids=["plain", "padded"])
def static(
    stub: service_pb2_grpc.GRPCInferenceServiceStub, request: pytest.FixtureRequest
) -> Iterator[Callable[..., list[tuple[str, int]]]]:
    """Sends requests of (name, batch, size of the batch, tokens) to the static model; gives their order of answers."""
    overridden = read_config("models/smollm2_static")
    overridden.parameters["kv_tokens"].string_value = "200"
    overridden.parameters["padding"].string_value = request.param
    load = service_pb2.RepositoryModelLoadRequest(model_name="smollm2_static")
    load.parameters["config"].string_param = json_format.MessageToJson(overridden, preserving_proto_field_name=True)
    stub.RepositoryModelLoad(load, timeout=ANSWER_S)
    yield partial(run_batches, stub)
    stub.RepositoryModelUnload(service_pb2.RepositoryModelUnloadRequest(model_name="smollm2_static"), timeout=ANSWER_S)


def run_batches(
    stub: service_pb2_grpc.GRPCInferenceServiceStub, asked: list[tuple[str, str, int, int]]
) -> list[tuple[str, int]]:
    ended: list[tuple[str, int]] = []

    def run(name: str, batch_id: str, batch_count: int, tokens: int) -> None:
        sampling = {"max_tokens": tokens, "ignore_eos": True}
        flags = {"stream": True, "return_num_output_tokens": True}
        request = make_request("smollm2_static", "Say something.", sampling, name, **flags)
        request.parameters["batch_id"].string_param = batch_id
        request.parameters["batch_count"].int64_param = batch_count
        (response,) = [decode(message) for message in stub.ModelStreamInfer(iter([request]), timeout=ANSWER_S)]
        assert (response.is_final, response.error) == (True, "")
        ended.append((name, int(response.outputs["num_output_tokens"])))

    with ThreadPoolExecutor(len(asked)) as pool:
        list(pool.map(lambda one: run(*one), asked))
    return ended


def test_a_static_batch_gives_all_answers_when_its_longest_is_done(
    static: Callable[[list[tuple[str, str, int, int]]], list[tuple[str, int]]],
) -> None:
    asked = [("a1", "a", 3, 1), ("b1", "b", 2, 2), ("a2", "a", 3, 20), ("b2", "b", 2, 3), ("a3", "a", 3, 4)]
    ended = static(asked)
    assert sorted(ended) == sorted((name, tokens) for name, _, _, tokens in asked)
    # Whichever batch was first: one is over before the other one is.
    order = "".join(name[0] for name, _ in ended)
    assert order in ("aaabb", "bbaaa")


def test_a_static_batch_that_outgrows_its_memory_is_answered_in_halves(
    static: Callable[[list[tuple[str, str, int, int]]], list[tuple[str, int]]],
) -> None:
    ended = static([(f"o{number}", "o", 4, 45) for number in range(4)])
    assert sorted(ended) == [(f"o{number}", 45) for number in range(4)]


def test_a_static_batch_that_stays_incomplete_runs_in_the_end(
    static: Callable[[list[tuple[str, str, int, int]]], list[tuple[str, int]]],
) -> None:
    assert static([("late", "l", 2, 3)]) == [("late", 3)]


def test_a_streamed_answer_comes_in_pieces_with_counts_and_ends_by_itself(ask: Ask) -> None:
    responses = ask_with_counts(ask, "What is the capital of France?", max_tokens=60)
    *pieces, last = responses
    assert "Paris" in text_of(responses)
    assert [piece.outputs["finish_reason"] for piece in pieces] == ["None"] * len(pieces)
    assert [response.is_final for response in responses] == [False] * len(pieces) + [True]
    assert last.outputs["finish_reason"] == "stop"
    assert all(piece.outputs["num_output_tokens"] == 1 for piece in pieces)
    assert 5 <= sum(int(response.outputs["num_output_tokens"]) for response in responses) < 60
    assert len({response.outputs["num_input_tokens"] for response in responses}) == 1
    assert int(last.outputs["num_input_tokens"]) > 6


def test_the_token_limit_ends_an_answer_with_reason_length(ask: Ask) -> None:
    responses = ask_with_counts(ask, "Tell me a story.", max_tokens=7, ignore_eos=True)
    assert responses[-1].outputs["finish_reason"] == "length"
    assert sum(int(response.outputs["num_output_tokens"]) for response in responses) == 7


def test_a_stop_word_ends_an_answer_before_itself(ask: Ask) -> None:
    responses = ask_with_counts(ask, "What is the capital of France?", max_tokens=60, stop="Paris")
    assert responses[-1].outputs["finish_reason"] == "stop"
    assert text_of(responses).strip() == "The capital of France is"


def test_without_stream_one_response_holds_the_prompt_and_the_answer(ask: Ask) -> None:
    sampling = {"max_tokens": 30, "temperature": 0}
    (whole,) = ask("What is the capital of France?", sampling)
    assert str(whole.outputs["text_output"]).startswith("What is the capital of France?")
    (answer,) = ask("What is the capital of France?", sampling, exclude_input_in_output=True)
    assert str(answer.outputs["text_output"]).startswith("The capital of France is Paris")
    assert set(answer.outputs) == {"text_output"}


def test_a_raw_prompt_is_continued_rather_than_answered(ask: Ask) -> None:
    responses = ask_with_counts(ask, "The capital of France is", max_tokens=3, raw=True)
    assert text_of(responses).startswith(" Paris")


def test_the_same_seed_gives_the_same_answer(ask: Ask) -> None:
    sampling = {"max_tokens": 8, "temperature": 1.0, "seed": 7}
    (first,), (second,) = (ask("Invent a name for a boat.", sampling) for _ in range(2))
    assert first.outputs == second.outputs


def test_requests_on_one_long_lived_stream_each_end_with_a_final_response(
    stub: service_pb2_grpc.GRPCInferenceServiceStub,
) -> None:
    all_ended = Event()

    def requests() -> Iterator[service_pb2.ModelInferRequest]:
        for name in ("a", "b", "c"):
            yield make_request("smollm2", f"Say {name}.", {"max_tokens": 5}, name, stream=True)
        all_ended.wait(ANSWER_S)

    ended = []
    for message in stub.ModelStreamInfer(requests(), timeout=ANSWER_S):
        response = decode(message)
        ended += [response.request_id] if response.is_final else []
        if len(ended) == 3:
            all_ended.set()
    assert sorted(ended) == ["a", "b", "c"]


def test_concurrent_streams_advance_together(stub: service_pb2_grpc.GRPCInferenceServiceStub) -> None:
    order: list[tuple[int, bool]] = []

    def run(index: int) -> None:
        request = make_request(
            "smollm2", f"Tell me about {index}.", {"max_tokens": 60, "ignore_eos": True}, stream=True
        )
        for message in stub.ModelStreamInfer(iter([request]), timeout=ANSWER_S):
            order.append((index, decode(message).is_final))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, range(4)))
    first_end = next(position for position, (_, is_final) in enumerate(order) if is_final)
    assert {index for index, _ in order[:first_end]} == {0, 1, 2, 3}


def test_more_requests_than_slots_are_all_answered(ask: Ask) -> None:
    with ThreadPoolExecutor(9) as pool:
        answers = list(pool.map(lambda index: ask_with_counts(ask, f"Say {index}.", max_tokens=8), range(9)))
    assert all(answer[-1].is_final and not answer[-1].error for answer in answers)


def test_cancelled_requests_free_their_slots_and_leave_the_queue(
    real_triton: RealTriton,
    stub: service_pb2_grpc.GRPCInferenceServiceStub,
    ask: Ask,
) -> None:
    calls = [
        stub.ModelStreamInfer(
            iter([make_request("smollm2", "Tell me a story.", ENDLESS, stream=True)]), timeout=ANSWER_S
        )
        for _ in range(7)
    ]
    assert wait_until(lambda: read_metric(real_triton, "vllm:num_requests_waiting") == 3)
    assert read_metric(real_triton, "vllm:num_requests_running") == 4
    produced = read_metric(real_triton, "vllm:generation_tokens_total")
    for call in calls:
        call.cancel()
    assert wait_until(lambda: read_metric(real_triton, "vllm:num_requests_running") == 0)
    assert read_metric(real_triton, "vllm:num_requests_waiting") == 0
    assert read_metric(real_triton, "vllm:generation_tokens_total") - produced < 7 * 1500
    assert ask_with_counts(ask, "Hello.", max_tokens=5)[-1].is_final


def test_a_request_cancelled_while_its_prompt_is_read_frees_its_slot(
    real_triton: RealTriton,
    stub: service_pb2_grpc.GRPCInferenceServiceStub,
) -> None:
    request = make_request("smollm2", "word " * 1900, {"max_tokens": 50}, stream=True)
    call = stub.ModelStreamInfer(iter([request]), timeout=ANSWER_S)
    assert wait_until(lambda: read_metric(real_triton, "vllm:num_requests_running") == 1)
    call.cancel()
    assert wait_until(lambda: read_metric(real_triton, "vllm:num_requests_running") == 0)


@pytest.mark.parametrize(
    ("text", "sampling", "flags", "expected"),
    [
        ("", {}, {}, "text_input is empty"),
        (" \n", {}, {}, "text_input is empty"),
        (b"\xff\xfe", {}, {}, "not valid UTF-8"),
        ("Hello", b"{bad", {}, "not valid JSON"),
        ("Hello", b"[1]", {}, "must be a JSON object"),
        ("Hello", {"max_token": 3}, {}, "unknown sampling parameter 'max_token'"),
        ("Hello", {"max_tokens": "3"}, {}, "'max_tokens' must be int"),
        ("Hello", {"max_tokens": 0}, {}, "'max_tokens' must be int"),
        ("Hello", {"temperature": True}, {}, "'temperature' must be float"),
        ("Hello", {"stop": [1]}, {}, "'stop' must be"),
        ("Hello", {"raw": 1}, {}, "'raw' must be true or false"),
        ("word " * 5000, {}, {}, "exceeds the available context size"),
        ("Hello", {}, {"stream": True, "exclude_input_in_output": False}, "exclude_input_in_output must not be false"),
    ],
)
def test_a_bad_request_gets_one_clear_error_and_the_server_lives(
    ask: Ask, text: str | bytes, sampling: Mapping[str, object] | bytes, flags: dict[str, bool], expected: str
) -> None:
    (response,) = ask(text, sampling, **flags)
    assert expected in response.error
    assert response.is_final
    assert ask("Hello.", {"max_tokens": 3})[0].error == ""


def test_a_request_without_a_prompt_gets_an_error_too(stub: service_pb2_grpc.GRPCInferenceServiceStub) -> None:
    request = make_request("smollm2", "Hello.", stream=True)
    del request.inputs[0], request.raw_input_contents[0]
    (response,) = [decode(message) for message in stub.ModelStreamInfer(iter([request]), timeout=ANSWER_S)]
    assert (response.error, response.is_final) == ("text_input is missing", True)


def test_a_unary_call_is_refused_as_unimplemented(stub: service_pb2_grpc.GRPCInferenceServiceStub) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        stub.ModelInfer(make_request("smollm2", "Hello.", {"max_tokens": 3}), timeout=ANSWER_S)
    assert raised.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_priority_and_timeout_parameters_change_nothing(stub: service_pb2_grpc.GRPCInferenceServiceStub) -> None:
    request = make_request(
        "smollm2", "Hello.", {"max_tokens": 5, "ignore_eos": True}, "p", return_num_output_tokens=True
    )
    request.parameters["priority"].uint64_param = 1
    request.parameters["timeout"].int64_param = 1
    (response,) = [decode(message) for message in stub.ModelStreamInfer(iter([request]), timeout=ANSWER_S)]
    assert (response.request_id, response.error, response.outputs["num_output_tokens"]) == ("p", "", 5)


def test_http_generate_takes_sampling_from_its_parameters(real_triton: RealTriton) -> None:
    body = {
        "text_input": "What is the capital of France?",
        "exclude_input_in_output": True,
        "return_num_output_tokens": True,
        "parameters": {"max_tokens": 4, "temperature": 0, "ignore_eos": True},
    }
    url = f"http://{real_triton.http_address}/v2/models/smollm2/generate"
    with urllib.request.urlopen(url, json.dumps(body).encode(), timeout=ANSWER_S) as reply:
        answer = json.load(reply)
    assert answer["num_output_tokens"] == 4
    assert answer["text_output"] == "The capital of France"


def test_metrics_count_inferences_and_tokens(real_triton: RealTriton, ask: Ask) -> None:
    names = ("nv_inference_count", "vllm:generation_tokens_total", "vllm:prompt_tokens_total")
    before = [read_metric(real_triton, name) for name in names]
    responses = ask_with_counts(ask, "Count to three.", max_tokens=9, ignore_eos=True)
    prompt_count = int(responses[-1].outputs["num_input_tokens"])
    expected = [before[0] + 1, before[1] + 9, before[2] + prompt_count]
    assert wait_until(lambda: [read_metric(real_triton, name) for name in names] == expected)
    assert read_metric(real_triton, "vllm:kv_cache_usage_perc") == 0


def test_an_answer_survives_a_reload_and_a_termination_of_the_server(
    real_triton: RealTriton,
    tmp_path: Path,
) -> None:
    del real_triton
    server, process = start_server("smollm2", tmp_path / "terminated.log")
    try:
        with grpc.insecure_channel(server.grpc_address) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            request = make_request("smollm2", "Tell me a story.", {"max_tokens": 150, "ignore_eos": True}, stream=True)
            before_reload = stub.ModelStreamInfer(iter([request]), timeout=ANSWER_S)
            next(before_reload)
            assert reload_with_slots(stub, 2) == 2
            before_end = stub.ModelStreamInfer(iter([request]), timeout=ANSWER_S)
            next(before_end)
            process.terminate()
            for stream in (before_reload, before_end):
                last = [decode(message) for message in stream][-1]
                assert (last.is_final, last.error) == (True, "")
        assert process.wait(ANSWER_S) == 0
    finally:
        stop_server(process)


def reload_with_slots(stub: service_pb2_grpc.GRPCInferenceServiceStub, count: int) -> int:
    """Load the running model once more with another slot count; returns the count it then has."""
    config = stub.ModelConfig(service_pb2.ModelConfigRequest(name="smollm2")).config
    config.parameters["slots"].string_value = str(count)
    load = service_pb2.RepositoryModelLoadRequest(model_name="smollm2")
    load.parameters["config"].string_param = json_format.MessageToJson(config, preserving_proto_field_name=True)
    stub.RepositoryModelLoad(load, timeout=ANSWER_S)
    loaded = stub.ModelConfig(service_pb2.ModelConfigRequest(name="smollm2")).config
    return int(loaded.parameters["slots"].string_value)


def test_a_server_killed_in_the_middle_of_an_answer_leaves_no_process_behind(
    real_triton: RealTriton, tmp_path: Path
) -> None:
    del real_triton
    server, process = start_server("smollm2", tmp_path / "killed.log")
    children = pids_whose_parent_is(server.pid)
    assert children
    with grpc.insecure_channel(server.grpc_address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        stream = stub.ModelStreamInfer(
            iter([make_request("smollm2", "Hello.", ENDLESS, stream=True)]), timeout=ANSWER_S
        )
        next(stream)
        process.kill()
        with pytest.raises(grpc.RpcError):
            list(stream)
    process.wait()
    # Twenty seconds when the kill falls into a call of the model to the server, as it mostly does.
    assert wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children), steps=3 * PATIENCE_STEPS)


def read_config(path: str) -> model_config_pb2.ModelConfig:
    text = (ROOT / "compose" / "triton" / path / "config.pbtxt").read_text()
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def test_all_models_for_vllm_and_for_the_cpu_have_the_same_tensors() -> None:
    reference = read_config("models/smollm2")
    for path in ("models/smollm2_short", "models/smollm2_static", "models_vllm/llm"):
        config = read_config(path)
        assert config.name == path.rsplit("/", 1)[1]
        assert (list(config.input), list(config.output)) == (list(reference.input), list(reference.output))
        assert config.model_transaction_policy.decoupled
    json.loads((ROOT / "compose/triton/models_vllm/llm/1/model.json").read_text())


def test_the_tensorrtllm_ensemble_connects_every_tensor() -> None:
    config = read_config("models_tensorrtllm/ensemble")
    known = {tensor.name for tensor in config.input}
    for step in config.ensemble_scheduling.step:
        assert set(step.input_map.values()) <= known, step.model_name
        known |= set(step.output_map.values())
    assert {tensor.name for tensor in config.output} <= known


def pids_whose_parent_is(parent: int) -> list[str]:
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == parent:
            found.append(status.parent.name)
    return found
