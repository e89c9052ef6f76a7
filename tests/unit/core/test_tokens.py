"""Token estimates start at four bytes a token and follow what models report."""

from hypothesis import given
from hypothesis import strategies as st

from forebay.core.tokens import TokenEstimator, estimate_tokens


def test_an_empty_text_has_no_tokens_and_any_other_at_least_one() -> None:
    assert (estimate_tokens(""), estimate_tokens("a"), estimate_tokens("abcde")) == (0, 1, 2)


def test_an_estimator_converges_to_what_a_model_reports() -> None:
    estimator = TokenEstimator()
    for _ in range(200):
        estimator.observe("m", byte_count=200, tokens=100)
    assert abs(estimator.estimate("m", "x" * 1000) - 500) <= 5
    assert estimator.estimate("other", "x" * 1000) == 250


@given(st.integers(-5, 0), st.integers(0, 5))
def test_counts_that_say_nothing_change_nothing(tokens: int, size: int) -> None:
    estimator = TokenEstimator()
    estimator.observe("m", size, tokens)
    assert estimator.estimate("m", "x" * 400) == 100
