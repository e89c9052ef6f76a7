"""Requests and responses with the tensors and the semantics of Triton's vLLM backend."""

import json

import pytest
from tritonclient.grpc import service_pb2

from forebay.core.errors import InvalidArgument
from forebay.emulator.generate import (
    MODEL_REFUSED,
    Chunk,
    GenerateRequest,
    make_error,
    make_response,
    read_request,
)
from forebay.emulator.tensors import text_bytes


def message(sampling: object = None, **inputs: bytes) -> service_pb2.ModelInferRequest:
    built = service_pb2.ModelInferRequest(model_name="m", id="7")
    values = {"text_input": text_bytes("Why?"), **inputs}
    if sampling is not None:
        values["sampling_parameters"] = text_bytes(sampling if isinstance(sampling, str) else json.dumps(sampling))
    for name, content in values.items():
        datatype = "BYTES" if name in ("text_input", "sampling_parameters") else "BOOL"
        built.inputs.add(name=name, datatype=datatype, shape=[1])
        built.raw_input_contents.append(content)
    return built


TRUE, FALSE = b"\1", b"\0"


def outputs(response: service_pb2.ModelStreamInferResponse) -> dict[str, bytes]:
    answer = response.infer_response
    return {tensor.name: content for tensor, content in zip(answer.outputs, answer.raw_output_contents, strict=True)}


def test_a_bare_request_has_the_defaults_of_vllm() -> None:
    assert read_request(message()) == GenerateRequest(
        request_id="7",
        model="m",
        prompt="Why?",
        stream=False,
        prepend_prompt=True,
        outputs=frozenset({"text_output"}),
        tokens_max=16,
        ignore_eos=False,
    )


def test_the_priority_is_a_parameter_of_the_request() -> None:
    asked = message()
    asked.parameters["priority"].uint64_param = 3
    assert read_request(asked).priority == 3


def test_streaming_leaves_the_prompt_out() -> None:
    assert not read_request(message(stream=TRUE)).prepend_prompt
    assert not read_request(message(exclude_input_in_output=TRUE)).prepend_prompt
    assert read_request(message(exclude_input_in_output=FALSE)).prepend_prompt


def test_sampling_parameters_are_read_from_their_tensor_or_from_the_request() -> None:
    assert read_request(message({"max_tokens": 40, "ignore_eos": True, "temperature": 0.7})).tokens_max == 40
    assert read_request(message({"max_tokens": "40"})).tokens_max == 40
    plain = message()
    plain.parameters["max_tokens"].int64_param = 12
    plain.parameters["ignore_eos"].bool_param = True
    request = read_request(plain)
    assert (request.tokens_max, request.ignore_eos) == (12, True)


@pytest.mark.parametrize(
    ("built", "complaint"),
    [
        (message("{zz"), "sampling_parameters is not valid JSON"),
        (message("[1]"), "must be a JSON object"),
        (message({"max_tokens": 0}), "max_tokens must be at least 1, got 0"),
        (message({"max_tokens": 1.5}), "max_tokens must be at least 1, got 1.5"),
        (message(stream=TRUE, exclude_input_in_output=FALSE), "`exclude_input_in_output` = False is not allowed"),
        (message(text_input=text_bytes("")), "prompt cannot be empty"),
        (message(text_input=b"\2\0\0\0\xff\xfe"), "text_input is not valid UTF-8"),
    ],
)
def test_what_the_model_refuses_says_so(built: service_pb2.ModelInferRequest, complaint: str) -> None:
    with pytest.raises(InvalidArgument, match=complaint) as raised:
        read_request(built)
    assert raised.value.code == MODEL_REFUSED


def test_further_outputs_come_only_where_asked_for() -> None:
    asked = read_request(message(return_finish_reason=TRUE, return_num_output_tokens=TRUE))
    assert outputs(make_response(asked, "1", Chunk("So", 2, 5))) == {
        "text_output": b"\2\0\0\0So",
        "finish_reason": b"\4\0\0\0None",
        "num_output_tokens": b"\2\0\0\0",
    }
    counted = read_request(message(return_num_input_tokens=TRUE))
    assert outputs(make_response(counted, "1", Chunk("So", 2, 5)))["num_input_tokens"] == b"\5\0\0\0"


def test_named_outputs_narrow_what_comes_back() -> None:
    built = message(return_finish_reason=TRUE)
    built.outputs.add(name="finish_reason")
    assert set(outputs(make_response(read_request(built), "1", Chunk("So", 1, 1, "stop")))) == {"finish_reason"}


def test_only_the_last_response_is_final_and_gives_a_reason() -> None:
    request = read_request(message(return_finish_reason=TRUE))
    middle = make_response(request, "1", Chunk("So", 1, 5))
    last = make_response(request, "1", Chunk("", 1, 5, "length"))
    assert not middle.infer_response.parameters["triton_final_response"].bool_param
    assert last.infer_response.parameters["triton_final_response"].bool_param
    assert outputs(last)["finish_reason"] == b"\6\0\0\0length"
    assert (last.infer_response.id, last.infer_response.model_name, last.infer_response.model_version) == (
        "7",
        "m",
        "1",
    )


def test_an_error_of_the_server_names_the_request_only() -> None:
    error = make_error("no such model", "7")
    assert (error.error_message, error.infer_response.id, error.infer_response.model_name) == ("no such model", "7", "")
    assert not error.infer_response.parameters


def test_an_error_of_the_model_ends_the_request() -> None:
    error = make_error("bad prompt", "7", "m")
    assert error.infer_response.model_name == "m"
    assert error.infer_response.parameters["triton_final_response"].bool_param
