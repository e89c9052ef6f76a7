"""Writes a fitted model as ONNX: features in, tokens at the quantile levels out."""

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType

from forebay.core.prediction import QUANTILE_LEVELS
from forebay.predictor.lengths.features import FEATURE_COUNT, WORD_COUNT
from forebay.train.model import CELLS, GRID, NUMBERS, LengthModel

OPSET = 17
OPSET_ML = 3
IR_VERSION = 9


def to_onnx(model: LengthModel) -> bytes:
    """The model as ONNX: input "features" [n, FEATURE_COUNT], output "tokens" [n, 4], not sorted."""
    linear = model.linear
    constants = {
        "half_weights": linear.weights.astype(np.float16),
        "bias": linear.bias.astype(np.float32),
        "half_components": linear.components.astype(np.float16),
        "picked": linear.picked,
        "start": np.array([0], dtype=np.int64),
        "numbers_end": np.array([NUMBERS], dtype=np.int64),
        "words_start": np.array([CELLS], dtype=np.int64),
        "words_end": np.array([CELLS + WORD_COUNT], dtype=np.int64),
        "grid": np.array([GRID], dtype=np.float32),
        "axis": np.array([1], dtype=np.int64),
        "shifts": model.shifts.astype(np.float32)[None, :],
    }
    roots = [f"root_{index}" for index in range(len(QUANTILE_LEVELS))]
    nodes = [
        # Constants of 16 bits are half the file; the session widens them once, when it opens.
        helper.make_node("Cast", ["half_weights"], ["weights"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Cast", ["half_components"], ["components"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Slice", ["features", "start", "numbers_end", "axis"], ["numbers"]),
        helper.make_node("Slice", ["features", "words_start", "words_end", "axis"], ["words"]),
        helper.make_node("Gemm", ["features", "weights", "bias"], ["scores"]),
        helper.make_node("MatMul", ["words", "components"], ["topics"]),
        helper.make_node("Concat", ["scores", "topics"], ["sums"], axis=1),
        helper.make_node("Mul", ["sums", "grid"], ["scaled"]),
        helper.make_node("Round", ["scaled"], ["rounded"]),
        helper.make_node("Div", ["rounded", "grid"], ["gridded"]),
        helper.make_node("Gather", ["features", "picked"], ["flags"], axis=1),
        helper.make_node("Concat", ["numbers", "gridded", "flags"], ["seen"], axis=1),
        *(_trees(fitted, name) for fitted, name in zip(model.trees, roots, strict=True)),
        helper.make_node("Concat", roots, ["raw"], axis=1),
        helper.make_node("Add", ["raw", "shifts"], ["shifted"]),
        helper.make_node("Relu", ["shifted"], ["positive"]),
        helper.make_node("Mul", ["positive", "positive"], ["tokens"]),
    ]
    return _serialized(nodes, constants)


def _trees(fitted: Any, output: str) -> Any:
    """The trees of one level as one node; what else the converter adds only checks shapes."""
    kind = [("seen", FloatTensorType([None, fitted.n_features_in_]))]
    graph = convert_sklearn(fitted, initial_types=kind, target_opset={"": OPSET, "ai.onnx.ml": OPSET_ML}).graph
    (node,) = (node for node in graph.node if node.op_type == "TreeEnsembleRegressor")
    del node.input[:], node.output[:]
    node.input.append("seen")
    node.output.append(output)
    node.name = output
    return node


def _serialized(nodes: list[Any], constants: dict[str, Any]) -> bytes:
    float32 = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "length",
        [helper.make_tensor_value_info("features", float32, [None, FEATURE_COUNT])],
        [helper.make_tensor_value_info("tokens", float32, [None, len(QUANTILE_LEVELS)])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", OPSET_ML)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="forebay")
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString(deterministic=True)
    return content
