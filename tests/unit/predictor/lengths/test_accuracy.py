from dataclasses import replace

import pytest

from forebay.core.prediction import LengthOutcome
from forebay.core.values import InferenceRequest, LengthQuantiles
from forebay.predictor.lengths.accuracy import KEYS_MAX, WINDOW_COUNT, Accuracy, Figures
from forebay.predictor.lengths.care import Care

QUERY = InferenceRequest("q", "m", 10, application="chat")
PROMISE = LengthQuantiles(1, 10, 20, 30)


def outcome(tokens: int, *, censored: bool = False, tokens_max: int = 0) -> LengthOutcome:
    return LengthOutcome(replace(QUERY, tokens_max=tokens_max), tokens, censored)


def test_figures_are_those_of_the_newest() -> None:
    figures = Figures()
    assert (figures.mae_tokens, figures.coverage_p90, figures.reserve_ratio) == (0, None, None)
    for _ in range(100):
        figures.add(PROMISE, outcome(999))
    for number in range(WINDOW_COUNT):
        figures.add(PROMISE, outcome(15 if number % 4 else 21))
    assert figures.count == WINDOW_COUNT
    assert figures.mae_tokens == pytest.approx(0.75 * 5 + 0.25 * 11)
    assert figures.coverage_p90 == pytest.approx(0.75)
    assert figures.reserve_ratio == pytest.approx(20 / (0.75 * 15 + 0.25 * 21))


def test_an_answer_that_was_cut_has_no_error_and_breaks_a_bound_only_beyond_it() -> None:
    figures = Figures()
    figures.add(PROMISE, outcome(15))
    figures.add(PROMISE, outcome(18, censored=True))
    assert (figures.mae_tokens, figures.coverage_p90) == (5, 1)
    figures.add(PROMISE, outcome(5_000, censored=True))
    assert (figures.mae_tokens, figures.coverage_p90) == (5, 0.5)


def test_a_bound_that_is_the_limit_is_kept_however_long_the_answer() -> None:
    figures = Figures()
    figures.add(PROMISE.capped(15), outcome(15, censored=True, tokens_max=15))
    figures.add(PROMISE.capped(15), outcome(3, tokens_max=15))
    assert (figures.count, figures.coverage_p90, figures.reserve_ratio) == (2, 1, 30 / 18)
    figures.add(PROMISE, outcome(25, tokens_max=100))
    assert figures.coverage_p90 == 2 / 3


def test_where_nothing_is_known_nothing_is_told() -> None:
    figures = Figures()
    figures.add(PROMISE, outcome(18, censored=True))
    assert (figures.count, figures.coverage_p90, figures.reserve_ratio) == (1, None, None)


def test_rows_tell_predictor_model_and_application_apart() -> None:
    accuracy = Accuracy(Care())
    accuracy.add("b", PROMISE, outcome(15), 5)
    accuracy.add("a", PROMISE, LengthOutcome(replace(QUERY, application=""), 12), 6)
    accuracy.add("a", PROMISE, outcome(19), 7)
    found = [(row.predictor, row.model, row.application, row.mae_tokens, row.since_us) for row in accuracy.rows()]
    assert found == [("a", "m", "", 2, 6), ("a", "m", "chat", 9, 7), ("b", "m", "chat", 5, 5)]
    accuracy.forget("a")
    assert [row.predictor for row in accuracy.rows()] == ["b"]


def test_a_drift_rings_for_its_key_alone_and_says_since_when() -> None:
    accuracy = Accuracy(Care())
    for now_us in range(1, 51):
        accuracy.add("a", PROMISE, outcome(999 if now_us > 20 else 15), now_us)
        accuracy.add("b", PROMISE, outcome(15), now_us)
    drifting, steady = accuracy.rows()
    assert drifting.is_drifting
    assert 20 < drifting.drift_since_us < 40
    assert (steady.is_drifting, steady.drift_since_us) == (False, 0)
    assert accuracy.is_ringing("a", QUERY)
    assert not accuracy.is_ringing("a", replace(QUERY, application=""))
    for now_us in range(100, 300):
        accuracy.add("a", PROMISE, outcome(15), now_us)
    assert not accuracy.has_alarm("a")
    assert accuracy.rows()[0].drift_since_us == 0


def test_keys_are_bounded_and_the_oldest_go_with_their_alarms() -> None:
    accuracy = Accuracy(Care())
    for _ in range(30):
        accuracy.add("loud", PROMISE, outcome(999), 1)
    assert accuracy.has_alarm("loud")
    assert not accuracy.has_alarm("quiet")
    for number in range(KEYS_MAX):
        accuracy.add(f"p{number}", PROMISE, outcome(15), 2)
    assert len(accuracy.rows()) == KEYS_MAX
    assert not accuracy.has_alarm("loud")


def test_an_alarm_ends_where_bounds_have_come_to_be_the_limit() -> None:
    accuracy = Accuracy(Care())
    for _ in range(30):
        accuracy.add("a", PROMISE, outcome(25, tokens_max=100), 1)
    assert accuracy.has_alarm("a")
    for _ in range(100):
        accuracy.add("a", LengthQuantiles(1, 10, 100, 100), outcome(25, tokens_max=100), 2)
    assert not accuracy.has_alarm("a")
