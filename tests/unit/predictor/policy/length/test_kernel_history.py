import math

import numpy as np
import pytest

from forebay.core.prediction import LengthOutcome
from forebay.core.values import InferenceRequest, LengthQuantiles
from forebay.predictor.policy.length import KernelHistory


def query(prompt_tokens: int = 100, model: str = "m", application: str = "", tokens_max: int = 0) -> InferenceRequest:
    return InferenceRequest("q", model, prompt_tokens, tokens_max=tokens_max, application=application)


def seen(tokens: int, prompt_tokens: int = 100, *, censored: bool = False, **of: str) -> LengthOutcome:
    return LengthOutcome(query(prompt_tokens, **of), tokens, censored)


def levels(policy: KernelHistory, asked: InferenceRequest | None = None) -> LengthQuantiles:
    return policy.predict([asked or query()])[0].quantiles


def test_before_enough_outcomes_the_prior_speaks() -> None:
    policy = KernelHistory(count_min=8, prior_tokens=(1, 2, 3, 4))
    policy.observe([seen(500)] * 7)
    assert levels(policy) == LengthQuantiles(1, 2, 3, 4)
    policy.observe([seen(500)])
    assert levels(policy) == LengthQuantiles(500, 500, 500, 500)


def test_with_its_parameters_the_mean_is_that_of_prism() -> None:
    rng = np.random.default_rng(1)
    history = [(int(rng.integers(1, 900)), int(rng.integers(1, 40)) * 10) for _ in range(200)]
    policy = KernelHistory(window_count=128, decay=0.96, width_share=1e9, prior_decay=1.0)
    policy.observe([seen(tokens, prompt) for prompt, tokens in history])
    weights: dict[int, float] = {}
    for age, (prompt, tokens) in enumerate(reversed(history[-128:])):
        weights.setdefault(tokens, 1.0)
        weights[tokens] += 0.96**age * math.exp(-((300 - prompt) ** 2) / (2 * 256**2))
    wanted = sum(tokens * weight for tokens, weight in weights.items()) / sum(weights.values())
    assert policy.predict([query(300)])[0].mean_tokens == pytest.approx(wanted, rel=1e-9)


def test_quantiles_are_where_the_weighted_answers_end() -> None:
    policy = KernelHistory(decay=1.0, prior_weight=0.0, width_tokens=1e9, width_share=1e9)
    policy.observe([seen(tokens) for tokens in range(100, 0, -1)])
    assert levels(policy) == LengthQuantiles(10, 50, 90, 97)


def test_prompts_of_like_length_weigh_more() -> None:
    policy = KernelHistory()
    policy.observe([seen(prompt // 2, prompt) for prompt in (100, 2_000) * 40])
    assert levels(policy, query(120)).p50 == 50
    assert levels(policy, query(1_900)).p50 == 1_000


def test_what_is_a_like_length_grows_with_the_prompt() -> None:
    policy = KernelHistory()
    policy.observe([seen(length // 2, length) for length in (20, 40, 2_000, 2_020) * 10])
    assert levels(policy, query(20)).p90 == 10
    assert (levels(policy, query(2_000)).p10, levels(policy, query(2_000)).p90) == (1_000, 1_010)


def test_new_answers_weigh_more_than_old_ones() -> None:
    policy = KernelHistory(decay=0.96)
    policy.observe([seen(10)] * 60 + [seen(400)] * 30)
    assert levels(policy).p50 == 400


def test_a_prompt_unlike_all_others_is_answered_from_the_newest() -> None:
    policy = KernelHistory(prior_weight=0.0, decay=0.96)
    policy.observe([seen(10)] * 60 + [seen(400)] * 30)
    assert levels(policy, query(1_000_000)).p50 == 400


def test_only_the_newest_answers_are_remembered() -> None:
    policy = KernelHistory(window_count=16, decay=1.0, prior_weight=0.0)
    policy.observe([seen(900)] * 50 + [seen(7)] * 16)
    assert levels(policy) == LengthQuantiles(7, 7, 7, 7)


def test_the_narrowest_history_with_enough_outcomes_speaks() -> None:
    policy = KernelHistory()
    policy.observe([seen(10, application="chat")] * 20 + [seen(300, application="code")] * 20)
    policy.observe([seen(9_000, application="rare")] * 3)
    assert levels(policy, query(application="chat")).p90 == 10
    assert levels(policy, query(application="code")).p10 == 300
    assert levels(policy, query(application="rare")) == levels(policy)
    assert levels(policy, query(model="new")) == levels(policy)


def test_a_cut_answer_counts_up_to_its_cut_only() -> None:
    policy = KernelHistory(decay=1.0, prior_weight=0.0)
    policy.observe([seen(100)] * 10 + [seen(10, censored=True)] * 90)
    assert levels(policy) == LengthQuantiles(100, 100, 100, 100)


def test_where_all_answers_were_cut_what_was_expected_stands() -> None:
    policy = KernelHistory(prior_tokens=(5, 20, 40, 60))
    policy.observe([seen(30, censored=True)] * 20)
    assert levels(policy) == LengthQuantiles(30, 30, 40, 60)
    assert 30 <= policy.predict([query()])[0].mean_tokens <= 60


def test_a_limit_caps_quantiles_and_mean() -> None:
    policy = KernelHistory()
    policy.observe([seen(tokens) for tokens in (10, 500) * 10])
    (found,) = policy.predict([query(tokens_max=100)])
    assert found.quantiles.p97 == 100
    assert 10 < found.mean_tokens < 100


def test_the_histories_that_are_remembered_are_bounded() -> None:
    policy = KernelHistory()
    policy.observe([seen(20, model=f"m{number}") for number in range(3_000)])
    assert len(policy._histories) <= 1_000


@pytest.mark.parametrize(
    "parameters",
    [
        {"window_count": 4},
        {"count_min": 0},
        {"decay": 0.0},
        {"prior_decay": 1.1},
        {"width_tokens": 0.0},
        {"width_share": 0.0},
        {"prior_weight": -1.0},
        {"prior_tokens": (1, 2)},
        {"prior_tokens": (4, 3, 2, 1)},
    ],
)
def test_senseless_parameters_are_refused(parameters: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"must|entries"):
        KernelHistory(**parameters)  # type: ignore[arg-type]
