from collections.abc import Sequence
from dataclasses import replace

import pytest

from forebay.core.errors import FailedPrecondition, NotFound
from forebay.core.prediction import LengthOutcome, ModelKind, PredictorModel
from forebay.core.values import InferenceRequest, LengthPrediction, LengthQuantiles
from forebay.predictor.engine import Answering, Loaded, PredictorEngine, Work
from forebay.predictor.lengths.care import Care
from forebay.predictor.lengths.work import OUTCOME_SLICE_COUNT, SLICE_COUNT
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


NOW_US = 7_000_000


def engine(active: str = "long", care: Care | None = None, **policies: LengthPredictor) -> PredictorEngine:
    chosen = {"fallback": Fixed(7), "long": Fixed(900), **policies}
    return PredictorEngine(
        [loaded(name, policy) for name, policy in chosen.items()],
        [forecaster("last_value", LastValue()), forecaster("seasonal", Seasonal())],
        active={ModelKind.LENGTH: active, ModelKind.WORKLOAD: "seasonal"},
        fallback="fallback",
        care=care,
    )


def teach(state: PredictorEngine, *taught: LengthOutcome, name: str = "r") -> None:
    learning = state.on_outcomes(f"{name}{id(taught)}", taught, NOW_US)
    while not learning.step():
        pass


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
    learning = state.on_outcomes("r1", outcomes(OUTCOME_SLICE_COUNT + 2), NOW_US)
    assert [learning.step() for _ in range(4)] == [False, False, False, True], "all are scored before one is taught"
    assert good.taught == [OUTCOME_SLICE_COUNT, 2]
    assert state.failure_count == 4, "each slice could neither be predicted nor learned"


def test_outcomes_teach_once_however_often_they_come() -> None:
    policy = Fixed(1)
    state = engine(long=policy)
    for request_id in ("r1", "r1", "r2"):
        learning = state.on_outcomes(request_id, outcomes(3), NOW_US)
        while not learning.step():
            pass
    assert sum(policy.taught) == 6
    assert state.on_outcomes("r1", outcomes(3), NOW_US).outcomes == ()


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


def test_a_new_version_takes_the_place_of_the_old_one_which_stays_for_a_roll_back() -> None:
    state = engine()
    for version in ("1", "2", "3"):
        state.on_loaded(loaded("trained", Fixed(int(version)), version))
        state.on_activate(ModelKind.LENGTH, f"trained@{version}")
    names = [(model.name, model.version) for model in state.models() if model.kind is ModelKind.LENGTH]
    assert names == [("fallback", ""), ("long", ""), ("trained", "2"), ("trained", "3")]
    assert finish(state.on_queries(queries(1))) == {3}


def test_a_roll_back_returns_to_the_one_before_and_a_second_one_undoes_it() -> None:
    state = engine()
    state.on_activate(ModelKind.LENGTH, "fallback")
    assert [model.name for model in state.models() if model.previous] == ["long"]
    assert state.on_rollback(ModelKind.LENGTH).name == "long"
    assert finish(state.on_queries(queries(1))) == {900}
    assert state.on_rollback(ModelKind.LENGTH).name == "fallback"


def test_what_was_rolled_back_to_has_gone_on_learning() -> None:
    policy = Fixed(900)
    state = engine(long=policy)
    state.on_activate(ModelKind.LENGTH, "fallback")
    teach(state, *outcomes(3))
    assert policy.taught == [3]


def test_activating_the_active_model_changes_nothing_that_a_roll_back_would_undo() -> None:
    state = engine()
    state.on_activate(ModelKind.LENGTH, "long")
    with pytest.raises(FailedPrecondition, match="no length model was active before"):
        state.on_rollback(ModelKind.LENGTH)


def test_a_shadow_predicts_outcomes_before_it_learns_and_answers_nobody() -> None:
    shadow = Fixed(50)
    state = engine(shadow=shadow)
    state.on_shadow("shadow")
    assert finish(state.on_queries(queries(3))) == {900}
    assert shadow.asked == []
    teach(state, *outcomes(3))
    assert (shadow.asked, shadow.taught) == ([3], [3])
    trial = state.model(ModelKind.LENGTH, "shadow").trial
    assert trial is not None
    assert (trial.outcome_count, trial.shadow_loss_tokens) == (3, 0)
    assert trial.active_loss_tokens == pytest.approx(850 * (0.9 + 0.5 + 0.1 + 0.03) / 4)


def test_a_shadow_that_proves_better_takes_over() -> None:
    state = engine(care=Care(window_count=0, promote_count_min=20), shadow=Fixed(50))
    state.on_shadow("shadow")
    teach(state, *outcomes(SLICE_COUNT), name="a")
    assert finish(state.on_queries(queries(1))) == {900}
    teach(state, *outcomes(SLICE_COUNT), name="b")
    assert finish(state.on_queries(queries(1))) == {50}
    assert next((model.name, model.shadow) for model in state.models() if model.active) == ("shadow", False)
    assert state.on_rollback(ModelKind.LENGTH).name == "long"


