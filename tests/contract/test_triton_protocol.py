"""What Forebay expects of any Triton with a text model, kept by the emulator and by the real server alike."""

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from threading import Event
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tests.integration.emulated_triton import start_emulator, wait_until
from tests.integration.real_triton import real_triton

__all__ = ["real_triton"]

ANSWER_S = 120
OPTIONAL = ("finish_reason", "num_input_tokens", "num_output_tokens")
RETURN_ALL = {f"return_{name}": True for name in OPTIONAL}
ENDLESS = {"max_tokens": 1500, "ignore_eos": True}


@dataclass(frozen=True, slots=True)
class Server:
    """One implementation of the protocol, with `model` loaded and `spare` in its repository."""

    stub: Any
    channel: grpc.Channel
    http_address: str
    metrics_url: str
    model: str
    spare: str


@pytest.fixture(scope="module", params=["emulator", "triton"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    if request.param == "emulator":
        emulator = start_emulator("--model=llm=H100/Llama-3-8B", "--available=spare=H100/Llama-3-8B")
        with grpc.insecure_channel(emulator.grpc_address) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            yield Server(stub, channel, emulator.http_address, emulator.metrics_url, "llm", "spare")
        emulator.terminate()
    else:
        real = request.getfixturevalue("real_triton")
        with grpc.insecure_channel(real.grpc_address) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            yield Server(stub, channel, real.http_address, real.metrics_url, real.model, f"{real.model}_short")


@dataclass(frozen=True, slots=True)
class Response:
    """One message of a stream; `outputs` holds text as str and counts as int."""

    request_id: str
    error: str
    model: str
    final: bool
    outputs: dict[str, Any]


def decode(message: service_pb2.ModelStreamInferResponse) -> Response:
    answer = message.infer_response
    outputs: dict[str, Any] = {}
    for tensor, content in zip(answer.outputs, answer.raw_output_contents, strict=True):
        assert list(tensor.shape) == [1]
        outputs[tensor.name] = content[4:].decode() if tensor.datatype == "BYTES" else int.from_bytes(content, "little")
    final = answer.parameters["triton_final_response"].bool_param
    return Response(answer.id, message.error_message, answer.model_name, final, outputs)


def make_request(
    model: str, sampling: Mapping[str, object], request_id: str = "7", text: str = "Tell me a story.", /, **flags: bool
) -> service_pb2.ModelInferRequest:
    built = service_pb2.ModelInferRequest(model_name=model, id=request_id)
    for name, value in {"text_input": text, "sampling_parameters": json.dumps(sampling)}.items():
        built.inputs.add(name=name, datatype="BYTES", shape=[1])
        built.raw_input_contents.append(len(value.encode()).to_bytes(4, "little") + value.encode())
    for flag, on in flags.items():
        built.inputs.add(name=flag, datatype="BOOL", shape=[1])
        built.raw_input_contents.append(bytes([on]))
    return built


def stream(server: Server, *requests: service_pb2.ModelInferRequest) -> list[Response]:
    return [decode(message) for message in server.stub.ModelStreamInfer(iter(requests), timeout=ANSWER_S)]


def metric(server: Server, name: str, **labels: str) -> float:
    with urllib.request.urlopen(server.metrics_url, timeout=ANSWER_S) as reply:
        families = list(text_string_to_metric_families(reply.read().decode()))
    wanted = {"model": server.model, **labels}.items()
    # The parser appends the suffix of OpenMetrics to counters that lack it.
    samples = [sample for family in families for sample in family.samples if sample.name in (name, f"{name}_total")]
    return sum(sample.value for sample in samples if wanted <= sample.labels.items())


def fails_with(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as raised:
        call()
    error: Any = raised.value
    return error.code(), error.details()


def http_status(server: Server, path: str) -> int:
    try:
        with urllib.request.urlopen(f"http://{server.http_address}{path}", timeout=ANSWER_S) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def test_server_and_model_are_live_and_ready(server: Server) -> None:
    assert server.stub.ServerLive(service_pb2.ServerLiveRequest()).live
    assert server.stub.ServerReady(service_pb2.ServerReadyRequest()).ready
    assert server.stub.ModelReady(service_pb2.ModelReadyRequest(name=server.model)).ready
    assert server.stub.ModelReady(service_pb2.ModelReadyRequest(name=server.model, version="1")).ready


def test_a_model_or_version_that_does_not_exist_is_not_ready(server: Server) -> None:
    assert not server.stub.ModelReady(service_pb2.ModelReadyRequest(name="nope")).ready
    assert not server.stub.ModelReady(service_pb2.ModelReadyRequest(name=server.model, version="9")).ready


def test_standard_health_checks_serve(server: Server) -> None:
    check: Any = health_pb2_grpc.HealthStub(server.channel)
    reply = check.Check(health_pb2.HealthCheckRequest(), timeout=ANSWER_S)
    assert reply.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize(
    ("path", "status"),
    [("/v2/health/live", 200), ("/v2/health/ready", 200), ("/v2/models/nope/ready", 400), ("/zork", 404)],
)
def test_health_over_http(server: Server, path: str, status: int) -> None:
    assert http_status(server, path) == status
    assert http_status(server, f"/v2/models/{server.model}/ready") == 200


def test_the_server_says_that_it_is_a_triton_with_a_model_repository(server: Server) -> None:
    metadata = server.stub.ServerMetadata(service_pb2.ServerMetadataRequest())
    assert metadata.name == "triton"
    assert {"model_repository", "model_configuration", "statistics", "binary_tensor_data"} <= set(metadata.extensions)


def test_the_models_tensors_are_those_of_the_vllm_backend(server: Server) -> None:
    metadata = server.stub.ModelMetadata(service_pb2.ModelMetadataRequest(name=server.model))
    inputs = {tensor.name: (tensor.datatype, list(tensor.shape)) for tensor in metadata.inputs}
    outputs = {tensor.name: (tensor.datatype, list(tensor.shape)) for tensor in metadata.outputs}
    assert list(metadata.versions) == ["1"]
    assert inputs["text_input"] == inputs["sampling_parameters"] == ("BYTES", [1])
    flags = ("stream", "exclude_input_in_output", *RETURN_ALL)
    assert all(inputs[name] == ("BOOL", [1]) for name in flags)
    assert outputs["text_output"] == outputs["finish_reason"] == ("BYTES", [-1])
    assert (outputs["num_input_tokens"][0], outputs["num_output_tokens"][0]) == ("UINT32", "UINT32")


def test_the_model_is_decoupled_and_unbatched(server: Server) -> None:
    config = server.stub.ModelConfig(service_pb2.ModelConfigRequest(name=server.model)).config
    assert config.name == server.model
    assert config.max_batch_size == 0
    assert config.model_transaction_policy.decoupled
    assert [tensor.name for tensor in config.input if not tensor.optional] == ["text_input"]


@pytest.mark.parametrize("method", ["ModelMetadata", "ModelConfig"])
def test_questions_about_an_unknown_model_are_not_found(server: Server, method: str) -> None:
    request = getattr(service_pb2, f"{method}Request")(name="nope")
    assert fails_with(lambda: getattr(server.stub, method)(request)) == (
        grpc.StatusCode.NOT_FOUND,
        "Request for unknown model: 'nope' is not found",
    )


def test_statistics_of_an_unknown_model_are_an_invalid_argument(server: Server) -> None:
    request = service_pb2.ModelStatisticsRequest(name="nope")
    assert fails_with(lambda: server.stub.ModelStatistics(request)) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "requested model 'nope' is not available",
    )


def test_a_unary_call_is_unimplemented(server: Server) -> None:
    request = make_request(server.model, {"max_tokens": 2})
    code, text = fails_with(lambda: server.stub.ModelInfer(request, timeout=ANSWER_S))
    assert code == grpc.StatusCode.UNIMPLEMENTED
    assert "decoupled" in text
    request.model_name = "nope"
    assert fails_with(lambda: server.stub.ModelInfer(request, timeout=ANSWER_S))[0] == grpc.StatusCode.NOT_FOUND


def test_a_streamed_answer_comes_in_pieces_and_ends_with_a_final_response(server: Server) -> None:
    responses = stream(
        server, make_request(server.model, {"max_tokens": 12, "ignore_eos": True}, stream=True, **RETURN_ALL)
    )
    *pieces, last = responses
    assert len(pieces) >= 5
    assert [response.final for response in responses] == [False] * len(pieces) + [True]
    assert [piece.outputs["finish_reason"] for piece in pieces] == ["None"] * len(pieces)
    assert last.outputs["finish_reason"] == "length"
    assert sum(response.outputs["num_output_tokens"] for response in responses) == 12
    assert len({response.outputs["num_input_tokens"] for response in responses}) == 1
    assert {(response.request_id, response.model, response.error) for response in responses} == {
        ("7", server.model, "")
    }


def test_asking_for_empty_final_responses_adds_no_second_end(server: Server) -> None:
    request = make_request(server.model, {"max_tokens": 3, "ignore_eos": True}, stream=True)
    request.parameters["triton_enable_empty_final_response"].bool_param = True
    responses = stream(server, request)
    assert [response.final for response in responses].count(True) == 1
    assert responses[-1].final


def test_without_stream_one_response_carries_prompt_and_answer(server: Server) -> None:
    (whole,) = stream(server, make_request(server.model, {"max_tokens": 5, "ignore_eos": True}, **RETURN_ALL))
    assert whole.final
    assert whole.outputs["text_output"].startswith("Tell me a story.")
    assert len(whole.outputs["text_output"]) > len("Tell me a story.")
    assert (whole.outputs["num_output_tokens"], whole.outputs["finish_reason"]) == (5, "length")


def test_the_prompt_is_left_out_on_request(server: Server) -> None:
    request = make_request(server.model, {"max_tokens": 5, "ignore_eos": True}, exclude_input_in_output=True)
    (answer,) = stream(server, request)
    assert not answer.outputs["text_output"].startswith("Tell me a story.")
    assert set(answer.outputs) == {"text_output"}


def test_the_default_limit_is_sixteen_tokens(server: Server) -> None:
    (answer,) = stream(server, make_request(server.model, {"ignore_eos": True}, **RETURN_ALL))
    assert (answer.outputs["num_output_tokens"], answer.outputs["finish_reason"]) == (16, "length")


def test_sampling_parameters_may_be_request_parameters(server: Server) -> None:
    request = make_request(server.model, {}, **RETURN_ALL)
    del request.inputs[1], request.raw_input_contents[1]
    request.parameters["max_tokens"].int64_param = 4
    request.parameters["ignore_eos"].bool_param = True
    (answer,) = stream(server, request)
    assert answer.outputs["num_output_tokens"] == 4


def test_named_outputs_narrow_what_comes_back(server: Server) -> None:
    request = make_request(server.model, {"max_tokens": 2, "ignore_eos": True}, **RETURN_ALL)
    request.outputs.add(name="num_output_tokens")
    (answer,) = stream(server, request)
    assert answer.outputs == {"num_output_tokens": 2}


def test_many_requests_share_one_stream(server: Server) -> None:
    names = [f"r{number}" for number in range(6)]
    sampling = {"max_tokens": 8, "ignore_eos": True}
    responses = stream(
        server,
        *(make_request(server.model, sampling, name, f"Say {name}.", stream=True, **RETURN_ALL) for name in names),
    )
    counts = {name: sum(r.outputs["num_output_tokens"] for r in responses if r.request_id == name) for name in names}
    assert counts == dict.fromkeys(names, 8)
    assert sorted(response.request_id for response in responses if response.final) == names


def test_a_stream_stays_open_for_later_requests(server: Server) -> None:
    first_ended = Event()

    def requests() -> Iterable[service_pb2.ModelInferRequest]:
        for name in ("first", "second"):
            yield make_request(server.model, {"max_tokens": 3, "ignore_eos": True}, name, stream=True)
            first_ended.wait(ANSWER_S)

    ended = []
    for message in server.stub.ModelStreamInfer(requests(), timeout=ANSWER_S):
        response = decode(message)
        if response.final:
            ended.append(response.request_id)
            first_ended.set()
    assert ended == ["first", "second"]


def broken(server: Server, change: Callable[[service_pb2.ModelInferRequest], object]) -> service_pb2.ModelInferRequest:
    request = make_request(server.model, {"max_tokens": 3}, return_finish_reason=True)
    change(request)
    return request


def set_tensor(request: service_pb2.ModelInferRequest, **fields: Any) -> None:
    tensor = request.inputs[2]
    tensor.name, tensor.datatype = fields.get("name", tensor.name), fields.get("datatype", tensor.datatype)
    tensor.shape[:] = fields.get("shape", [1])
    request.raw_input_contents[2] = fields.get("content", b"\1")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda r: setattr(r, "model_name", "nope"), "Request for unknown model: 'nope' is not found"),
        (lambda r: setattr(r, "model_version", "9"), "version 9 is not found"),
        (lambda r: set_tensor(r, name="zork"), "unexpected inference input 'zork' for model"),
        (lambda r: set_tensor(r, datatype="INT32", content=b"\1\0\0\0"), "data-type is 'INT32', but model"),
        (lambda r: set_tensor(r, shape=[2], content=b"\1\1"), "unexpected shape for input 'return_finish_reason'"),
        (lambda r: set_tensor(r, content=b"\1\1"), "input byte size mismatch for input 'return_finish_reason'"),
        (lambda r: r.outputs.add(name="zork"), "unexpected inference output 'zork' for model"),
    ],
)
def test_what_the_server_refuses_is_an_error_inside_the_stream(
    server: Server, change: Callable[[service_pb2.ModelInferRequest], object], complaint: str
) -> None:
    good = make_request(server.model, {"max_tokens": 2, "ignore_eos": True}, "good")
    responses = stream(server, broken(server, change), good)
    errors = {response.request_id: response.error for response in responses}
    assert complaint in errors["7"]
    assert errors["good"] == ""


