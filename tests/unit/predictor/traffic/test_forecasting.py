"""What the forecasting engine remembers, answers and asks for."""

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forebay.core.units import US_PER_S
from forebay.core.values import WorkloadPoint
from forebay.predictor.policy.forecaster import Fitted, ForecastFailed, LastValue, LeastError
from forebay.predictor.traffic.asking import Answer, Asking, Who
from forebay.predictor.traffic.forecasting import FIT_COUNT_MIN, LATE_MAX, ForecastingEngine, Refit, Settings
from forebay.predictor.traffic.history import SeriesName, told_of
from forebay.predictor.traffic.learned import Learned, lead_max_of, learn
from forebay.predictor.traffic.series import Floats, Series

W = 60 * US_PER_S
NAME = SeriesName("m", "", 0, W)
SEED = 7


@dataclass(frozen=True, slots=True)
class Level:
    """Answers one number; fails where told to."""

    level: float = 500.0
    fit_fails: bool = False
    points_fail: bool = False

    def fit(self, series: Series) -> Fitted:
        if self.fit_fails:
            raise ForecastFailed("cannot be fitted")
        return self

    def points(self, series: Series, horizon_count: int) -> Floats:
        if self.points_fail:
            raise ZeroDivisionError("broken")
        return np.full((horizon_count, 3), self.level)


@dataclass(frozen=True, slots=True)
class Drifting:
    """Like the last value, but not among those that are fitted at once."""

    def fit(self, series: Series) -> Fitted:
        return LastValue().fit(series)


WHO = Who("level", Level(), "least_error", LeastError())


def points(counts: list[int], start: int = 0) -> list[WorkloadPoint]:
    return [WorkloadPoint((start + row) * W, count, 10 * count, 3 * count) for row, count in enumerate(counts)]


@dataclass
class Stage:
    """One engine and its clock, in windows."""

    engine: ForecastingEngine
    counts: list[int]
    who: Who = WHO
    now_us: int = 0

    def ask(
        self, name: SeriesName = NAME, horizon_count: int = 3, start: int = 0
    ) -> tuple[Asking, Answer, list[Refit]]:
        end = start + len(self.counts)
        self.now_us = max(self.now_us, end * W)
        self.engine.on_history(name, told_of(points(self.counts, start), W), self.now_us)
        asking = self.engine.on_asked(name, self.who, (end + 1) * W, horizon_count, self.now_us)
        assert asking is not None
        answer = asking.answer()
        return asking, answer, self.engine.on_answered(asking, answer, self.now_us)

    def refit(self) -> Learned:
        *_, (refit,) = self.ask()
        learned = learn(refit.policy, refit.series, 10)
        self.engine.on_refitted(refit, learned, self.now_us)
        return learned


def stage(counts: list[int] | None = None, who: Who = WHO, **changes: float) -> Stage:
    kept = [100 + row % 3 for row in range(40)] if counts is None else counts
    return Stage(ForecastingEngine(replace(Settings(), **changes)), kept, who)  # type: ignore[arg-type]


def medians(answer: Answer) -> list[float]:
    return [round(one.requests.p50, 6) for one in answer.forecasts]


def test_before_anything_is_fitted_the_fallback_answers_and_a_refit_is_wanted() -> None:
    one = stage()
    _, answer, actions = one.ask()
    assert answer.label == "least_error"
    assert medians(answer) == [100.0] * 3
    (refit,) = actions
    assert (refit.name, refit.label, refit.policy, len(refit.series)) == (NAME, "level", Level(), 40)