@pytest.mark.parametrize(("promotes", "tokens"), [(False, 50), (True, 5_000)])
def test_a_shadow_does_not_take_over_unasked_or_while_it_is_worse(promotes: bool, tokens: int) -> None:
    state = engine(care=Care(promote_count_min=20, promotes=promotes), shadow=Fixed(tokens))
    state.on_shadow("shadow")
    teach(state, *outcomes(100))
    assert finish(state.on_queries(queries(1))) == {900}


def test_a_shadow_that_breaks_is_counted_and_never_promoted() -> None:
    state = engine(care=Care(promote_count_min=1), shadow=Fixed(50, 0))
    state.on_shadow("shadow")
    teach(state, *outcomes(40))
    assert state.length.label == "long"
    assert state.failure_count == 2 * 40 / OUTCOME_SLICE_COUNT


def test_trials_start_anew_when_another_model_becomes_active() -> None:
    state = engine(shadow=Fixed(50))
    state.on_shadow("shadow")
    teach(state, *outcomes(3))
    state.on_activate(ModelKind.LENGTH, "fallback")
    trial = state.model(ModelKind.LENGTH, "shadow").trial
    assert trial is not None
    assert trial.outcome_count == 0


def test_there_are_few_shadows_and_the_active_model_is_none() -> None:
    state = engine(care=Care(shadow_count_max=1), a=Fixed(1), b=Fixed(2))
    assert state.on_shadow("a").shadow
    assert state.on_shadow("a").shadow
    with pytest.raises(FailedPrecondition, match="a are measured already"):
        state.on_shadow("b")
    with pytest.raises(FailedPrecondition, match="active"):
        state.on_shadow("long")
    with pytest.raises(NotFound):
        state.on_shadow("nope")
    assert not state.on_shadow_end("a").shadow
    assert state.on_shadow("b").shadow


def drifted(state: PredictorEngine, *watched: "Watched") -> PredictorEngine:
    """Teaches that answers of one application are far longer than the active model's bound."""
    for number in range(4):
        taught = [
            LengthOutcome(
                replace(query, application="essays"), 2_000 + 500 * number, predicted=LengthQuantiles(1, 2, 3, 4)
            )
            for query in queries(20)
        ]
        finish_watched(state.on_outcomes(f"d{number}", taught, NOW_US), *watched)
    return state


def test_where_its_bounds_fail_the_fallback_answers_and_says_so() -> None:
    state = drifted(engine(care=Care(window_count=0)))
    essays = [replace(query, application="essays") for query in queries(2)]
    mixed = [queries(1)[0], essays[0], replace(essays[1], model="other"), essays[1]]
    answering = state.on_queries(mixed)
    assert answering.step()
    assert [one.predicted_by for one in answering.predictions] == ["long", "fallback", "long", "fallback"]
    assert [one.mean_tokens for one in answering.predictions] == [900, 7, 900, 7]
    assert answering.by.label == "long"


def test_the_active_model_answers_again_once_its_bounds_hold() -> None:
    policy = Fixed(900)
    state = drifted(engine(care=Care(window_count=0), long=policy))
    essay = replace(queries(1)[0], application="essays")
    policy.tokens = 5_000
    for number in range(9):
        assert finish(state.on_queries([essay])) == {7}
        teach(state, *[LengthOutcome(essay, 3_000)] * 10, name=f"u{number}")
    assert finish(state.on_queries([essay])) == {5_000}


def test_bounds_that_are_shifted_hold_without_the_fallback() -> None:
    state = engine(care=Care(count_min=10, drift_window_count=0))
    essay = replace(queries(1)[0], application="essays")
    for number in range(30):
        teach(state, *[LengthOutcome(essay, 1_000 + number)] * 4, name=f"o{number}")
    answering = state.on_queries([essay])
    assert answering.step()
    (promised,) = answering.predictions
    assert 1_020 <= promised.quantiles.p90 <= 1_029
    assert promised.rank_score == 900


def test_a_plain_predictor_says_what_it_says() -> None:
    state = engine()
    state.on_loaded(Loaded(PredictorModel("oracle", ModelKind.LENGTH), Fixed(10), is_plain=True))
    state.on_activate(ModelKind.LENGTH, "oracle")
    teach(state, *outcomes(200))
    assert finish(state.on_queries(queries(1))) == {10}


class Watched(Fixed):
    """A slow predictor that notes what the work says it uses while it is asked or taught."""

    def __init__(self, tokens: int, good_count: int = 1_000_000) -> None:
        super().__init__(tokens, good_count)
        self.work: Work | None = None
        self.used: list[str] = []

    def predict(self, queries: Sequence[InferenceRequest]) -> tuple[LengthPrediction, ...]:
        self._note()
        return super().predict(queries)

    def observe(self, outcomes: Sequence[LengthOutcome]) -> None:
        self._note()
        super().observe(outcomes)

    def _note(self) -> None:
        assert self.work is not None
        self.used.append(self.work.uses.label if self.work.uses else "")