@pytest.mark.parametrize(
    ("sampling", "flags"),
    [
        ({"max_tokens": 0}, {}),
        ({"max_tokens": "many"}, {}),
        ({"max_tokens": 3}, {"stream": True, "exclude_input_in_output": False}),
    ],
)
def test_what_the_model_refuses_is_a_final_error(
    server: Server, sampling: Mapping[str, object], flags: Mapping[str, bool]
) -> None:
    (response,) = stream(server, make_request(server.model, sampling, **flags))
    assert response.error
    assert (response.request_id, response.model, response.final) == ("7", server.model, True)


def test_a_request_without_a_prompt_gets_an_error(server: Server) -> None:
    request = make_request(server.model, {"max_tokens": 3})
    del request.inputs[0], request.raw_input_contents[0]
    (response,) = stream(server, request)
    assert "text_input" in response.error
    assert response.request_id == "7"


def test_an_empty_or_endless_prompt_gets_an_error(server: Server) -> None:
    for text in ("", "word " * 20_000):
        (response,) = stream(server, make_request(server.model, {"max_tokens": 3}, "7", text))
        assert response.error
        assert response.final


def test_in_grpc_error_mode_a_refusal_of_the_model_ends_the_call(server: Server) -> None:
    request = make_request(server.model, {"max_tokens": 0})
    call = server.stub.ModelStreamInfer(iter([request]), timeout=ANSWER_S, metadata=[("triton_grpc_error", "true")])
    assert fails_with(lambda: list(call))[0] == grpc.StatusCode.INVALID_ARGUMENT