def test_forecasts_begin_with_the_first_window_that_has_not_begun() -> None:
    _, answer, _ = stage().ask()
    assert [forecast.start_us // W for forecast in answer.forecasts] == [41, 42, 43]


def test_what_was_learned_answers_from_then_on() -> None:
    one = stage()
    one.refit()
    _, answer, actions = one.ask()
    assert answer.label == "level"
    assert medians(answer) == [500.0] * 3
    assert actions == []


def test_only_one_refit_of_a_series_is_on_its_way() -> None:
    one = stage()
    one.ask()
    one.now_us += 10 * 3_600 * US_PER_S
    assert one.ask()[2] == []


def test_a_refit_comes_again_after_its_time_and_not_before() -> None:
    one = stage(who=replace(WHO, policy=Drifting()))
    one.refit()
    one.now_us += 3_599 * US_PER_S
    assert one.ask()[2] == []
    one.now_us += US_PER_S
    assert len(one.ask()[2]) == 1


def test_each_failure_doubles_the_wait_for_the_next_try() -> None:
    one = stage(refit_s=100.0)
    for factor in (1, 2, 4, 8, 8):
        *_, (refit,) = one.ask()
        one.engine.on_refit_failed(refit, one.now_us)
        one.now_us += factor * 100 * US_PER_S - 1
        assert one.ask()[2] == []
        one.now_us += 1
    assert one.engine.counts.refit_failures == 5


def test_a_failed_refit_leaves_what_was_learned_before() -> None:
    one = stage(who=replace(WHO, policy=Drifting()), refit_s=1.0)
    one.refit()
    one.now_us += 2 * US_PER_S
    *_, (refit,) = one.ask()
    one.engine.on_refit_failed(refit, one.now_us)
    assert one.ask()[1].label == "level"


def test_a_short_history_is_not_worth_a_refit() -> None:
    assert stage([5] * (FIT_COUNT_MIN - 1)).ask()[2] == []
    assert len(stage([5] * FIT_COUNT_MIN).ask()[2]) == 1


def test_no_history_is_no_traffic() -> None:
    asking, answer, actions = stage([]).ask()
    assert medians(answer) == [0.0] * 3
    assert [forecast.start_us // W for forecast in answer.forecasts] == [1, 2, 3]
    assert (asking.history_count, actions) == (0, [])


@pytest.mark.parametrize("policy", [Level(points_fail=True), Level(math.nan), Level(-1.0), Level(1e12)])
def test_nonsense_counts_as_a_failure_and_the_fallback_answers(policy: Level) -> None:
    one = stage(who=replace(WHO, policy=policy))
    *_, (refit,) = one.ask()
    spread = learn(LastValue(), refit.series, 10).spread
    one.engine.on_refitted(refit, Learned(policy, spread), one.now_us)
    with np.errstate(invalid="ignore"):
        _, answer, _ = one.ask()
    assert answer.failure
    assert answer.label == "least_error"
    assert medians(answer) == [100.0] * 3
    assert one.engine.counts.answer_failures == 1
    assert not one.ask()[1].failure


def test_a_forecaster_that_cannot_be_fitted_says_so() -> None:
    with pytest.raises(ForecastFailed, match="cannot be fitted"):
        learn(Level(fit_fails=True), told_of(points([3] * 20), W).series, 3)
    with pytest.raises(ForecastFailed, match="ZeroDivisionError"):
        learn(Level(points_fail=True), told_of(points([3] * 20), W).series, 3)


def test_a_level_shift_brings_the_refit_forward() -> None:
    one = stage(who=replace(WHO, policy=Level(100.0)))
    one.refit()
    one.counts += [100] * 7
    one.counts += [400] * 2
    assert not one.ask()[1].is_shifted
    one.counts += [400]
    _, answer, actions = one.ask()
    assert answer.is_shifted
    assert len(actions) == 1
    assert one.engine.counts.shifts == 1


def test_shifts_bring_no_refits_in_quick_succession() -> None:
    one = stage(who=replace(WHO, policy=Level(100.0)))
    one.refit()
    one.counts += [400] * 5
    _, answer, actions = one.ask()
    assert answer.is_shifted
    assert actions == [], "five minutes are less than the tenth part of an hour"
    one.counts += [400]
    assert len(one.ask()[2]) == 1


def test_noise_is_no_level_shift() -> None:
    generator = np.random.default_rng(SEED)
    one = stage(generator.poisson(100, 200).tolist(), who=replace(WHO, policy=Level(100.0)))
    one.refit()
    for count in generator.poisson(100, 200).tolist():
        one.counts.append(count)
        assert not one.ask()[1].is_shifted


def test_another_forecaster_starts_anew() -> None:
    one = stage()
    one.refit()
    one.who = replace(WHO, label="other", policy=Drifting())
    _, answer, actions = one.ask()
    assert answer.label == "least_error"
    assert [refit.label for refit in actions] == ["other"]


def test_a_refit_of_a_forecaster_that_was_replaced_is_not_listened_to() -> None:
    one = stage()
    *_, (refit,) = one.ask()
    one.who = replace(WHO, label="other", policy=Drifting())
    one.ask()
    one.engine.on_refitted(refit, learn(refit.policy, refit.series, 10), one.now_us)
    assert one.ask()[1].label == "least_error"


def test_forecasters_that_fit_at_once_answer_under_their_own_name_and_want_no_refit() -> None:
    _, answer, actions = stage(who=replace(WHO, label="last_value", policy=LastValue())).ask()
    assert (answer.label, actions) == ("last_value", [])


def test_without_news_the_last_history_answers_for_a_while() -> None:
    one = stage()
    one.ask()
    late_us = one.now_us + 299 * US_PER_S
    asking = one.engine.on_asked(NAME, WHO, 46 * W, 2, late_us)
    assert asking is not None
    assert [forecast.start_us // W for forecast in asking.answer().forecasts] == [46, 47]
    assert one.engine.on_asked(NAME, WHO, 46 * W, 2, late_us + 2 * US_PER_S) is None
    assert one.engine.on_asked(replace(NAME, model="n"), WHO, 46 * W, 2, late_us) is None


def test_a_slow_answer_is_forgiven_once() -> None:
    one = stage(who=replace(WHO, policy=Drifting()))
    one.refit()
    for count in range(LATE_MAX):
        asking, *_ = one.ask()
        assert (asking.learned is not None) == (count < LATE_MAX)
        one.engine.on_answered(asking, asking.at_last("slow", is_late=True), one.now_us)
        if count + 1 < LATE_MAX:
            again = one.engine.on_asked(NAME, one.who, 41 * W, 1, one.now_us)
            assert again is not None
            assert again.learned is not None


def test_the_last_value_needs_no_work() -> None:
    asking, *_ = stage([5] * 10 + [9]).ask()
    answer = asking.at_last("slow")
    assert medians(answer) == [9.0] * 3
    assert (answer.label, answer.failure) == ("last_value", "slow")


def test_points_that_cannot_be_are_gaps_and_counted() -> None:
    bad = [
        WorkloadPoint(1 * W, -1, 5, 5),
        WorkloadPoint(2 * W, 5, 10**16, 5),
        WorkloadPoint(3 * W + 1, 5, 5, 5),
        WorkloadPoint(4 * W, math.nan, 5, 5),  # type: ignore[arg-type]
    ]
    told = told_of([*points([7]), *bad, *points([7], 5)], W)
    assert (told.count, told.masked_count) == (6, 4)
    assert np.isnan(told.series.values[1:5]).all()
    assert told.series.values[[0, 5], 0].tolist() == [7.0, 7.0]


def test_a_moving_history_keeps_the_start_that_was_fitted() -> None:
    one = stage(who=replace(WHO, policy=Drifting()))
    one.refit()
    asking, *_ = one.ask(start=5)
    assert (asking.series.start_us, len(asking.series), asking.told_from) == (0, 45, 5)
    assert asking.series.values[44, 0] == one.counts[-1]


def test_a_refit_reads_only_what_can_still_be_told() -> None:
    one = stage(who=replace(WHO, policy=Drifting()), refit_s=1.0)
    one.refit()
    *_, (refit,) = one.ask(start=5)
    assert (refit.series.start_us, len(refit.series)) == (5 * W, 40)


def test_a_history_that_has_moved_on_for_too_long_is_forgotten() -> None:
    one = stage(who=replace(WHO, policy=Drifting()))
    one.refit()
    asking, *_ = one.ask(start=60)
    assert (asking.series.start_us, asking.learned) == (60 * W, None)


def test_counts_tell_who_was_chosen() -> None:
    one = stage()
    learned = one.refit()
    assert one.engine.chosen() == {"level": 1}
    *_, (refit,) = one.ask(replace(NAME, model="n"))
    one.engine.on_refitted(refit, replace(learned, label="mstl+last_value"), one.now_us)
    assert one.engine.chosen() == {"level": 1, "level:mstl+last_value": 1}
    assert one.ask(replace(NAME, model="n"))[1].label == "level:mstl+last_value"


def test_leads_of_a_refit_cover_a_day_and_the_contract() -> None:
    assert lead_max_of(600 * US_PER_S) == 146
    assert lead_max_of(60 * US_PER_S) == 1_442
    assert lead_max_of(US_PER_S) == 1_442


def asked(known: list[WorkloadPoint], end: int, horizon_count: int) -> Asking:
    engine = ForecastingEngine(Settings())
    engine.on_history(NAME, told_of(known, W), end * W)
    asking = engine.on_asked(NAME, WHO, (end + 1) * W, horizon_count, end * W)
    assert asking is not None
    return asking


@settings(max_examples=40, deadline=None)
@given(
    counts=st.lists(st.integers(0, 50), min_size=2, max_size=60),
    span=st.integers(1, 40),
    steps=st.lists(st.integers(1, 5), max_size=8),
)
def test_reading_only_what_came_lately_leads_to_the_same_history(
    counts: list[int], span: int, steps: list[int]
) -> None:
    window_us = 600 * US_PER_S
    name, who = replace(NAME, window_us=window_us), replace(WHO, policy=LastValue())
    every = [WorkloadPoint(row * window_us, count, 10 * count, count) for row, count in enumerate(counts)]
    whole, partly = ForecastingEngine(Settings()), ForecastingEngine(Settings(refit_s=1e9))
    end = 1
    for step in (0, *steps):
        end = min(len(counts), end + step)
        since, now_us = max(0, end - span), end * window_us
        whole.on_history(name, told_of(every[since:end], window_us), now_us)
        from_us = partly.read_from(name, now_us)
        late = every[since if from_us is None else max(since, from_us // window_us) : end]
        partly.on_history(name, told_of(late, window_us, None if from_us is None else since * window_us), now_us)
        first, second = (engine.on_asked(name, who, (end + 1) * window_us, 2, now_us) for engine in (whole, partly))
        assert first is not None
        assert second is not None
        assert np.array_equal(first.series.values, second.series.values)
        assert first.answer() == second.answer()


def test_a_history_is_read_from_its_start_now_and_then_and_else_from_what_may_have_changed() -> None:
    one = stage([9] * 200)
    assert one.engine.read_from(NAME, 0) is None
    one.ask()
    assert one.engine.read_from(NAME, one.now_us) == 140 * W
    assert one.engine.read_from(NAME, one.now_us + 3_600 * US_PER_S - 1) == 140 * W
    assert one.engine.read_from(NAME, one.now_us + 3_600 * US_PER_S) is None


def test_requests_that_ended_late_count_where_they_arrived() -> None:
    one = stage([9] * 200)
    one.ask()
    late = told_of([WorkloadPoint(row * W, 10, 0, 0) for row in range(140, 202)], W, 0)
    one.engine.on_history(NAME, late, one.now_us)
    asking = one.engine.on_asked(NAME, WHO, 203 * W, 1, one.now_us)
    assert asking is not None
    assert asking.series.values[:, 0].tolist() == [9] * 140 + [10] * 62


@settings(max_examples=30, deadline=None)
@given(names=st.lists(st.integers(0, 30), max_size=60), series_max=st.integers(1, 8))
def test_however_many_series_are_asked_for_only_so_many_are_remembered(names: list[int], series_max: int) -> None:
    one = stage([4] * 20, series_max=series_max)
    for name in names:
        one.ask(replace(NAME, model=f"m{name}"))
        assert one.engine.series_count <= series_max
    assert one.engine.series_count == min(series_max, len(set(names)))


@settings(max_examples=25, deadline=None)
@given(
    counts=st.lists(st.integers(0, 10_000), min_size=1, max_size=80),
    later=st.lists(st.integers(0, 10_000), max_size=20),
    horizon_count=st.integers(1, 30),
)
def test_a_forecast_knows_nothing_of_later_and_is_orderly(
    counts: list[int], later: list[int], horizon_count: int
) -> None:
    end = len(counts)
    first, second = (asked(points(known)[:end], end, horizon_count) for known in (counts, counts + later))
    answer = first.answer()
    assert answer == second.answer()
    assert len(answer.forecasts) == horizon_count
    for one in answer.forecasts:
        for quantiles in (one.requests, one.prompt_tokens, one.response_tokens):
            values = (quantiles.p10, quantiles.p50, quantiles.p90, quantiles.p97)
            assert 0 <= values[0] <= values[1] <= values[2] <= values[3] < math.inf
