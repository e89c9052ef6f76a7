"""MiniLM as an ONNX graph, built of its published weights: embeddings, layers, and what stands on the last of them."""

import itertools
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import DecodeError
from onnx import helper, numpy_helper

from forebay.train.export_network import IR_VERSION, OPSET

EPSILON = 1e-12
FLOAT = onnx.TensorProto.FLOAT
DENSE = (".query.weight", ".key.weight", ".value.weight", ".dense.weight")
"""Endings of what a graph keeps turned, as its products want it."""
FAR_BELOW = -1e9
"""Added to the scores of padding before the softmax."""

WORDS = "embeddings.word_embeddings.weight"
PLACES = "embeddings.position_embeddings.weight"
KINDS = "embeddings.token_type_embeddings.weight"

Weights = Mapping[str, npt.NDArray[np.float32]]


def read_weights(content: bytes) -> dict[str, npt.NDArray[np.float32]]:
    """The tensors of float32 of a safetensors file: a header of JSON after its length in 8 bytes, then the numbers."""
    start = 8 + int.from_bytes(content[:8], "little")
    found = {}
    for name, entry in json.loads(content[8:start]).items():
        if entry.get("dtype") == "F32":
            first, last = entry["data_offsets"]
            found[name] = np.frombuffer(content[start + first : start + last], "<f4").reshape(entry["shape"])
    return found


def weights_of(content: bytes) -> dict[str, npt.NDArray[np.float32]]:
    """The tensors of float32 of an ONNX model that `Graph` made, those that have names of their own as they were given.

    Raises ValueError where the content is no ONNX model.
    """
    try:
        model = onnx.load_from_string(content)
    except DecodeError as error:
        raise ValueError("not an ONNX model") from error
    found = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer if one.data_type == FLOAT}
    return {name: value.T if name.endswith(DENSE) else value for name, value in found.items()}


class Graph:
    """Gathers the nodes and constants of a model; `add` names what it makes."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, npt.NDArray[Any]] = {}
        self._names = itertools.count()

    def add(self, kind: str, *inputs: str | npt.NDArray[Any], **attributes: Any) -> str:
        """Adds a node of these inputs, arrays among them as constants; gives the name of its output."""
        output = f"{kind.lower()}_{next(self._names)}"
        names = [one if isinstance(one, str) else self.constant(one) for one in inputs]
        self.nodes.append(helper.make_node(kind, names, [output], **attributes))
        return output

    def constant(self, value: npt.NDArray[Any], name: str = "") -> str:
        """Adds a constant, under a name of its own where it is to be found again; gives its name."""
        name = name or f"constant_{next(self._names)}"
        self.constants[name] = value
        return name

    def serialized(self, inputs: Mapping[str, tuple[int, int | None]], output: tuple[str, list[int | None]]) -> bytes:
        """The checked model; `inputs` has the element type and the columns of each, `output` its name and shape."""
        name, shape = output
        graph = helper.make_graph(
            self.nodes,
            "transformer",
            [helper.make_tensor_value_info(key, kind, [None, columns]) for key, (kind, columns) in inputs.items()],
            [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)],
            [numpy_helper.from_array(np.array(value, order="C"), key) for key, value in self.constants.items()],
        )
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="forebay")
        onnx.checker.check_model(model)
        content: bytes = model.SerializeToString(deterministic=True)
        return content


def embeddings(graph: Graph, weights: Weights) -> str:
    """The states [n, tokens, size] of the input "ids" before the first layer."""
    words = graph.add("Gather", graph.constant(weights[WORDS], WORDS), "ids")
    count = graph.add("Gather", graph.add("Shape", "ids"), np.array(1))
    places = graph.add("Range", np.array(0), count, np.array(1))
    # All tokens are of the first of BERT's two segments.
    kind = graph.add("Gather", graph.constant(weights[KINDS], KINDS), np.array(0))
    table = graph.add("Gather", graph.constant(weights[PLACES], PLACES), places)
    summed = graph.add("Add", words, graph.add("Add", table, kind))
    return _normal(graph, summed, weights, "embeddings.LayerNorm")


def bias_of(graph: Graph, mask: str) -> str:
    """What is added to scores [n, heads, tokens, tokens] so that padding is not looked at; `mask` is of float32."""
    absent = graph.add("Mul", graph.add("Sub", np.array(1, np.float32), mask), np.array(FAR_BELOW, np.float32))
    return graph.add("Unsqueeze", absent, np.array([1, 2]))


def layer(graph: Graph, states: str, bias: str, weights: Weights, prefix: str, head_count: int) -> str:
    """The states after one layer of BERT, whose weights are named `prefix`…; norms come after sums."""
    size = weights[f"{prefix}.attention.self.query.bias"].shape[0]
    parts = np.array([0, 0, head_count, size // head_count])
    query, key, value = (
        graph.add("Reshape", _dense(graph, states, weights, f"{prefix}.attention.self.{name}"), parts)
        for name in ("query", "key", "value")
    )
    query = graph.add("Transpose", query, perm=[0, 2, 1, 3])
    scores = graph.add("MatMul", query, graph.add("Transpose", key, perm=[0, 2, 3, 1]))
    scaled = graph.add("Mul", scores, np.array((size // head_count) ** -0.5, np.float32))
    shares = graph.add("Softmax", graph.add("Add", scaled, bias), axis=-1)
    seen = graph.add("MatMul", shares, graph.add("Transpose", value, perm=[0, 2, 1, 3]))
    seen = graph.add("Reshape", graph.add("Transpose", seen, perm=[0, 2, 1, 3]), np.array([0, 0, size]))
    seen = graph.add("Add", _dense(graph, seen, weights, f"{prefix}.attention.output.dense"), states)
    seen = _normal(graph, seen, weights, f"{prefix}.attention.output.LayerNorm")
    wide = _gelu(graph, _dense(graph, seen, weights, f"{prefix}.intermediate.dense"))
    summed = graph.add("Add", _dense(graph, wide, weights, f"{prefix}.output.dense"), seen)
    return _normal(graph, summed, weights, f"{prefix}.output.LayerNorm")


def layer_count(weights: Weights) -> int:
    """How many layers there are."""
    return 1 + max(int(name.split(".")[2]) for name in weights if name.startswith("encoder.layer."))


def _dense(graph: Graph, states: str, weights: Weights, name: str) -> str:
    turned = graph.constant(weights[f"{name}.weight"].T, f"{name}.weight")
    return graph.add(
        "Add", graph.add("MatMul", states, turned), graph.constant(weights[f"{name}.bias"], f"{name}.bias")
    )


def _normal(graph: Graph, states: str, weights: Weights, name: str) -> str:
    scale, bias = (graph.constant(weights[f"{name}.{part}"], f"{name}.{part}") for part in ("weight", "bias"))
    return graph.add("LayerNormalization", states, scale, bias, axis=-1, epsilon=EPSILON)


def _gelu(graph: Graph, states: str) -> str:
    whole = graph.add("Erf", graph.add("Mul", states, np.array(0.5**0.5, np.float32)))
    half = graph.add("Mul", states, np.array(0.5, np.float32))
    return graph.add("Mul", half, graph.add("Add", whole, np.array(1, np.float32)))
