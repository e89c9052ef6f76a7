"""The predictor's configuration: who answers, where models run and how much history a forecast reads."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from forebay.predictor.dynamo.config import DynamoConfig

PROVIDERS = ("auto", "cuda", "cpu")
PROMOTE = ("auto", "manual")
WINDOW_COUNT_MAX = 10_000
POSITIVE = (
    "session_threads",
    "history_s",
    "history_points_max",
    "metrics_timeout_s",
    "forecast_count_max",
    "forecast_deadline_s",
    "refit_s",
    "refit_timeout_s",
    "refit_processes",
    "series_max",
    "promote_count_min",
    "shadow_count_max",
    "examples_age_s",
    "examples_queue_max",
    "snapshot_age_s",
)

NOT_NEGATIVE = (
    "grace_s",
    "history_settle_s",
    "history_stale_s",
    "calibration_window_count",
    "drift_window_count",
    "examples_max",
    "snapshot_s",
)


@dataclass(frozen=True, slots=True)
class Config:
    """Section [predictor]; raises ValueError for values that make no sense.

    `length` and `forecaster` answer at start. `provider` is where ONNX models run: auto takes CUDA where a device is,
    else the CPU. `models_folder` holds models beside those that come with Forebay, and which of them answered last: a
    restart takes the version of `length` that did. `parameters` holds one table a policy, such as
    [predictor.parameters.histogram], with the policy's own fields.

    For `forebay train length --from-db` the newest `examples_max` outcomes (0: none) are kept in the database for
    `examples_age_s`: hashed features of prompts, never their text; `examples_queue_max` wait for it at most.

    What predictors, bounds and figures have learnt is written to the database every `snapshot_s` (0: never) and at the
    end, numbers by model and application, so that a restart goes on where it stopped; what has not changed for
    `snapshot_age_s` goes.

    A forecast is answered within `forecast_deadline_s`, reading up to `history_s` of history included, of which
    `history_stale_s` old still serves while metrics is away. A request is known once it has ended, so a window
    counts as history `history_settle_s` after its end: before that it lacks the longest answers.
    `forecast_count_max` are worked on at once. Each of `series_max` series is fitted anew every `refit_s` in one of
    `refit_processes` processes, which ends a fit that takes more than `refit_timeout_s`.

    At most the share `calibration_alpha` of answers should exceed their 90 % bound: bounds are shifted by the last
    `calibration_window_count` outcomes (0: never) of an application or model that has `calibration_count_min`. Where
    the last `drift_window_count` (0: never) fail too often, the fallback answers until they hold again. A shadow that
    proves better on `promote_count_min` outcomes becomes the active model where `promote` is "auto".
    """

    length: str = "onnx_quantile"
    forecaster: str = "least_cost"
    provider: str = "auto"
    session_threads: int = 1
    models_folder: str = ""
    history_s: int = 7 * 86_400
    history_points_max: int = 20_000
    history_settle_s: float = 60.0
    metrics_timeout_s: float = 5.0
    forecast_count_max: int = 2
    forecast_deadline_s: float = 1.5
    refit_s: float = 3_600.0
    refit_timeout_s: float = 120.0
    refit_processes: int = 1
    series_max: int = 256
    history_stale_s: float = 300.0
    calibration_alpha: float = 0.1
    calibration_window_count: int = 500
    calibration_count_min: int = 30
    drift_window_count: int = 100
    promote: str = "auto"
    promote_count_min: int = 500
    shadow_count_max: int = 2
    examples_max: int = 20_000
    examples_age_s: int = 30 * 86_400
    examples_queue_max: int = 2_000
    snapshot_s: float = 30.0
    snapshot_age_s: int = 7 * 86_400
    grace_s: float = 5.0
    parameters: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    dynamo: DynamoConfig = field(default_factory=DynamoConfig)
    """How the forecaster serves as a plugin of Dynamo's planner."""

    def __post_init__(self) -> None:
        if self.provider not in PROVIDERS:
            raise ValueError(f"provider must be one of {', '.join(PROVIDERS)}, not {self.provider!r}")
        if self.promote not in PROMOTE:
            raise ValueError(f"promote must be one of {', '.join(PROMOTE)}, not {self.promote!r}")
        for name in POSITIVE:
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0")
        for name in NOT_NEGATIVE:
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative")
        self._check_calibration()

    def _check_calibration(self) -> None:
        alpha, count_min = self.calibration_alpha, self.calibration_count_min
        if not 0.01 <= alpha <= 0.5:
            raise ValueError("calibration_alpha must be 0.01 to 0.5")
        if count_min < (1 - alpha) / alpha:
            raise ValueError(f"calibration_count_min must be at least {(1 - alpha) / alpha:.0f}: fewer tell no bound")
        if 0 < self.calibration_window_count < count_min:
            raise ValueError("calibration_window_count must be 0 or at least calibration_count_min")
        if max(self.calibration_window_count, self.drift_window_count) > WINDOW_COUNT_MAX:
            raise ValueError(f"calibration_window_count and drift_window_count must be at most {WINDOW_COUNT_MAX}")
