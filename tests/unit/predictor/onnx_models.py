"""Small ONNX models, right ones and hostile ones, for tests of what opens them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper

WIDTH = 3


def node(operator: str = "Gemm", domain: str = "") -> Any:
    return helper.make_node(operator, ["features", "weights"], ["tokens"], domain=domain)


def model(
    *,
    nodes: Sequence[Any] | None = None,
    output_shape: Sequence[int | None] = (None, 4),
    output_type: int = TensorProto.FLOAT,
    input_type: int = TensorProto.FLOAT,
    outputs: Sequence[str] = ("tokens",),
    opset: int = 17,
    domains: Sequence[str] = (),
    ir_version: int = 9,
    external: bool = False,
    functions: Sequence[Any] = (),
    width: int = WIDTH,
    bias: float = 0.0,
) -> bytes:
    """A model that gives tokens from features, wrong in what is asked for."""
    weights = numpy_helper.from_array(np.full((width, 4), 1.0 + bias, dtype=np.float32), "weights")
    if external:
        weights.data_location = TensorProto.EXTERNAL
        weights.external_data.add(key="location", value="../../secret")
        weights.ClearField("raw_data")
    graph = helper.make_graph(
        list(nodes) if nodes is not None else [node()],
        "length",
        [helper.make_tensor_value_info("features", input_type, [None, width])],
        [helper.make_tensor_value_info(name, output_type, output_shape) for name in outputs],
        [weights],
    )
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=ir_version, functions=list(functions))
    content: bytes = made.SerializeToString(deterministic=True)
    return content


def nested(inside: Any, depth: int) -> Any:
    """An If node whose branches hold `inside`, so many graphs deep."""
    for _ in range(depth):
        branch = helper.make_graph([inside], "branch", [], [])
        inside = helper.make_node("If", ["features"], ["tokens"], then_branch=branch, else_branch=branch)
    return inside


def external_constant() -> Any:
    """A constant whose value is in another file."""
    tensor = TensorProto(name="value", data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    return helper.make_node("Constant", [], ["tokens"], value=tensor)


def own_function() -> Any:
    """A function that a file brings along."""
    return helper.make_function("own", "Mine", ["a"], ["b"], [node()], [helper.make_opsetid("", 17)])
