import json

import pytest
from tritonclient.grpc import service_pb2

from forebay.core.errors import InvalidArgument
from forebay.gateway import triton


def response(**outputs: bytes) -> service_pb2.ModelStreamInferResponse:
    message = service_pb2.ModelStreamInferResponse()
    for name, raw in outputs.items():
        message.infer_response.outputs.add(name=name, datatype="BYTES", shape=[1])
        message.infer_response.raw_output_contents.append(raw)
    return message


def element(text: str) -> bytes:
    return len(text.encode()).to_bytes(4, "little") + text.encode()


def test_a_text_request_streams_counts_and_marks_its_end() -> None:
    request = triton.text_request("m", "Grüß Gott", {"max_tokens": 5})
    tensors = triton.inputs(request)
    assert request.model_name == "m"
    assert triton.as_text(tensors["text_input"], "text_input") == "Grüß Gott"
    assert json.loads(triton.as_text(tensors["sampling_parameters"], "s")) == {"max_tokens": 5}
    flags = ("stream", "exclude_input_in_output", "return_finish_reason")
    flags += ("return_num_input_tokens", "return_num_output_tokens")
    assert all(tensors[name] == b"\x01" for name in flags)
    assert request.parameters["triton_enable_empty_final_response"].bool_param
    assert {tensor.datatype for tensor in request.inputs} == {"BYTES", "BOOL"}


def test_a_tensor_that_is_there_is_replaced() -> None:
    request = triton.text_request("m", "a", {})
    count = len(request.inputs)
    triton.set_tensor(request, "text_input", b"b")
    assert len(request.inputs) == len(request.raw_input_contents) == count
    assert triton.inputs(request)["text_input"] == element("b")


def test_a_response_is_read_by_the_names_of_its_outputs() -> None:
    message = response(
        num_output_tokens=(3).to_bytes(4, "little"),
        text_output=element("héllo"),
        num_input_tokens=(300).to_bytes(4, "little"),
        finish_reason=element("length"),
    )
    message.infer_response.parameters["triton_final_response"].bool_param = True
    chunk = triton.read(message)
    assert (chunk.text, chunk.input_tokens, chunk.output_tokens) == ("héllo", 300, 3)
    assert (chunk.finish_reason, chunk.is_final) == ("length", True)


def test_a_running_answer_has_no_finish_reason() -> None:
    chunk = triton.read(response(text_output=element("a"), finish_reason=element("None")))
    assert (chunk.finish_reason, chunk.is_final) == ("", False)


def test_an_empty_response_is_nothing() -> None:
    chunk = triton.read(response())
    assert (chunk.text, chunk.output_tokens, chunk.is_final) == ("", 0, False)


def test_typed_contents_become_raw() -> None:
    request = service_pb2.ModelInferRequest()
    tensor = request.inputs.add(name="text_input", datatype="BYTES", shape=[1])
    tensor.contents.bytes_contents.append(b"hi")
    request.inputs.add(name="stream", datatype="BOOL", shape=[1]).contents.bool_contents.append(True)
    triton.make_raw(request)
    assert triton.inputs(request) == {"text_input": element("hi"), "stream": b"\x01"}


def test_typed_contents_of_another_type_are_refused() -> None:
    request = service_pb2.ModelInferRequest()
    request.inputs.add(name="image", datatype="FP32", shape=[1])
    with pytest.raises(InvalidArgument, match="image"):
        triton.make_raw(request)


def test_a_request_without_contents_for_each_input_is_refused() -> None:
    request = triton.text_request("m", "a", {})
    del request.raw_input_contents[0]
    with pytest.raises(InvalidArgument, match="each input needs one"):
        triton.inputs(request)


@pytest.mark.parametrize("raw", [b"", b"ab", element("a") + b"x", element("a")[:-1], element("a") * 2])
def test_a_text_that_is_not_one_element_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidArgument, match="one element"):
        triton.as_text(raw, "text_input")


def test_a_text_that_is_not_utf_8_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="UTF-8 at byte 1"):
        triton.as_text((2).to_bytes(4, "little") + b"a\xff", "text_input")
