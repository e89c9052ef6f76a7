"""What torch learnt is what onnxruntime answers; needs torch."""

import json

import numpy as np
import onnxruntime
import pytest

from forebay.train.export_network import OPSET
from forebay.train.network import Rows
from forebay.train.preserve import head_of, lower_onnx, standardised, to_onnx
from forebay.train.transformer import Weights, read_weights

torch = pytest.importorskip("torch", reason="torch is not installed; run: pip install torch==2.13.0")

from forebay.train import prompt_tuning  # noqa: E402

SIZE, WIDE, HEADS, LAYERS = 12, 20, 3, 3
DENSE = {
    "attention.self.query": (SIZE, SIZE),
    "attention.self.key": (SIZE, SIZE),
    "attention.self.value": (SIZE, SIZE),
    "attention.output.dense": (SIZE, SIZE),
    "intermediate.dense": (WIDE, SIZE),
    "output.dense": (SIZE, WIDE),
}


def small_weights() -> Weights:
    rng = np.random.default_rng(3)
    shapes = {
        "embeddings.word_embeddings.weight": (50, SIZE),
        "embeddings.position_embeddings.weight": (16, SIZE),
        "embeddings.token_type_embeddings.weight": (2, SIZE),
    }
    for number in range(LAYERS):
        for name, shape in DENSE.items():
            shapes[f"encoder.layer.{number}.{name}.weight"] = shape
            shapes[f"encoder.layer.{number}.{name}.bias"] = shape[:1]
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes |= {f"encoder.layer.{number}.{name}.{part}": (SIZE,) for part in ("weight", "bias")}
    shapes |= {f"embeddings.LayerNorm.{part}": (SIZE,) for part in ("weight", "bias")}
    return {name: rng.normal(0.2, 0.4, shape).astype(np.float32) for name, shape in shapes.items()}


WEIGHTS = small_weights()
IDS = np.array([[5, 7, 9, 11], [3, 4, 0, 0], [49, 1, 2, 0]])
MASK = np.array([[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]])


def loaded(number: int) -> prompt_tuning.Layer:
    layer = prompt_tuning.Layer(SIZE, WIDE, HEADS)
    layer.load(dict(WEIGHTS), f"encoder.layer.{number}")
    return layer.eval()


def lower_by_torch() -> np.ndarray:
    """The states before the last layer, without any of our graphs."""
    words = WEIGHTS["embeddings.word_embeddings.weight"][IDS]
    words = words + WEIGHTS["embeddings.position_embeddings.weight"][: IDS.shape[1]]
    words = words + WEIGHTS["embeddings.token_type_embeddings.weight"][0]
    scale, bias = (torch.tensor(WEIGHTS[f"embeddings.LayerNorm.{part}"]) for part in ("weight", "bias"))
    with torch.no_grad():
        states = torch.nn.functional.layer_norm(torch.tensor(words), (SIZE,), scale, bias, 1e-12)
        for number in range(LAYERS - 1):
            states = loaded(number)(states, torch.tensor(MASK, dtype=torch.float32))
    return np.asarray(states.numpy())


def run(content: bytes, feeds: dict[str, np.ndarray]) -> np.ndarray:
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, feeds)[0])


def test_the_lower_layers_are_those_of_torch() -> None:
    found = run(lower_onnx(WEIGHTS, HEADS), {"ids": IDS, "mask": MASK})
    np.testing.assert_allclose(found[MASK == 1], lower_by_torch()[MASK == 1], atol=1e-5)


def rows(count: int) -> Rows:
    rng = np.random.default_rng(5)
    plain = rng.normal(2, 3, (count, 5)).astype(np.float32)
    plain[:, 4] = 7.0
    return Rows(plain, (plain[:, 0] / 4 + 3).astype(np.float32), np.zeros(count, dtype=bool))


def test_the_whole_model_answers_as_torch_does() -> None:
    examples, standard = standardised(rows(240))
    lower = lower_by_torch()
    states = [lower[row % 3][: MASK[row % 3].sum()].astype(np.float16) for row in range(240)]
    settings = prompt_tuning.Settings(hidden_count=16, epoch_count_max=6, head_learning_rate=1e-2)
    losses: list[float] = []
    model = prompt_tuning.fit(loaded(2), states, examples, np.arange(240) >= 200, settings, 1, losses.append)
    shifts = np.array([-0.1, 0.0, 0.1, 0.2], dtype=np.float32)
    tuned = {**WEIGHTS, **model.layer.weights("encoder.layer.2")}
    content = to_onnx(tuned, head_of(model, standard, shifts), HEADS)
    plain = rows(240).features[:3]
    found = run(content, {"ids": IDS, "mask": MASK, "plain": plain})
    with torch.no_grad():
        mask = torch.tensor(MASK, dtype=torch.float32)
        logs = model(torch.tensor(lower), mask, torch.tensor(examples.features[:3])).numpy()
    np.testing.assert_allclose(np.log1p(found), np.clip(logs + shifts, 0, None), atol=1e-4)
    assert len(losses) == 6
    assert min(losses) < 0.7 * losses[0]


def test_the_model_has_an_opset_that_the_predictor_takes() -> None:
    assert OPSET <= 17


def test_weights_are_read_from_safetensors() -> None:
    entries = {
        "a": {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]},
        "b": {"dtype": "I64", "shape": [1], "data_offsets": [8, 16]},
    }
    header = json.dumps(entries).encode()
    content = len(header).to_bytes(8, "little") + header + np.array([1.5, 2.5], "<f4").tobytes() + bytes(8)
    found = read_weights(content)
    assert list(found) == ["a"]
    assert found["a"].tolist() == [[1.5, 2.5]]
