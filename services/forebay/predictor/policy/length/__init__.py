"""How many tokens each prompt will generate."""

from forebay.predictor.policy.length.base import Lasting, LengthPredictor, PredictionFailed, Relearning
from forebay.predictor.policy.length.constant import Constant
from forebay.predictor.policy.length.histogram import Histogram
from forebay.predictor.policy.length.input_ratio import InputRatio
from forebay.predictor.policy.length.kernel_history import KernelHistory
from forebay.predictor.policy.length.magnus import Magnus, ShowingModel
from forebay.predictor.policy.length.onnx_quantile import OnnxQuantile, TrainedModel

LENGTH_PREDICTORS: dict[str, type[LengthPredictor]] = {
    "constant": Constant,
    "input_ratio": InputRatio,
    "histogram": Histogram,
    "kernel_history": KernelHistory,
    "onnx_quantile": OnnxQuantile,
    "magnus": Magnus,
    "semantic": OnnxQuantile,
    "preserve": OnnxQuantile,
    "finetuned": OnnxQuantile,
}

TRAINED = frozenset({"onnx_quantile", "magnus", "semantic", "preserve", "finetuned"})
"""Those that need a trained model to start from: their parameter `model`."""

SHOWING = frozenset({"magnus"})
"""Those whose model must also show what it read of each prompt."""

__all__ = [
    "LENGTH_PREDICTORS",
    "SHOWING",
    "TRAINED",
    "Constant",
    "Histogram",
    "InputRatio",
    "KernelHistory",
    "Lasting",
    "LengthPredictor",
    "Magnus",
    "OnnxQuantile",
    "PredictionFailed",
    "Relearning",
    "ShowingModel",
    "TrainedModel",
]