def with_slow(active: bool, good_count: int = 1_000_000) -> tuple[PredictorEngine, Watched, Watched]:
    """An engine with a slow predictor, which is active or a shadow, and a fast one that notes as well."""
    slow, fast = Watched(50, good_count), Watched(7)
    state = engine(fallback=fast, care=Care(promotes=False))
    state.on_loaded(Loaded(PredictorModel("slow", ModelKind.LENGTH), slow, is_slow=True))
    (state.on_activate(ModelKind.LENGTH, "slow") if active else state.on_shadow("slow"))
    return state, slow, fast


def finish_watched(work: Work, *watched: Watched) -> None:
    for one in watched:
        one.work = work
    while not work.step():
        pass


@pytest.mark.parametrize("active", [True, False])
def test_a_slow_predictor_is_used_only_in_steps_that_say_so_and_use_no_other(active: bool) -> None:
    state, slow, fast = with_slow(active)
    finish_watched(state.on_outcomes("r1", outcomes(40), NOW_US), slow, fast)
    assert set(slow.used) == {"slow"}
    assert set(fast.used) == {""}
    assert (sum(slow.asked), sum(slow.taught), sum(fast.taught)) == (40, 40, 40)


def test_slow_answers_come_whole_and_in_order_also_where_bounds_fail_for_some() -> None:
    state, slow, fast = with_slow(active=True)
    drifted(state, slow, fast)
    essays = [replace(query, application="essays") for query in queries(40)]
    mixed = [
        essay if number % 3 else query for number, (essay, query) in enumerate(zip(essays, queries(40), strict=True))
    ]
    answering = state.on_queries(mixed)
    slow.used.clear()
    finish_watched(answering, slow, fast)
    by = [one.predicted_by for one in answering.predictions]
    assert by == ["fallback" if number % 3 else "slow" for number in range(40)]
    assert (set(slow.used), set(fast.used)) == ({"slow"}, {""})


def test_a_slow_predictor_that_does_nothing_is_dropped() -> None:
    state, _, _ = with_slow(active=False)
    assert not state.on_shadow_end("slow").shadow
    assert not state.is_loaded(ModelKind.LENGTH, "slow")
    assert state.is_loaded(ModelKind.LENGTH, "long")


def test_a_slow_predictor_that_breaks_leaves_the_batch_to_the_fallback() -> None:
    state, slow, fast = with_slow(active=True, good_count=1)
    answering = state.on_queries(queries(2 * SLICE_COUNT))
    finish_watched(answering, slow, fast)
    assert {one.predicted_by for one in answering.predictions} == {"fallback"}
    assert set(fast.used) == {""}


def test_a_promise_is_judged_as_it_was_made_and_by_whom() -> None:
    state = engine()
    (query,) = queries(1)
    promised = LengthQuantiles(1, 10, 20, 30)
    teach(state, LengthOutcome(query, 15, predicted=promised, predicted_by="scheduler histogram"))
    rows = {row.predictor: row for row in state.accuracy.rows()}
    assert (rows["scheduler histogram"].mae_tokens, rows["scheduler histogram"].coverage_p90) == (5, 1)
    assert (rows["long"].mae_tokens, rows["long"].outcome_count) == (885, 1)
    assert state.accuracy.overall.mae_tokens == 5
    teach(state, LengthOutcome(query, 15, predicted=promised), name="second")
    assert [row.mae_tokens for row in state.accuracy.rows() if row.predictor == "long"] == [(885 + 5) / 2]


@pytest.mark.parametrize("name", ["nope", "last_value", "long@1"])
def test_a_model_that_is_not_loaded_cannot_answer(name: str) -> None:
    with pytest.raises(NotFound, match="loaded"):
        engine().on_activate(ModelKind.LENGTH, name)
    with pytest.raises(NotFound):
        engine(active=name)


class Anew(Fixed):
    """Learns anew every three minutes, and counts how often."""

    relearn_s = 180.0
    count = 0

    def relearn(self) -> None:
        self.count += 1


def test_who_learns_anew_now_and_then_does_so_with_outcomes_when_it_is_time() -> None:
    policy = Anew(5)
    state = engine(anew=policy)
    counts = []
    for second in (0, 100, 179, 180, 359, 360):
        learning = state.on_outcomes(f"r{second}", outcomes(40), second * 1_000_000)
        while not learning.step():
            pass
        counts.append(policy.count)
    assert counts == [1, 1, 1, 2, 2, 3]
    assert sum(policy.taught) == 6 * 40


def test_a_slow_one_learns_anew_in_a_step_of_its_own() -> None:
    policy = Anew(5)
    state = engine()
    state.on_loaded(replace(loaded("anew", policy), is_slow=True))
    learning = state.on_outcomes("r", outcomes(1), NOW_US)
    while not policy.count:
        used = learning.uses
        assert not learning.step() or policy.count
    assert used is not None
    assert used.label == "anew"
