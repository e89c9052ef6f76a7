import pytest

from forebay.core.values import InferenceRequest
from forebay.predictor.policy.length import InputRatio


def test_the_answer_is_the_prompt_times_the_ratio_rounded_up() -> None:
    (found,) = InputRatio(1.5).predict([InferenceRequest("q", "m", 33)])
    assert (found.quantiles.p10, found.quantiles.p97, found.mean_tokens) == (50, 50, 50.0)


@pytest.mark.parametrize("ratio", [0, -1, 1e9])
def test_a_senseless_ratio_is_refused(ratio: float) -> None:
    with pytest.raises(ValueError, match="ratio"):
        InputRatio(ratio)
