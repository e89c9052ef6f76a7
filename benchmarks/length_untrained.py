"""Models of the families of which none ships, in the shape in which they are trained and with numbers drawn at random.

What a prediction costs does not depend on what was learnt, so these stand in where costs are measured.
"""

from collections.abc import Callable, Mapping

import numpy as np

from forebay.core.prediction import QUANTILE_LEVELS, ModelKind, PredictorModel
from forebay.predictor.lengths.encoders.extractors import APPLICATION_SIZE, USER_SIZE, Magnus, Tokens
from forebay.predictor.lengths.encoders.plain import PLAIN_COUNT
from forebay.predictor.lengths.encoders.sentences import EMBEDDING_SIZE

WORD_COUNT, PLACE_COUNT, LAYER_COUNT, HEAD_COUNT, WIDE = 30_522, 512, 6, 12, 4 * EMBEDDING_SIZE
"""MiniLM-L6."""


def untrained(name: str) -> tuple[PredictorModel, bytes]:
    """The description and the content of such a model. Raises ImportError where onnx or scikit-learn is missing."""
    extractor: type[Magnus] | type[Tokens] = Magnus if name == "magnus" else Tokens
    metadata = {"features": "magnus" if name == "magnus" else "tokens", "features_version": extractor.version}
    return PredictorModel(name, ModelKind.LENGTH, "0", metadata=metadata), UNTRAINED[name]()


def _finetuned() -> bytes:
    from forebay.train.export_finetuned import Frame, to_onnx

    zeros = np.zeros(PLAIN_COUNT, dtype=np.float32)
    frame = Frame(zeros, zeros + 1, 10.0, 5.0, np.zeros(len(QUANTILE_LEVELS), dtype=np.float32))
    return to_onnx(_minilm(), frame, HEAD_COUNT)


def _minilm() -> Mapping[str, np.ndarray]:
    size, level_count = EMBEDDING_SIZE, len(QUANTILE_LEVELS)
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (WORD_COUNT, size),
        "embeddings.position_embeddings.weight": (PLACE_COUNT, size),
        "embeddings.token_type_embeddings.weight": (2, size),
        "embeddings.LayerNorm.weight": (size,),
        "embeddings.LayerNorm.bias": (size,),
        "known.weight": (size, PLAIN_COUNT),
        "head.weight": (level_count, 2 * size + PLAIN_COUNT),
        "head.bias": (level_count,),
    }
    square = [f"attention.{part}" for part in ("self.query", "self.key", "self.value", "output.dense")]
    for number in range(LAYER_COUNT):
        prefix = f"encoder.layer.{number}"
        dense = {
            **dict.fromkeys(square, (size, size)),
            "intermediate.dense": (WIDE, size),
            "output.dense": (size, WIDE),
        }
        for part, shape in dense.items():
            shapes |= {f"{prefix}.{part}.weight": shape, f"{prefix}.{part}.bias": shape[:1]}
        for part in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes |= {f"{prefix}.{part}.weight": (size,), f"{prefix}.{part}.bias": (size,)}
    chance = np.random.default_rng(0)
    return {name: chance.normal(0, 0.05, shape).astype(np.float32) for name, shape in shapes.items()}


def _magnus() -> bytes:
    from forebay.train.forest import Settings, fit, to_onnx
    from forebay.train.network import Rows

    chance = np.random.default_rng(0)
    features = chance.normal(0, 1, (12_000, 1 + APPLICATION_SIZE + USER_SIZE)).astype(np.float32)
    logs = (4 + features[:, 0] + chance.normal(0, 1, len(features))).astype(np.float32)
    return to_onnx(fit(Rows(features, logs, np.zeros(len(logs), dtype=bool)), Settings(), 1))


UNTRAINED: dict[str, Callable[[], bytes]] = {"finetuned": _finetuned, "magnus": _magnus}
