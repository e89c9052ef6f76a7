"""Writes an encoder that learnt as a whole as ONNX: tokens of the prompt in, tokens of the answer at the levels out."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

from forebay.core.prediction import QUANTILE_LEVELS, TOKENS_MAX
from forebay.train.transformer import FLOAT, Graph, Weights, bias_of, embeddings, layer, layer_count

Matrix = npt.NDArray[np.float32]

HEAD, KNOWN = "head", "known.weight"
"""Names of what is learnt beside the encoder: the head's weight and bias, and how what is known enters below."""
MIDDLE = np.zeros((len(QUANTILE_LEVELS), len(QUANTILE_LEVELS)), dtype=np.float32)
MIDDLE[1] = 1.0
GAPS = np.array([[-1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 0, 1]], dtype=np.float32)
"""Levels are raw · MIDDLE + softplus(raw) · GAPS: the median, what is below it, and what is above it in two steps."""
ROOT_MAX = np.array(np.sqrt(TOKENS_MAX), dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Frame:
    """How numbers go in and out: what is known is (x - means) · factors; levels are centre + scale · (found + shifts).

    Levels are square roots of tokens.
    """

    means: Matrix
    factors: Matrix
    centre: float
    scale: float
    shifts: Matrix

    def targets(self, tokens: npt.NDArray[np.float64]) -> Matrix:
        """What the model is to find."""
        return ((np.sqrt(tokens) - self.centre) / self.scale).astype(np.float32)


def to_onnx(weights: Weights, frame: Frame, head_count: int) -> bytes:
    """The whole model: "ids" and "mask" [n, tokens] and "plain" [n, columns] to "tokens" [n, 4].

    `weights` keep their names, so that `transformer.weights_of` finds them again.
    """
    graph = Graph()
    mask = graph.add("Cast", "mask", to=FLOAT)
    known = graph.add("Mul", graph.add("Sub", "plain", frame.means), frame.factors)
    states = _told(graph, embeddings(graph, weights), known, weights)
    bias = bias_of(graph, mask)
    for number in range(layer_count(weights)):
        states = layer(graph, states, bias, weights, f"encoder.layer.{number}", head_count)
    seen = graph.add(
        "Concat", _mean(graph, states, mask), graph.add("Gather", states, np.array(0), axis=1), known, axis=1
    )
    head = [graph.constant(weights[f"{HEAD}.{part}"], f"{HEAD}.{part}") for part in ("weight", "bias")]
    roots = _roots(graph, graph.add("Gemm", seen, *head, transB=1), frame)
    graph.nodes.append(onnx.helper.make_node("Mul", [roots, roots], ["tokens"]))
    integers = onnx.TensorProto.INT64
    inputs = {"ids": (integers, None), "mask": (integers, None), "plain": (FLOAT, len(frame.means))}
    return graph.serialized(inputs, ("tokens", [None, len(QUANTILE_LEVELS)]))


def _told(graph: Graph, states: str, known: str, weights: Weights) -> str:
    """The states with what is known added to the first."""
    added = graph.add("Gemm", known, graph.constant(weights[KNOWN], KNOWN), transB=1)
    first = graph.add("Slice", states, np.array([0]), np.array([1]), np.array([1]))
    others = graph.add("Slice", states, np.array([1]), np.array([2**31]), np.array([1]))
    return graph.add("Concat", graph.add("Add", first, graph.add("Unsqueeze", added, np.array([1]))), others, axis=1)


def _mean(graph: Graph, states: str, mask: str) -> str:
    """The mean of the states where tokens are."""
    kept = graph.add("Mul", states, graph.add("Unsqueeze", mask, np.array([2])))
    count = graph.add("ReduceSum", mask, np.array([1]), keepdims=1)
    return graph.add("Div", graph.add("ReduceSum", kept, np.array([1]), keepdims=0), count)


def _roots(graph: Graph, raw: str, frame: Frame) -> str:
    """Square roots of tokens at the levels."""
    gaps = graph.add("MatMul", graph.add("Softplus", raw), GAPS)
    found = graph.add("Add", graph.add("Add", graph.add("MatMul", raw, MIDDLE), gaps), frame.shifts)
    scaled = graph.add("Mul", found, np.array(frame.scale, dtype=np.float32))
    roots = graph.add("Add", scaled, np.array(frame.centre, dtype=np.float32))
    return graph.add("Clip", roots, np.array(0, dtype=np.float32), ROOT_MAX)
