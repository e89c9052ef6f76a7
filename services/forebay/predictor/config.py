"""The predictor's configuration: who answers, where models run and how much history a forecast reads."""

from collections.abc import Mapping
from dataclasses import dataclass, field

PROVIDERS = ("auto", "cuda", "cpu")


@dataclass(frozen=True, slots=True)
class Config:
    """Section [predictor]; raises ValueError for values that make no sense.

    `length` and `forecaster` answer at start. `provider` is where ONNX models run: auto takes CUDA where a device is,
    else the CPU. `models_folder` empty means the models that come with Forebay. `parameters` holds one table a policy,
    such as [predictor.parameters.histogram], with the policy's own fields.
    """

    length: str = "onnx_quantile"
    forecaster: str = "least_error"
    provider: str = "auto"
    session_threads: int = 1
    models_folder: str = ""
    history_s: int = 7 * 86_400
    history_points_max: int = 20_000
    metrics_timeout_s: float = 5.0
    forecast_count_max: int = 2
    grace_s: float = 5.0
    parameters: Mapping[str, Mapping[str, object]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.provider not in PROVIDERS:
            raise ValueError(f"provider must be one of {', '.join(PROVIDERS)}, not {self.provider!r}")
        for name in ("session_threads", "history_s", "history_points_max", "metrics_timeout_s", "forecast_count_max"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0")
        if self.grace_s < 0:
            raise ValueError("grace_s must not be negative")
