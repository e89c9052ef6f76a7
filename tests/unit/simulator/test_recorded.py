"""What a predictor said beforehand, as it is and made worse."""

import pytest

from forebay.core.errors import ConfigError
from forebay.core.values import InferenceRequest
from forebay.predictor.config import Config
from forebay.predictor.policy.length import PredictionFailed
from forebay.simulator.oracles.predictor import build_predictor
from forebay.simulator.oracles.recorded import RecordedLength
from forebay.simulator.workload import Workload, make_workload

ROWS = {"predicted_p10": [50, -1], "predicted_p50": [100, -1], "predicted_p90": [200, -1], "predicted_p97": [400, -1]}


def workload() -> Workload:
    return make_workload([0, 1], [10, 10], [200, 7], **ROWS)


def ask(row: int, tokens_max: int = 0) -> InferenceRequest:
    return InferenceRequest(f"r{row}", "m", 10, tokens_max=tokens_max)


def test_a_row_is_answered_from_its_columns() -> None:
    (found,) = RecordedLength(workload()).predict([ask(0)])
    assert (found.quantiles.p10, found.quantiles.p50, found.quantiles.p90, found.quantiles.p97) == (50, 100, 200, 400)


def test_the_clients_limit_cuts_what_is_said() -> None:
    (found,) = RecordedLength(workload()).predict([ask(0, tokens_max=150)])
    assert (found.quantiles.p90, found.quantiles.p97) == (150, 150)


@pytest.mark.parametrize(
    ("bias", "error", "median"), [(1.3, 1.0, 130), (0.7, 1.0, 70), (1.0, 2.0, 50), (1.0, 0.0, 200)]
)
def test_bias_and_error_move_all_quantiles(bias: float, error: float, median: int) -> None:
    """The median is half of the truth: twice the error of the logarithm is a quarter, none is the truth."""
    (found,) = RecordedLength(workload(), bias=bias, error=error).predict([ask(0)])
    assert found.quantiles.p50 == median
    assert found.quantiles.p97 == pytest.approx(4 * median, abs=1)


def test_a_row_that_nobody_predicted_is_left_to_the_fallback() -> None:
    with pytest.raises(PredictionFailed, match="row 1"):
        RecordedLength(workload()).predict([ask(1)])
    engine = build_predictor(Config(length="recorded"), workload())
    answering = engine.on_queries([ask(0), ask(1)])
    while not answering.step():
        pass
    assert len(answering.predictions) == 2


@pytest.mark.parametrize("wrong", [{"bias": 0.0}, {"error": -1.0}, {"error": 11.0}])
def test_parameters_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises((ConfigError, ValueError)):
        build_predictor(Config(length="recorded", parameters={"recorded": wrong}), workload())


def test_outcomes_change_nothing_of_what_is_said() -> None:
    policy = RecordedLength(workload())
    before = policy.predict([ask(0)])
    policy.observe(())
    assert policy.predict([ask(0)]) == before
