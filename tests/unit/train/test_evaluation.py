import math
from collections.abc import Sequence

import numpy as np
import pytest

pytest.importorskip("scipy")
pytest.importorskip("pandas")

from forebay.core.errors import FailedPrecondition
from forebay.core.prediction import LengthOutcome
from forebay.core.values import InferenceRequest, LengthPrediction, LengthQuantiles
from forebay.predictor.policy.length import PredictionFailed
from forebay.train.data import Examples
from forebay.train.evaluation import Predicted, baselines, figures, follow, parts, scored

NAN = math.nan


def examples(tokens: Sequence[float], censored: Sequence[bool] = (), **fields: Sequence[object]) -> Examples:
    rows = [{name: values[n] for name, values in fields.items()} for n in range(len(tokens))]
    queries = tuple(
        InferenceRequest(**{"request_id": f"q{n}", "model": "m", "prompt_tokens": 10, **row})  # type: ignore[arg-type]
        for n, row in enumerate(rows)
    )
    return Examples(
        queries,
        np.array(tokens, dtype=np.float64),
        np.array(["s"] * len(tokens)),
        np.arange(len(tokens), dtype=np.int64),
        np.array(censored or [False] * len(tokens)),
    )


class Fixed:
    """Always says the same, and remembers the order of what happened to it."""

    def __init__(self, fails: bool = False) -> None:
        self.events: list[str] = []
        self._fails = fails

    def predict(self, queries: Sequence[InferenceRequest]) -> tuple[LengthPrediction, ...]:
        if self._fails:
            raise PredictionFailed("broken")
        self.events += [f"predict {query.request_id}" for query in queries]
        return tuple(LengthPrediction(LengthQuantiles(10, 20, 30, 40), 20.0, 20.0, "fixed") for _ in queries)

    def observe(self, outcomes: Sequence[LengthOutcome]) -> None:
        self.events += [f"observe {one.query.request_id} {one.generated_tokens} {one.censored}" for one in outcomes]


def test_the_figures_are_what_their_names_say() -> None:
    seen = examples([10, 100, 200, 300])
    quantiles = np.array([[5, 20, 40, 50], [50, 90, 95, 120], [100, 120, 250, 300], [300, 300, 600, 900]], dtype=float)
    found = figures(Predicted("p", quantiles, np.array([1.0, 2.0, 4.0, 3.0])), seen, np.ones(4, dtype=bool))
    assert found.count == 4
    assert found.mae_tokens == pytest.approx((10 + 10 + 80 + 0) / 4)
    assert (found.acc_50, found.acc_100) == (0.75, 1.0)
    assert found.tau == pytest.approx(4 / 6)
    assert found.coverage_p90 == 0.75
    assert found.coverage_tertiles == (0.5, 1.0, 1.0)
    assert found.reserve_ratio == pytest.approx((40 + 95 + 250 + 600) / 610)
    losses = [0.1 * 5, 0.5 * 10, 0.1 * 30, 0.03 * 40, 0.1 * 50, 0.5 * 10, 0.9 * 5, 0.03 * 20]
    losses += [0.1 * 100, 0.5 * 80, 0.1 * 50, 0.03 * 100, 0, 0, 0.1 * 300, 0.03 * 600]
    assert found.pinball_tokens == pytest.approx(sum(losses) / 16)


def test_answers_that_were_cut_are_not_scored() -> None:
    seen = examples([10, 1_000], censored=[False, True])
    found = figures(Predicted("p", np.full((2, 4), 10.0), np.zeros(2)), seen, np.ones(2, dtype=bool))
    assert (found.count, found.mae_tokens, found.tau) == (1, 0.0, 0.0)


def test_of_nothing_there_are_no_figures() -> None:
    found = figures(Predicted("p", np.zeros((1, 4)), np.zeros(1)), examples([3]), np.zeros(1, dtype=bool))
    assert found.count == 0
    assert math.isnan(found.mae_tokens)


def test_predictions_come_before_their_outcomes() -> None:
    policy = Fixed()
    follow("p", policy, examples(list(range(40)), censored=[n == 3 for n in range(40)]), learns=True)
    assert policy.events[:16] == [f"predict q{n}" for n in range(16)]
    assert policy.events[16:32] == [f"observe q{n} {n} {n == 3}" for n in range(16)]
    assert len(policy.events) == 80


def test_alone_nothing_is_learned() -> None:
    policy = Fixed()
    found = follow("p", policy, examples([500] * 200), learns=False)
    assert not [one for one in policy.events if one.startswith("observe")]
    assert found.quantiles.tolist() == [[10, 20, 30, 40]] * 200


def test_live_the_bounds_are_calibrated_and_the_median_stays() -> None:
    found = follow("p", Fixed(), examples([500] * 200), learns=True)
    assert found.quantiles[0].tolist() == [10, 20, 30, 40]
    assert found.quantiles[-1, 1] == 20
    assert found.quantiles[-1, 2] >= 500


def test_a_predictor_that_fails_is_named() -> None:
    with pytest.raises(FailedPrecondition, match="p cannot predict these prompts: broken"):
        follow("p", Fixed(fails=True), examples([1]), learns=True)


def test_baselines_do_not_know_the_prompt_that_they_answer() -> None:
    seen = examples([100.0] * 99 + [9_999.0])
    constant, by_length = baselines(seen)
    assert constant.quantiles.max() < 9_999
    assert by_length.quantiles.max() < 9_999


def test_the_length_of_the_prompt_tells_what_it_can() -> None:
    prompts = [int(n) for n in np.random.default_rng(1).integers(5, 500, 1_000)]
    seen = examples([2.0 * n for n in prompts], prompt_tokens=prompts)
    constant, by_length = (figures(one, seen, np.ones(1_000, dtype=bool)) for one in baselines(seen))
    assert by_length.mae_tokens < 0.3 * constant.mae_tokens
    assert by_length.tau > 0.9


def test_models_have_lengths_of_their_own() -> None:
    seen = examples([10.0, 500.0] * 100, model=["a", "b"] * 100)
    _, by_length = baselines(seen)
    assert figures(by_length, seen, np.ones(200, dtype=bool)).mae_tokens == 0.0


def test_baselines_of_one_example_stand() -> None:
    assert len(baselines(examples([5]))[0].quantiles) == 1


def test_the_first_fifth_only_teaches_where_there_is_enough() -> None:
    assert scored(examples([1] * 50)).all()
    assert scored(examples([1] * 200)).tolist() == [False] * 40 + [True] * 160


def test_parts_are_told_by_several_fields() -> None:
    found = parts(examples([1, 2, 3], model=["a", "a", "b"], application=["", "chat", ""]), ["application", "model"])
    assert {name: mask.tolist() for name, mask in found.items()} == {
        "chat a": [False, True, False],
        "– a": [True, False, False],
        "– b": [False, False, True],
    }
