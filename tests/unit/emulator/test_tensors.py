"""Inputs are checked with Triton's own words; both ways of sending contents are understood."""

import pytest
from tritonclient.grpc import service_pb2

from forebay.core.errors import InvalidArgument
from forebay.emulator.tensors import (
    Tensor,
    add_output,
    by_name,
    check_outputs,
    read_inputs,
    text_bytes,
    uint32_bytes,
)

DECLARED = by_name([Tensor("text", "BYTES", required=True), Tensor("flag", "BOOL")])


def message(*inputs: tuple[str, str, list[int], bytes]) -> service_pb2.ModelInferRequest:
    built = service_pb2.ModelInferRequest(model_name="m", id="7")
    for name, datatype, shape, content in inputs:
        built.inputs.add(name=name, datatype=datatype, shape=shape)
        built.raw_input_contents.append(content)
    return built


TEXT = ("text", "BYTES", [1], text_bytes("hi"))


def test_raw_contents_are_read_by_name() -> None:
    assert read_inputs(message(("flag", "BOOL", [1], b"\1"), TEXT), DECLARED) == {"flag": b"\1", "text": b"hi"}


def test_typed_contents_are_read_too() -> None:
    built = service_pb2.ModelInferRequest(model_name="m")
    built.inputs.add(name="text", datatype="BYTES", shape=[1]).contents.bytes_contents.append(b"hi")
    built.inputs.add(name="flag", datatype="BOOL", shape=[1]).contents.bool_contents.append(True)
    assert read_inputs(built, DECLARED) == {"text": b"hi", "flag": b"\1"}


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (("zork", "BOOL", [1], b"\1"), "unexpected inference input 'zork' for model 'm'"),
        (("flag", "INT32", [1], b"\1"), r"\[request id: 7\] inference input 'flag' data-type is 'INT32', but model"),
        (("flag", "BOOL", [2], b"\1\1"), r"unexpected shape for input 'flag' for model 'm'. Expected \[1\], got \[2\]"),
        (("flag", "BOOL", [], b""), r"Expected \[1\], got \[\]"),
        (("flag", "BOOL", [1], b"\1\1"), "byte size mismatch for input 'flag' for model 'm'. Expected 1, got 2"),
        (("text", "BYTES", [1], b"\7\0\0\0hi"), "expected 1 string for inference input 'text'"),
        (("text", "BYTES", [1], b""), "expected 1 string for inference input 'text', got 0 bytes"),
    ],
)
def test_an_input_that_does_not_fit_is_refused(given: tuple[str, str, list[int], bytes], complaint: str) -> None:
    with pytest.raises(InvalidArgument, match=complaint):
        read_inputs(message(TEXT, given), DECLARED)


def test_a_missing_input_is_named() -> None:
    with pytest.raises(InvalidArgument, match=r"missing required input\(s\) \['text'\]"):
        read_inputs(message(("flag", "BOOL", [1], b"\1")), DECLARED)


def test_a_request_without_an_id_is_called_unknown() -> None:
    built = message(("flag", "BOOL", [1], b"\1"))
    built.id = ""
    with pytest.raises(InvalidArgument, match="<id_unknown>"):
        read_inputs(built, DECLARED)


def test_no_named_output_means_all() -> None:
    built = message(TEXT)
    assert check_outputs(built, DECLARED) == {"text", "flag"}
    built.outputs.add(name="flag")
    assert check_outputs(built, DECLARED) == {"flag"}
    built.outputs.add(name="zork")
    with pytest.raises(InvalidArgument, match="unexpected inference output 'zork' for model 'm'"):
        check_outputs(built, DECLARED)


def test_outputs_are_one_element_each() -> None:
    built = service_pb2.ModelInferResponse()
    add_output(built, Tensor("count", "UINT32", -1), uint32_bytes(258))
    assert (built.outputs[0].name, built.outputs[0].datatype, list(built.outputs[0].shape)) == ("count", "UINT32", [1])
    assert built.raw_output_contents == [b"\2\1\0\0"]
