from hypothesis import given
from hypothesis import strategies as st

from forebay.core.values import LengthQuantiles
from forebay.scheduler.histogram import PREDICTED_BY, PRIOR, Histogram


def test_an_unknown_model_gets_the_prior() -> None:
    assert Histogram().predict("m", 10).quantiles == PRIOR


def test_a_handful_of_outcomes_is_too_few_to_trust() -> None:
    histogram = Histogram()
    for _ in range(19):
        histogram.observe("m", 10, 700)
    assert histogram.predict("m", 10).quantiles == PRIOR


def test_known_prompt_lengths_answer_from_their_own_row() -> None:
    histogram = Histogram()
    for _ in range(30):
        histogram.observe("m", 10, 60)
        histogram.observe("m", 1_000, 800)
    assert histogram.predict("m", 12).quantiles.p50 == 64
    assert histogram.predict("m", 900).quantiles.p50 == 862
    assert histogram.predict("m", 900).predicted_by == PREDICTED_BY


def test_other_prompt_lengths_answer_from_the_whole_model() -> None:
    histogram = Histogram()
    for _ in range(30):
        histogram.observe("m", 10, 60)
    assert histogram.predict("m", 100_000).quantiles == LengthQuantiles(64, 64, 64, 64)


def test_models_do_not_mix() -> None:
    histogram = Histogram()
    for _ in range(30):
        histogram.observe("m", 10, 60)
    assert histogram.predict("n", 10).quantiles == PRIOR


def test_new_outcomes_outweigh_old_ones_in_time() -> None:
    histogram = Histogram()
    for tokens in [60] * 5_000 + [800] * 2_500:
        histogram.observe("m", 10, tokens)
    assert histogram.predict("m", 10).quantiles.p50 == 862


@given(st.lists(st.integers(0, 2_000_000), min_size=40, max_size=200), st.integers(1, 1_048_576))
def test_a_quantile_is_at_most_a_quarter_octave_above_the_true_one(lengths: list[int], prompt: int) -> None:
    histogram = Histogram()
    for tokens in lengths:
        histogram.observe("m", prompt, tokens)
    found = histogram.predict("m", prompt).quantiles
    known = sorted(min(max(tokens, 1), 1_048_576) for tokens in lengths)
    for share, value in ((0.10, found.p10), (0.50, found.p50), (0.90, found.p90), (0.97, found.p97)):
        true = known[-(-round(share * 1_000) * len(known) // 1_000) - 1]
        assert true <= value <= max(true + 1, true * 2**0.25 + 1)


def test_a_row_that_was_halved_counts_half_for_the_model_as_a_whole() -> None:
    histogram = Histogram()
    for _ in range(2_001):
        histogram.observe("m", 1_000, 16)
    for _ in range(1_200):
        histogram.observe("m", 10, 4_096)
    # The prompts of 1,000 tokens count 1,000 times, those of 10 tokens 1,200 times; nothing is known of others.
    assert histogram.predict("m", 100_000).quantiles.p50 == 4_096
