from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from forebay.core.prediction import LengthOutcome
from forebay.core.values import InferenceRequest
from forebay.predictor.policy.length import OnnxQuantile, PredictionFailed


class FixedModel:
    """Says the same of every prompt."""

    def __init__(self, *tokens: float) -> None:
        self._tokens = np.array([tokens])

    def infer(self, queries: Sequence[InferenceRequest]) -> npt.NDArray[np.float64]:
        return np.repeat(self._tokens, len(queries), axis=0)


def query(model: str = "m", application: str = "", tokens_max: int = 0) -> InferenceRequest:
    return InferenceRequest("q", model, 100, tokens_max=tokens_max, application=application, prompt_head="Hi!")


def p50(policy: OnnxQuantile, model: str = "m", application: str = "") -> int:
    return policy.predict([query(model, application)])[0].quantiles.p50


def test_without_outcomes_the_model_is_taken_at_its_word() -> None:
    (found,) = OnnxQuantile(FixedModel(10, 20, 40, 60)).predict([query()])
    assert (found.quantiles.p10, found.quantiles.p50, found.quantiles.p90, found.quantiles.p97) == (10, 20, 40, 60)


def test_crossed_and_negative_quantiles_are_put_in_order() -> None:
    (found,) = OnnxQuantile(FixedModel(30, -5, 40, 35)).predict([query()])
    assert (found.quantiles.p10, found.quantiles.p50, found.quantiles.p90, found.quantiles.p97) == (0, 30, 35, 40)


def test_a_number_that_is_not_finite_is_a_failure() -> None:
    with pytest.raises(PredictionFailed):
        OnnxQuantile(FixedModel(1, 2, 3, float("nan"))).predict([query()])


def test_the_narrowest_key_corrects() -> None:
    policy = OnnxQuantile(FixedModel(10, 20, 40, 60))
    policy.observe([LengthOutcome(query("m", "chat"), 300)] * 200)
    policy.observe([LengthOutcome(query("m", "sum"), 50)] * 200)
    policy.observe([LengthOutcome(query("m", "rare"), 9000)] * 5)
    assert p50(policy, "m", "chat") == pytest.approx(300, rel=0.1)
    assert p50(policy, "m", "sum") == pytest.approx(50, rel=0.1)
    assert 330 < p50(policy, "m", "rare") < 9000
    assert p50(policy, "new") == p50(policy, "m")


def test_a_cut_answer_counts_as_predicted() -> None:
    policy = OnnxQuantile(FixedModel(10, 20, 40, 60))
    policy.observe([LengthOutcome(query(tokens_max=5), 5, censored=True)] * 100)
    assert p50(policy) == 20


@pytest.mark.parametrize("parameters", [{"window_count": 0}, {"count_min": 0}, {"count_min": 501}])
def test_senseless_parameters_are_refused(parameters: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="count_min"):
        OnnxQuantile(FixedModel(1, 2, 3, 4), **parameters)
