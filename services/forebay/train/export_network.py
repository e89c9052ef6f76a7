"""Writes a fitted network as ONNX: features in, tokens at the quantile levels out."""

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from forebay.core.prediction import QUANTILE_LEVELS
from forebay.train.network import LOG_MAX, STEPS_UP, Network

OPSET = 17
IR_VERSION = 9


def to_onnx(network: Network) -> bytes:
    """Input "features" [n, columns], output "tokens" [n, 4], which never decrease before the shifts."""
    constants = {
        **{f"weights_{number}": one for number, one in enumerate(network.weights)},
        **{f"bias_{number}": one for number, one in enumerate(network.biases)},
        **head_constants(network.shifts),
    }
    nodes = [
        helper.make_node("Gemm", ["features", "weights_0", "bias_0"], ["low"]),
        helper.make_node("Relu", ["low"], ["low_on"]),
        helper.make_node("Gemm", ["low_on", "weights_1", "bias_1"], ["high"]),
        helper.make_node("Relu", ["high"], ["high_on"]),
        helper.make_node("Gemm", ["high_on", "weights_2", "bias_2"], ["raw"]),
        *head_nodes(),
    ]
    return serialized(nodes, constants, {"features": [None, network.weights[0].shape[0]]})


def head_constants(shifts: Any) -> dict[str, Any]:
    """What `head_nodes` needs."""
    return {
        "to_first": np.array([1, len(QUANTILE_LEVELS) - 1], dtype=np.int64),
        "steps_up": STEPS_UP,
        "shifts": np.asarray(shifts, dtype=np.float32)[None, :],
        "least": np.array(0.0, dtype=np.float32),
        "most": np.array(LOG_MAX, dtype=np.float32),
        "one": np.array([1.0], dtype=np.float32),
    }


def head_nodes() -> list[Any]:
    """From "raw" (a first level, and what each other is above the one before) to "tokens"."""
    return [
        helper.make_node("Split", ["raw", "to_first"], ["first", "gaps"], axis=1),
        helper.make_node("Softplus", ["gaps"], ["steps"]),
        helper.make_node("Concat", ["first", "steps"], ["rising"], axis=1),
        helper.make_node("MatMul", ["rising", "steps_up"], ["levels"]),
        helper.make_node("Add", ["levels", "shifts"], ["shifted"]),
        helper.make_node("Clip", ["shifted", "least", "most"], ["logs"]),
        helper.make_node("Exp", ["logs"], ["plus_one"]),
        helper.make_node("Sub", ["plus_one", "one"], ["tokens"]),
    ]


def serialized(nodes: list[Any], constants: dict[str, Any], inputs: dict[str, list[int | None]]) -> bytes:
    """A checked model with these inputs of float32 and the output "tokens"."""
    float32 = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "length",
        [helper.make_tensor_value_info(name, float32, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info("tokens", float32, [None, len(QUANTILE_LEVELS)])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="forebay")
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString(deterministic=True)
    return content
