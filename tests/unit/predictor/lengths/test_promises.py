"""What the engine promises is kept: bounds, alarm and fallback together, on streams of traffic."""

import numpy as np
import numpy.typing as npt
import pytest

from forebay.core.prediction import LengthOutcome, ModelKind, PredictorModel
from forebay.core.values import InferenceRequest
from forebay.predictor.engine import PredictorEngine
from forebay.predictor.lengths.bounds import Loaded
from forebay.predictor.lengths.care import Care
from forebay.predictor.policy.forecaster import LastValue
from forebay.predictor.policy.length import InputRatio, KernelHistory

BATCH_COUNT = 5
DRIFT_AT = 1_500


def kept(care: Care, drift: float, seed: int, count: int = 3_000) -> npt.NDArray[np.bool_]:
    """Whether each answer was within its promise; from the middle on answers are `drift` times as long."""
    engine = PredictorEngine(
        [
            Loaded(PredictorModel("input_ratio", ModelKind.LENGTH), InputRatio()),
            Loaded(PredictorModel("kernel_history", ModelKind.LENGTH), KernelHistory()),
        ],
        [Loaded(PredictorModel("last_value", ModelKind.WORKLOAD), LastValue())],
        active={ModelKind.LENGTH: "input_ratio", ModelKind.WORKLOAD: "last_value"},
        fallback="kernel_history",
        care=care,
    )
    random = np.random.default_rng(seed)
    prompts = random.lognormal(5, 1, count).clip(5, 4_000).astype(int)
    scale = np.where(np.arange(count) < DRIFT_AT, 1.0, drift)
    answers = np.maximum(1, 1.2 * prompts * scale * random.lognormal(0, 0.5, count)).astype(int)
    found = []
    for start in range(0, count, BATCH_COUNT):
        rows = range(start, start + BATCH_COUNT)
        asked = [InferenceRequest(f"r{row}", "m", int(prompts[row]), application="chat") for row in rows]
        answering = engine.on_queries(asked)
        while not answering.step():
            pass
        outcomes = [
            LengthOutcome(query, int(answers[row]), False, one.quantiles, one.predicted_by)
            for row, query, one in zip(rows, asked, answering.predictions, strict=True)
        ]
        found += [outcome.generated_tokens <= one.p90 for outcome in outcomes if (one := outcome.predicted)]
        learning = engine.on_outcomes(f"o{start}", outcomes, start)
        while not learning.step():
            pass
    return np.array(found)


@pytest.mark.parametrize("seed", range(3))
def test_promises_are_kept_as_often_as_they_say(seed: int) -> None:
    assert 0.88 <= kept(Care(), 1.0, seed)[500:].mean() <= 0.92


def test_after_a_drift_promises_are_kept_again_much_sooner_by_the_fallback() -> None:
    with_alarm, without = kept(Care(), 4.0, 0), kept(Care(drift_window_count=0), 4.0, 0)
    soon, window = slice(DRIFT_AT + 50, DRIFT_AT + 250), slice(DRIFT_AT + 100, DRIFT_AT + 600)
    assert without[soon].mean() < 0.7
    assert with_alarm[soon].mean() > 0.85
    assert with_alarm[window].mean() >= 0.88
    assert 0.87 <= with_alarm[DRIFT_AT + 600 :].mean() <= 0.94