def test_a_cancelled_call_frees_its_place(server: Server) -> None:
    call = server.stub.ModelStreamInfer(iter([make_request(server.model, ENDLESS, stream=True)]), timeout=ANSWER_S)
    next(call)
    assert wait_until(lambda: metric(server, "vllm:num_requests_running") == 1)
    call.cancel()
    assert wait_until(lambda: metric(server, "vllm:num_requests_running") == 0)
    assert wait_until(lambda: metric(server, "vllm:kv_cache_usage_perc") == 0)


def test_priority_and_timeout_are_accepted(server: Server) -> None:
    request = make_request(server.model, {"max_tokens": 2, "ignore_eos": True})
    request.parameters["priority"].uint64_param = 1
    request.parameters["timeout"].int64_param = 60_000_000
    (answer,) = stream(server, request)
    assert not answer.error


def test_metrics_count_inferences_and_tokens(server: Server) -> None:
    names = ("nv_inference_request_success", "nv_inference_count", "vllm:generation_tokens_total")
    before = [metric(server, name) for name in names]
    stream(server, make_request(server.model, {"max_tokens": 9, "ignore_eos": True}))
    expected = [before[0] + 1, before[1] + 1, before[2] + 9]
    assert wait_until(lambda: [metric(server, name) for name in names] == expected)
    for name in ("nv_inference_request_duration_us", "nv_inference_queue_duration_us"):
        assert metric(server, name) > 0
    assert metric(server, "nv_inference_pending_request_count") == 0
    assert metric(server, "nv_inference_request_failure", reason="REJECTED") == 0


