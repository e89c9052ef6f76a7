import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from forebay.core.prediction import LengthOutcome
from forebay.core.values import InferenceRequest
from forebay.predictor.policy.length import Magnus, PredictionFailed


class Shown:
    """Says 50 of every prompt, and shows its length and that of its text beside numbers that tell nothing."""

    def __init__(self, tokens: float = 50.0) -> None:
        self.tokens = tokens

    def infer(self, queries: Sequence[InferenceRequest]) -> npt.NDArray[np.float64]:
        said = self.tokens * np.array([0.5, 1.0, 1.5, 2.0])
        rows = [[*said, math.log(one.prompt_tokens), len(one.prompt_head), 1.0] for one in queries]
        return np.array(rows, dtype=np.float64).reshape(-1, 7)


def query(words: int, application: str = "") -> InferenceRequest:
    return InferenceRequest("q", "m", 100, prompt_head="w " * words, application=application)


def outcomes(count: int, tokens_of: dict[int, int]) -> list[LengthOutcome]:
    """Answers by how many words the prompt has, in turn."""
    words = list(tokens_of)
    return [
        LengthOutcome(query(words[row % len(words)]), tokens_of[words[row % len(words)]] + row % 3)
        for row in range(count)
    ]


def p50(policy: Magnus, words: int) -> int:
    return policy.predict([query(words)])[0].quantiles.p50


def errors(policy: Magnus, tokens_of: dict[int, int]) -> float:
    return float(np.mean([abs(p50(policy, words) - tokens) for words, tokens in tokens_of.items()]))


SHORT_AND_LONG = {3: 20, 30: 200}


def test_without_outcomes_the_forest_is_taken_at_its_word() -> None:
    (found,) = Magnus(Shown()).predict([query(3)])
    assert (found.quantiles.p10, found.quantiles.p50, found.quantiles.p90, found.quantiles.p97) == (25, 50, 75, 100)
    assert found.predicted_by == "magnus"


def test_what_was_predicted_badly_is_learnt_by_what_the_forest_reads() -> None:
    policy = Magnus(Shown())
    policy.observe(outcomes(300, SHORT_AND_LONG))
    before = errors(policy, SHORT_AND_LONG)
    policy.relearn()
    assert errors(policy, SHORT_AND_LONG) < 0.2 * before


def test_without_learning_anew_only_corrections_learn() -> None:
    policy = Magnus(Shown(), relearn_s=0)
    policy.observe(outcomes(300, SHORT_AND_LONG))
    before = errors(policy, SHORT_AND_LONG)
    policy.relearn()
    assert errors(policy, SHORT_AND_LONG) == before > 50


def test_what_was_predicted_well_holds_the_forest_where_it_is() -> None:
    policy = Magnus(Shown(), error_tokens=10.0, count_min=10_000, window_count=10_000, kept_count=10_000)
    policy.observe([LengthOutcome(query(3), 53)] * 10)
    assert [one.move for one in policy._kept] == pytest.approx([0.0] * 10, abs=0.1)
    policy.observe([LengthOutcome(query(3), 500)])
    assert policy._kept[-1].move == pytest.approx(math.log(501 / 51), abs=0.1)


def test_few_outcomes_change_no_forest() -> None:
    policy = Magnus(Shown(), count_min=32)
    policy.observe(outcomes(31, SHORT_AND_LONG))
    before = p50(policy, 30)
    policy.relearn()
    assert p50(policy, 30) == before


def test_it_forgets_what_came_long_ago() -> None:
    policy = Magnus(Shown(), kept_count=200)
    policy.observe(outcomes(400, {3: 20, 30: 900}))
    policy.relearn()
    policy.observe(outcomes(400, {3: 20, 30: 100}))
    policy.relearn()
    assert p50(policy, 30) == pytest.approx(100, rel=0.2)


def test_a_cut_answer_is_not_taken_for_a_short_one() -> None:
    policy = Magnus(Shown())
    policy.observe([LengthOutcome(replace(query(3), tokens_max=5), 5, censored=True)] * 100)
    policy.relearn()
    assert p50(policy, 3) == pytest.approx(50, abs=5)


def test_bounds_hold_after_it_learnt_anew() -> None:
    chance = np.random.default_rng(2)
    policy = Magnus(Shown())

    def drawn(count: int) -> list[LengthOutcome]:
        words = chance.integers(1, 40, count).tolist()
        return [LengthOutcome(query(one), int(8 * one * chance.lognormal(0, 0.4))) for one in words]

    policy.observe(drawn(600))
    policy.relearn()
    asked = drawn(500)
    found = policy.predict([one.query for one in asked])
    covered = np.mean([one.generated_tokens <= said.quantiles.p90 for one, said in zip(asked, found, strict=True)])
    assert 0.86 < covered < 0.95


def test_its_learning_outlives_a_restart_without_a_word_of_a_prompt() -> None:
    policy, other = Magnus(Shown()), Magnus(Shown())
    policy.observe(outcomes(300, SHORT_AND_LONG))
    policy.relearn()
    for key, rows in policy.saved():
        assert rows.dtype == np.float64
        other.restore(key, rows)
    other.relearn()
    assert errors(other, SHORT_AND_LONG) == pytest.approx(errors(policy, SHORT_AND_LONG), abs=5)


@pytest.mark.parametrize("rows", [np.ones((3, 2)), np.ones(5), np.full((2, 10), np.nan)])
def test_what_is_no_snapshot_is_refused(rows: npt.NDArray[np.float64]) -> None:
    with pytest.raises(ValueError, match="snapshot"):
        Magnus(Shown()).restore(("m", ""), rows)


def test_a_number_that_is_not_finite_is_a_failure() -> None:
    with pytest.raises(PredictionFailed):
        Magnus(Shown(math.nan)).predict([query(3)])


@pytest.mark.parametrize(
    "wrong",
    [{"count_min": 0}, {"kept_count": 5}, {"tree_count": 0}, {"leaf_count_min": 0}, {"relearn_s": -1.0}],
)
def test_parameters_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        Magnus(Shown(), **wrong)
