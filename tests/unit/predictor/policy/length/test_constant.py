import pytest

from forebay.core.prediction import LengthOutcome
from forebay.core.values import InferenceRequest, LengthQuantiles
from forebay.predictor.policy.length import Constant


def query(tokens_max: int = 0, prompt_tokens: int = 9) -> InferenceRequest:
    return InferenceRequest("q", "m", prompt_tokens, tokens_max=tokens_max)


def test_every_prompt_is_answered_alike_whatever_was_seen() -> None:
    policy = Constant(tokens=(1, 20, 40, 60))
    policy.observe([LengthOutcome(query(), 900)] * 50)
    short, long = policy.predict([query(), query(prompt_tokens=5_000)])
    assert short == long
    assert short.quantiles == LengthQuantiles(1, 20, 40, 60)


def test_the_limit_caps_all_quantiles_and_the_mean() -> None:
    (found,) = Constant(tokens=(1, 20, 40, 60)).predict([query(tokens_max=30)])
    assert found.quantiles == LengthQuantiles(1, 20, 30, 30)
    assert found.mean_tokens <= 30


@pytest.mark.parametrize("tokens", [(1, 2, 3), (4, 3, 2, 1), (-1, 2, 3, 4)])
def test_senseless_lengths_are_refused(tokens: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"tokens|decrease"):
        Constant(tokens=tokens)