def test_statistics_grow_with_each_request(server: Server) -> None:
    def count() -> int:
        (stats,) = server.stub.ModelStatistics(service_pb2.ModelStatisticsRequest(name=server.model)).model_stats
        assert stats.version == "1"
        return int(stats.inference_count)

    before = count()
    stream(server, make_request(server.model, {"max_tokens": 2}))
    assert wait_until(lambda: count() == before + 1)


def states(server: Server) -> dict[str, str]:
    models = server.stub.RepositoryIndex(service_pb2.RepositoryIndexRequest()).models
    return {model.name: model.state for model in models}


def test_the_index_lists_loaded_and_unloaded_models(server: Server) -> None:
    assert states(server)[server.model] == "READY"
    assert states(server)[server.spare] in ("", "UNAVAILABLE")
    ready = server.stub.RepositoryIndex(service_pb2.RepositoryIndexRequest(ready=True)).models
    assert [(model.name, model.version) for model in ready] == [(server.model, "1")]


def test_a_model_loads_answers_and_unloads(server: Server) -> None:
    load = service_pb2.RepositoryModelLoadRequest(model_name=server.spare)
    server.stub.RepositoryModelLoad(load, timeout=ANSWER_S)
    assert states(server)[server.spare] == "READY"
    (answer,) = stream(server, make_request(server.spare, {"max_tokens": 2, "ignore_eos": True}))
    assert not answer.error
    server.stub.RepositoryModelUnload(service_pb2.RepositoryModelUnloadRequest(model_name=server.spare))
    assert wait_until(lambda: states(server)[server.spare] == "UNAVAILABLE")
    assert not server.stub.ModelReady(service_pb2.ModelReadyRequest(name=server.spare)).ready
    (refused,) = stream(server, make_request(server.spare, {"max_tokens": 2}))
    assert f"'{server.spare}' has no available versions" in refused.error
    assert wait_until(lambda: bool(server.stub.ServerReady(service_pb2.ServerReadyRequest()).ready))


