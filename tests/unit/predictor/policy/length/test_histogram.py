import pytest

from forebay.core.prediction import LengthOutcome
from forebay.core.values import InferenceRequest, LengthQuantiles
from forebay.predictor.policy.length import Histogram
from forebay.predictor.policy.length.histogram import packed, survival_quantiles


def outcome(prompt_tokens: int, generated: int, model: str = "m", censored: bool = False) -> LengthOutcome:
    return LengthOutcome(InferenceRequest("q", model, prompt_tokens), generated, censored)


def asked(histogram: Histogram, prompt_tokens: int, model: str = "m") -> LengthQuantiles:
    return histogram.predict([InferenceRequest("q", model, prompt_tokens)])[0].quantiles


def test_without_outcomes_the_prior_speaks() -> None:
    assert asked(Histogram(prior_tokens=(1, 2, 3, 4)), 100) == LengthQuantiles(1, 2, 3, 4)


def test_quantiles_are_those_of_the_prompts_own_bucket() -> None:
    histogram = Histogram()
    histogram.observe([outcome(128, tokens) for tokens in range(1, 101)])
    histogram.observe([outcome(1024, 5000) for _ in range(100)])
    assert asked(histogram, 120) == LengthQuantiles(10, 50, 90, 97)


def test_an_empty_bucket_is_answered_by_the_nearest() -> None:
    histogram = Histogram()
    histogram.observe([outcome(64, 10) for _ in range(20)] + [outcome(4096, 900) for _ in range(20)])
    assert asked(histogram, 128).p50 == 10
    assert asked(histogram, 2048).p50 == 900


def test_too_few_outcomes_do_not_speak() -> None:
    histogram = Histogram(count_min=8)
    histogram.observe([outcome(64, 10)] * 20 + [outcome(128, 999)] * 7)
    assert asked(histogram, 128).p50 == 10


def test_a_new_model_is_answered_by_all_models_together() -> None:
    histogram = Histogram()
    histogram.observe([outcome(64, 10, "a")] * 8 + [outcome(64, 20, "b")] * 8)
    assert asked(histogram, 64, "c").p10 == 10
    assert asked(histogram, 64, "c").p90 == 20


def test_old_outcomes_give_way() -> None:
    histogram = Histogram(window_count=10)
    histogram.observe([outcome(64, 10)] * 10 + [outcome(64, 30)] * 10)
    assert asked(histogram, 64) == LengthQuantiles(30, 30, 30, 30)


def test_a_cut_answer_counts_as_longer_than_its_cut() -> None:
    late = [packed(10, True)] * 50 + [packed(100, False)] * 10
    assert survival_quantiles(late) == LengthQuantiles(100, 100, 100, 100)
    # Of ten answers five end at 10; those cut at 50 leave the median at 10 and say nothing beyond their cut.
    assert survival_quantiles([packed(10, False)] * 5 + [packed(50, True)] * 5) == LengthQuantiles(10, 10, 50, 50)


@pytest.mark.parametrize(
    "parameters", [{"window_count": 0}, {"count_min": 0}, {"count_min": 600}, {"prior_tokens": (1, 2)}]
)
def test_senseless_parameters_are_refused(parameters: dict[str, int]) -> None:
    with pytest.raises(ValueError):
        Histogram(**parameters)  # type: ignore[arg-type]
