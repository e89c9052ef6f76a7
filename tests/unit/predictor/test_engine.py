from collections.abc import Sequence

import pytest

from forebay.core.errors import NotFound
from forebay.core.prediction import LengthOutcome, ModelKind, PredictorModel
from forebay.core.values import InferenceRequest, LengthPrediction, LengthQuantiles
from forebay.predictor.engine import ACCURACY_COUNT, SLICE_COUNT, Accuracy, Answering, Loaded, PredictorEngine
from forebay.predictor.policy.forecaster import Forecaster, LastValue, Seasonal
from forebay.predictor.policy.length import LengthPredictor, PredictionFailed


class Fixed:
    """Predicts one length for all and remembers what it was asked and taught; breaks after `good_count` batches."""

    def __init__(self, tokens: int, good_count: int = 1_000_000) -> None:
        self.tokens = tokens
        self.good_count = good_count
        self.asked: list[int] = []
        self.taught: list[int] = []

    def predict(self, queries: Sequence[InferenceRequest]) -> tuple[LengthPrediction, ...]:
        self.asked.append(len(queries))
        if len(self.asked) > self.good_count:
            raise PredictionFailed("broken")
        value = LengthQuantiles(self.tokens, self.tokens, self.tokens, self.tokens)
        return tuple(LengthPrediction(value, self.tokens, self.tokens, "fixed") for _ in queries)

    def observe(self, outcomes: Sequence[LengthOutcome]) -> None:
        if self.good_count == 0:
            raise PredictionFailed("broken")
        self.taught.append(len(outcomes))


def loaded(name: str, policy: LengthPredictor, version: str = "") -> Loaded[LengthPredictor]:
    return Loaded(PredictorModel(name, ModelKind.LENGTH, version), policy)


def forecaster(name: str, policy: Forecaster) -> Loaded[Forecaster]:
    return Loaded(PredictorModel(name, ModelKind.WORKLOAD), policy)


def engine(active: str = "long", **policies: LengthPredictor) -> PredictorEngine:
    chosen = {"fallback": Fixed(7), "long": Fixed(900), **policies}
    return PredictorEngine(
        [loaded(name, policy) for name, policy in chosen.items()],
        [forecaster("last_value", LastValue()), forecaster("seasonal", Seasonal())],
        active={ModelKind.LENGTH: active, ModelKind.WORKLOAD: "seasonal"},
        fallback="fallback",
    )


def queries(count: int) -> list[InferenceRequest]:
    return [InferenceRequest(f"q{number}", "m", 10) for number in range(count)]


def outcomes(count: int) -> list[LengthOutcome]:
    return [LengthOutcome(query, 50) for query in queries(count)]


def finish(answering: Answering) -> set[float]:
    while not answering.step():
        pass
    return {one.mean_tokens for one in answering.predictions}


def test_the_active_predictor_answers() -> None:
    answering = engine().on_queries(queries(3))
    assert finish(answering) == {900}
    assert answering.by.label == "long"
    assert len(answering.predictions) == 3


def test_a_batch_is_answered_in_slices() -> None:
    policy = Fixed(900)
    answering = engine(long=policy).on_queries(queries(2 * SLICE_COUNT + 1))
    assert [answering.step() for _ in range(3)] == [False, False, True]
    assert policy.asked == [SLICE_COUNT, SLICE_COUNT, 1]


def test_a_swap_takes_effect_from_the_next_batch_on() -> None:
    state = engine()
    begun = state.on_queries(queries(2 * SLICE_COUNT))
    begun.step()
    state.on_activate(ModelKind.LENGTH, "fallback")
    assert finish(begun) == {900}
    assert finish(state.on_queries(queries(1))) == {7}


@pytest.mark.parametrize("good_count", [0, 1])
def test_where_the_active_predictor_breaks_the_fallback_answers_the_whole_batch(good_count: int) -> None:
    state = engine(long=Fixed(900, good_count))
    answering = state.on_queries(queries(2 * SLICE_COUNT))
    assert finish(answering) == {7}
    assert answering.by.label == "fallback"
    assert len(answering.predictions) == 2 * SLICE_COUNT
    assert state.failure_count == 1


def test_a_fallback_that_breaks_is_a_bug() -> None:
    answering = engine(active="fallback", fallback=Fixed(7, 0)).on_queries(queries(1))
    with pytest.raises(PredictionFailed):
        answering.step()


def test_all_loaded_predictors_learn_even_if_one_cannot() -> None:
    good, broken = Fixed(1), Fixed(2, 0)
    state = engine(good=good, long=broken)
    learning = state.on_outcomes("r1", outcomes(SLICE_COUNT + 2))
    assert [learning.step() for _ in range(2)] == [False, True]
    assert good.taught == [SLICE_COUNT, 2]
    assert state.failure_count == 2


def test_outcomes_teach_once_however_often_they_come() -> None:
    policy = Fixed(1)
    state = engine(long=policy)
    for request_id in ("r1", "r1", "r2"):
        while not state.on_outcomes(request_id, outcomes(3)).step():
            pass
    assert sum(policy.taught) == 6
    assert state.on_outcomes("r1", outcomes(3)).outcomes == ()


def test_models_are_listed_by_kind_and_name_with_the_active_ones_marked() -> None:
    found = [(model.kind.name, model.name, model.active) for model in engine().models()]
    assert found == [
        ("LENGTH", "fallback", False),
        ("LENGTH", "long", True),
        ("WORKLOAD", "last_value", False),
        ("WORKLOAD", "seasonal", True),
    ]


def test_a_forecaster_can_be_swapped() -> None:
    state = engine()
    assert state.on_activate(ModelKind.WORKLOAD, "last_value").active
    assert state.forecaster.label == "last_value"
    assert [model.name for model in state.models() if model.active] == ["long", "last_value"]


def test_a_new_version_takes_the_place_of_the_old_one() -> None:
    state = engine()
    for version in ("1", "2"):
        state.on_loaded(loaded("trained", Fixed(int(version)), version))
        state.on_activate(ModelKind.LENGTH, f"trained@{version}")
    names = [(model.name, model.version) for model in state.models() if model.kind is ModelKind.LENGTH]
    assert names == [("fallback", ""), ("long", ""), ("trained", "2")]
    assert finish(state.on_queries(queries(1))) == {2}


@pytest.mark.parametrize("name", ["nope", "last_value", "long@1"])
def test_a_model_that_is_not_loaded_cannot_answer(name: str) -> None:
    with pytest.raises(NotFound, match="loaded"):
        engine().on_activate(ModelKind.LENGTH, name)
    with pytest.raises(NotFound):
        engine(active=name)


def test_accuracy_is_that_of_the_last_predictions() -> None:
    accuracy = Accuracy()
    assert (accuracy.mae_tokens, accuracy.coverage_p90) == (0, 0)
    (query,) = queries(1)
    for _ in range(100):
        accuracy.add(LengthOutcome(query, 999, predicted=LengthQuantiles(1, 2, 3, 4)))
    for number in range(ACCURACY_COUNT):
        accuracy.add(LengthOutcome(query, 15 if number % 4 else 21, predicted=LengthQuantiles(1, 10, 20, 30)))
    accuracy.add(LengthOutcome(query, 5000, censored=True, predicted=LengthQuantiles(1, 2, 3, 4)))
    accuracy.add(LengthOutcome(query, 5000))
    assert accuracy.count == ACCURACY_COUNT
    assert accuracy.mae_tokens == pytest.approx(0.75 * 5 + 0.25 * 11)
    assert accuracy.coverage_p90 == pytest.approx(0.75)