def test_a_model_keeps_answering_while_it_is_loaded_again(server: Server) -> None:
    config = server.stub.ModelConfig(service_pb2.ModelConfigRequest(name=server.model)).config
    config.parameters["note"].string_value = "loaded again"
    call = server.stub.ModelStreamInfer(
        iter([make_request(server.model, {"max_tokens": 200, "ignore_eos": True}, stream=True, **RETURN_ALL)]),
        timeout=ANSWER_S,
    )
    first = decode(next(call))
    load = service_pb2.RepositoryModelLoadRequest(model_name=server.model)
    load.parameters["config"].string_param = json_format.MessageToJson(config, preserving_proto_field_name=True)
    server.stub.RepositoryModelLoad(load, timeout=ANSWER_S)
    assert states(server)[server.model] == "READY"
    counts = [first.outputs["num_output_tokens"], *(decode(m).outputs["num_output_tokens"] for m in call)]
    assert sum(counts) == 200


def test_loading_what_is_loaded_changes_nothing(server: Server) -> None:
    server.stub.RepositoryModelLoad(service_pb2.RepositoryModelLoadRequest(model_name=server.model), timeout=ANSWER_S)
    assert states(server)[server.model] == "READY"


def test_an_unknown_model_cannot_be_loaded_but_may_be_unloaded(server: Server) -> None:
    load = service_pb2.RepositoryModelLoadRequest(model_name="nope")
    code, text = fails_with(lambda: server.stub.RepositoryModelLoad(load, timeout=ANSWER_S))
    assert code == grpc.StatusCode.INTERNAL
    assert text.startswith("failed to load 'nope'")
    server.stub.RepositoryModelUnload(service_pb2.RepositoryModelUnloadRequest(model_name="nope"))


def test_a_configuration_that_is_not_json_cannot_be_loaded(server: Server) -> None:
    load = service_pb2.RepositoryModelLoadRequest(model_name=server.spare)
    load.parameters["config"].string_param = "{zz"
    code, text = fails_with(lambda: server.stub.RepositoryModelLoad(load, timeout=ANSWER_S))
    assert code == grpc.StatusCode.INTERNAL
    assert text.startswith(f"failed to load '{server.spare}'")
