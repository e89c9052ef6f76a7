import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("onnx")

from onnx import TensorProto

from forebay.core.errors import FailedPrecondition
from forebay.predictor.onnx_file import Port, check, inspect
from forebay.predictor.store_files import PACKAGED
from tests.unit.predictor.onnx_models import external_constant, model, nested, node, own_function


def test_a_file_says_what_it_is() -> None:
    found = inspect(model())
    assert found.opsets == {"": 17}
    assert found.ir_version == 9
    assert found.inputs == {"features": Port(1, (0, 3))}
    assert found.outputs == {"tokens": Port(1, (0, 4))}
    assert found.operators == {("", "Gemm")}
    assert not found.has_external_data


def test_a_right_model_passes() -> None:
    check(model())


@pytest.mark.parametrize("path", sorted(PACKAGED.glob("*.onnx")), ids=lambda path: path.name)
def test_models_that_ship_pass(path: Any) -> None:
    check(path.read_bytes())


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(b"", "NOT_ONNX", id="nothing"),
        pytest.param(b"\x80\x04cos\nsystem\n(S'true'\ntR.", "NOT_ONNX", id="a pickle"),
        pytest.param(b"\x7fELF" + bytes(100), "NOT_ONNX", id="a program"),
        pytest.param(b"<html></html>", "NOT_ONNX", id="a page"),
        pytest.param(model()[:-7], "NOT_ONNX", id="cut"),
        pytest.param(model(nodes=[]), "NOT_ONNX", id="no operators"),
        pytest.param(model(external=True), "EXTERNAL_DATA", id="weights in another file"),
        pytest.param(model(nodes=[external_constant()]), "EXTERNAL_DATA", id="a constant in another file"),
        pytest.param(model(nodes=[nested(external_constant(), 2)]), "EXTERNAL_DATA", id="the same, in a branch"),
        pytest.param(model(opset=5), "OPSET_UNSUPPORTED", id="an old opset"),
        pytest.param(model(opset=99), "OPSET_UNSUPPORTED", id="an opset to come"),
        pytest.param(model(ir_version=3), "OPSET_UNSUPPORTED", id="an old IR"),
        pytest.param(model(nodes=[node(domain="evil")], domains=["evil"]), "OPERATOR_REFUSED", id="own operators"),
        pytest.param(model(nodes=[node(domain="com.microsoft")]), "OPERATOR_REFUSED", id="contributed operators"),
        pytest.param(model(nodes=[nested(node(domain="evil"), 1)]), "OPERATOR_REFUSED", id="the same, in a branch"),
        pytest.param(model(nodes=[node("Loop")]), "OPERATOR_REFUSED", id="a loop"),
        pytest.param(model(nodes=[nested(node(), 9)]), "OPERATOR_REFUSED", id="too deep"),
        pytest.param(model(functions=[own_function()]), "OPERATOR_REFUSED", id="own functions"),
        pytest.param(model(output_shape=(None, 3)), "SIGNATURE_WRONG", id="three quantiles"),
        pytest.param(model(output_shape=(4,)), "SIGNATURE_WRONG", id="no batch out"),
        pytest.param(model(output_type=TensorProto.INT64), "SIGNATURE_WRONG", id="whole numbers out"),
        pytest.param(model(outputs=("tokens", "more")), "SIGNATURE_WRONG", id="two outputs"),
        pytest.param(model(outputs=()), "SIGNATURE_WRONG", id="no output"),
        pytest.param(model(input_type=TensorProto.STRING), "SIGNATURE_WRONG", id="texts in"),
    ],
)
def test_a_hostile_file_is_refused_with_its_reason(content: bytes, reason: str) -> None:
    with pytest.raises(FailedPrecondition) as caught:
        check(content)
    assert caught.value.code == reason


def test_an_operator_set_that_is_only_named_does_no_harm() -> None:
    check(model(domains=["ai.onnx.training"]))


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_a_file_with_bytes_changed_is_read_or_refused(data: st.DataObject) -> None:
    content = bytearray(model(nodes=[nested(external_constant(), 1), node()], domains=["evil"]))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(FailedPrecondition):
        inspect(bytes(content))


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_with_a_reason(content: bytes) -> None:
    with pytest.raises(FailedPrecondition) as caught:
        check(content)
    assert caught.value.code != "FAILED_PRECONDITION"
