"""The anticipator against sums over its requests, under any sequence of what happens to them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forebay.core.anticipation import CONDITIONAL, CONDITIONAL_MEDIAN, PRESERVE_ARTIFACT, PRESERVE_PAPER, LengthRule
from forebay.core.prediction import remaining_tokens
from forebay.scheduler.anticipator import REACH, WINDOWS, Anticipator, Anticipators
from forebay.scheduler.leases import Lease
from tests.unit.scheduler.kit import lease

RULES = (CONDITIONAL, CONDITIONAL_MEDIAN, PRESERVE_PAPER, PRESERVE_ARTIFACT)
HORIZON = 40


def empty(count: int = 1, rule: LengthRule = PRESERVE_PAPER) -> Anticipator:
    return Anticipator([{} for _ in range(count)], rule)


def begun(anticipator: Anticipator, index: int, one: Lease, generated: int = 1) -> Lease:
    anticipator.open(index, one)
    one.generated_tokens = generated
    anticipator.progress(index, one)
    return one


def test_an_answer_holds_its_prompt_and_one_token_more_each_iteration_until_its_end() -> None:
    anticipator = empty()
    begun(anticipator, 0, lease("a", prompt=100, median=50), generated=10)
    assert anticipator.peak(1).tolist() == [110]
    assert anticipator.peak(10).tolist() == [119]
    assert anticipator.peak(1_000).tolist() == [149]


def test_the_peak_lies_just_before_the_first_of_two_ends_where_they_overlap() -> None:
    anticipator = empty()
    begun(anticipator, 0, lease("a", prompt=100, median=20), generated=1)
    begun(anticipator, 0, lease("b", prompt=30, median=90), generated=1)
    # 19 iterations from now: 100 + 19 and 30 + 19; afterwards b alone, up to 30 + 89.
    assert anticipator.peak(200).tolist() == [100 + 19 + 30 + 19]


def test_one_more_request_counts_on_every_instance_from_now_to_its_own_end() -> None:
    anticipator = empty(2)
    begun(anticipator, 0, lease("a", prompt=100, median=21), generated=1)
    assert anticipator.peak_with(10, 5, 200).tolist() == [max(101 + 4 + 10 + 4, 120), 14]
    assert anticipator.peak_with(10, 50, 200).tolist() == [max(101 + 19 + 10 + 19, 10 + 49), 59]
    assert anticipator.peak_with(10, 0, 200).tolist() == anticipator.peak(200).tolist()


def test_a_request_that_waits_counts_from_when_the_prompts_before_it_have_been_read() -> None:
    anticipator = empty()
    anticipator.open(0, lease("a", prompt=3_000, median=10))
    assert anticipator.peak(2).tolist() == [0]
    assert anticipator.peak(3).tolist() == [3_000]
    anticipator.open(0, lease("b", prompt=2_000, median=10))
    assert anticipator.peak(4).tolist() == [3_000 + 1 + 2_000]


def test_a_request_that_gives_no_token_is_expected_as_much_later_as_it_has_waited() -> None:
    anticipator = empty()
    running = begun(anticipator, 0, lease("a", prompt=1, median=500))
    anticipator.open(0, lease("b", prompt=1_000, median=50))
    running.generated_tokens = 11
    anticipator.progress(0, running)
    assert anticipator.peak(1).tolist() == [1 + 11]
    waited = 10
    assert anticipator.peak(waited + 1).tolist() == [1 + 11 + waited + 1_000]


def test_an_overrun_goes_on_as_the_rule_says() -> None:
    total = {}
    for rule in RULES:
        anticipator = empty(1, rule)
        begun(anticipator, 0, lease("a", prompt=100, median=50), generated=130)
        total[rule] = int(anticipator.footprint_tokens[0]) - 100
    assert total[PRESERVE_PAPER] == 140
    assert total[PRESERVE_ARTIFACT] == 50 + 3 * 30
    assert total[CONDITIONAL] == 130 + round(remaining_tokens((25, 50, 100, 150), 130))
    # 94.2 % are shorter than 130: half of the rest is shorter than the quantile at 97.1 %, 150 + 21.4 / 30.
    assert total[CONDITIONAL_MEDIAN] == 151


def test_the_artifact_gives_an_answer_ten_tokens_before_it_is_taken_to_be_longer() -> None:
    anticipator = empty(1, PRESERVE_ARTIFACT)
    one = begun(anticipator, 0, lease("a", prompt=100, median=50), generated=59)
    assert anticipator.footprint_tokens.tolist() == [150]
    assert anticipator.peak(100).tolist() == [0]
    one.generated_tokens = 60
    anticipator.progress(0, one)
    assert anticipator.footprint_tokens.tolist() == [180]
    assert anticipator.peak(100).tolist() == [179]


def test_a_conditional_answer_never_passes_its_own_limit() -> None:
    anticipator = empty(1, CONDITIONAL)
    begun(anticipator, 0, lease("a", prompt=100, median=50, tokens_max=60), generated=58)
    assert anticipator.footprint_tokens.tolist() == [160]


def test_an_early_end_is_taken_off_at_once() -> None:
    anticipator = empty()
    one = begun(anticipator, 0, lease("a", prompt=100, median=500), generated=10)
    anticipator.end(0, one)
    assert anticipator.peak(400).tolist() == [0]
    assert anticipator.footprint_tokens.tolist() == [0]


def test_the_clock_goes_with_the_furthest_and_a_request_that_lags_stands_where_it_says() -> None:
    anticipator = empty()
    fast = begun(anticipator, 0, lease("a", prompt=100, median=500))
    slow = begun(anticipator, 0, lease("b", prompt=50, median=500))
    fast.generated_tokens = 41
    anticipator.progress(0, fast)
    assert anticipator.peak(1).tolist() == [141 + 91]
    slow.generated_tokens = 31
    anticipator.progress(0, slow)
    assert anticipator.peak(1).tolist() == [141 + 81]


def test_a_horizon_longer_than_the_usual_one_is_answered_all_the_same() -> None:
    anticipator = empty()
    begun(anticipator, 0, lease("a", prompt=7, median=5_000))
    assert anticipator.peak(4_000).tolist() == [7 + 4_000]


def test_an_anticipator_is_there_once_it_is_asked_for_with_all_that_runs_by_then() -> None:
    opened = [{}, {"l-a": lease("a", prompt=100, median=50, generated=10)}]
    anticipations = Anticipators(opened)
    anticipations.open(0, lease("unasked", prompt=1, median=1))
    assert anticipations.by(CONDITIONAL) is anticipations.by(LengthRule())
    assert anticipations.by(PRESERVE_PAPER).peak(1).tolist() == [0, 110]


def test_a_fleet_that_changes_takes_clocks_and_rows_along() -> None:
    before: list[dict[str, Lease]] = [{}, {}]
    old = Anticipators(before)
    asked = [old.by(CONDITIONAL), old.by(PRESERVE_PAPER)]
    one, other, new = lease("a", prompt=100, median=500), lease("b", prompt=50, median=500), lease("c", 7, 30)
    for index, each in ((1, one), (1, other), (0, new)):
        before[index][each.placement.lease_id] = each
        old.open(index, each)
    one.generated_tokens = 41
    old.progress(1, one)
    after: list[dict[str, Lease]] = [{}, {}, {}]
    taken = Anticipators(after)
    for index, former in ((2, 1), (0, 0)):
        taken.take(index, old, former)
        after[index].update(before[former])
    for rule, known in zip((CONDITIONAL, PRESERVE_PAPER), asked, strict=True):
        peaks = known.peak(200).tolist()
        assert taken.by(rule).peak(200).tolist() == [peaks[0], 0, peaks[1]]
    other.generated_tokens = 3
    taken.progress(2, other)
    assert taken.by(CONDITIONAL).peak(1)[2] == 100 + 41 + 50 + 3
    taken.end(2, one)
    taken.end(2, other)
    assert taken.by(CONDITIONAL).peak(200)[2] == 0


def test_an_instance_of_which_nobody_asked_before_is_taken_with_its_leases() -> None:
    aside: list[dict[str, Lease]] = [{"l-a": lease("a", prompt=100, median=50, generated=10)}]
    after: list[dict[str, Lease]] = [{}, {}]
    taken = Anticipators(after)
    taken.by(CONDITIONAL)
    taken.take(1, Anticipators(aside), 0)
    after[1].update(aside[0])
    assert taken.by(CONDITIONAL).peak(1).tolist() == [0, 110]
    assert taken.by(PRESERVE_PAPER).peak(1).tolist() == [0, 110]


# Any sequence of events


@dataclass
class Brute:
    """The same by one sum an iteration."""

    anticipator: Anticipator

    def held(self, index: int, ahead: int) -> int:
        self.anticipator.peak(1)
        track = self.anticipator._tracks[index]
        rows, now = track.rows.values(), track.clock + ahead
        return sum(row.prompt_tokens + now - row.start for row in rows if row.start <= now < row.end)

    def peak(self, index: int, horizon: int, prompt: int = 0, answer: int = 0) -> int:
        return max(self.held(index, i) + (prompt + i if i < answer else 0) for i in range(horizon))


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["open", "progress", "progress", "progress", "end"]),
        st.integers(0, 7),
        st.integers(0, 5_000),
        st.integers(1, 60),
    ),
    max_size=40,
)


Open = dict[str, tuple[int, Lease]]


def play(anticipator: Anticipator, steps: list[tuple[str, int, int, int]], before: Open | None = None) -> Open:
    open_leases: Open = before or {}
    for kind, number, prompt, tokens in steps:
        name = f"r{number}"
        if kind == "open" and name not in open_leases:
            open_leases[name] = number % 2, lease(name, prompt, tokens)
            anticipator.open(*open_leases[name])
        elif kind == "progress" and name in open_leases:
            index, one = open_leases[name]
            one.generated_tokens += tokens
            anticipator.progress(index, one)
        elif kind == "end" and name in open_leases:
            anticipator.end(*open_leases.pop(name))
    return open_leases


@given(STEPS, st.sampled_from(RULES), st.integers(1, HORIZON), st.integers(0, 900), st.integers(0, 60))
@settings(max_examples=300, deadline=None)
def test_questions_are_answered_as_by_sums_over_the_requests(
    steps: Any, rule: LengthRule, horizon: int, prompt: int, answer: int
) -> None:
    anticipator = Anticipator([{}, {}], rule, reach=HORIZON)
    open_leases = play(anticipator, steps)
    brute = Brute(anticipator)
    for index in (0, 1):
        assert anticipator.peak(horizon)[index] == brute.peak(index, horizon)
        assert anticipator.peak_with(prompt, answer, horizon)[index] == brute.peak(index, horizon, prompt, answer)
        there = [one for at, one in open_leases.values() if at == index]
        assert set(anticipator._tracks[index].rows) == {one.placement.lease_id for one in there}
        assert anticipator._tracks[index].pending_tokens == sum(
            one.request.prompt_tokens for one in there if not one.generated_tokens
        )
    assert (anticipator.peak(1) >= 0).all()


@given(STEPS, st.sampled_from([CONDITIONAL, PRESERVE_PAPER]))
@settings(max_examples=200, deadline=None)
def test_what_is_held_now_is_what_the_leases_hold_once_all_have_reported(steps: Any, rule: LengthRule) -> None:
    anticipator = Anticipator([{}, {}], rule, reach=HORIZON)
    open_leases = play(anticipator, steps)
    for _ in range(2):  # Twice: the last of the first round may have moved the clock on.
        for index, one in open_leases.values():
            one.generated_tokens = max(1, one.generated_tokens)
            anticipator.progress(index, one)
    for index in (0, 1):
        there = [one for at, one in open_leases.values() if at == index]
        assert anticipator.peak(1)[index] == sum(one.request.prompt_tokens + one.generated_tokens for one in there)


@given(STEPS, STEPS, st.sampled_from(RULES), st.sampled_from([HORIZON, 2 * HORIZON]))
@settings(max_examples=100, deadline=None)
def test_who_takes_an_instance_over_goes_on_as_if_nothing_had_happened(
    steps: Any, later: Any, rule: LengthRule, reach: int
) -> None:
    stays, moves = Anticipator([{}, {}], rule, reach=HORIZON), Anticipator([{}, {}], rule, reach=HORIZON)
    known = [play(one, steps) for one in (stays, moves)]
    taken = Anticipator([{}, {}], rule, reach=reach)
    for index in (0, 1):
        taken.adopt(index, moves, index)
    play(stays, later, known[0])
    play(taken, later, known[1])
    for horizon in (1, 7, HORIZON):
        assert taken.peak(horizon).tolist() == stays.peak(horizon).tolist()
    assert taken.footprint_tokens.tolist() == stays.footprint_tokens.tolist()


@given(STEPS, st.sampled_from(RULES), st.integers(0, 3_000), st.integers(1, 300))
@settings(max_examples=200, deadline=None)
def test_opening_and_ending_a_request_changes_nothing(steps: Any, rule: LengthRule, prompt: int, median: int) -> None:
    anticipator = Anticipator([{}, {}], rule, reach=HORIZON)
    play(anticipator, steps)
    before = [anticipator.peak(horizon).tolist() for horizon in range(1, HORIZON + 1)]
    one = lease("one more", prompt, median)
    anticipator.open(0, one)
    anticipator.end(0, one)
    assert [anticipator.peak(horizon).tolist() for horizon in range(1, HORIZON + 1)] == before


@given(
    st.permutations(range(6)),
    st.lists(st.tuples(st.integers(1, 900), st.integers(1, 60), st.integers(1, 90)), min_size=6, max_size=6),
    st.sampled_from(RULES),
)
@settings(max_examples=200, deadline=None)
def test_the_order_in_which_requests_came_does_not_matter(order: Any, sizes: Any, rule: LengthRule) -> None:
    def built(numbers: Any) -> Anticipator:
        leases = {f"l-r{n}": lease(f"r{n}", sizes[n][0], sizes[n][1], sizes[n][2]) for n in numbers}
        return Anticipator([leases], rule, reach=HORIZON)

    first, second = built(range(6)), built(order)
    for horizon in range(1, HORIZON + 1):
        assert first.peak(horizon).tolist() == second.peak(horizon).tolist()
    assert first.footprint_tokens.tolist() == second.footprint_tokens.tolist()


@pytest.mark.parametrize("rule", RULES)
def test_an_instance_that_runs_for_long_is_laid_out_anew_without_a_difference(rule: LengthRule) -> None:
    anticipator = Anticipator([{}], rule)
    running: list[Lease] = []
    chance = np.random.default_rng(1)
    for number in range(3 * REACH * WINDOWS):
        if number % 9 == 0:
            running.append(begun(anticipator, 0, lease(f"r{number}", int(chance.integers(1, 300)), 40)))
        for one in running:
            one.generated_tokens += 1
            anticipator.progress(0, one)
        if len(running) > 8:
            anticipator.end(0, running.pop(0))
    assert anticipator.peak(REACH)[0] == Brute(anticipator).peak(0, REACH) > 0
    if not rule.grace_tokens:
        assert anticipator.peak(1)[0] == sum(one.request.prompt_tokens + one.generated_tokens for one in running)


@pytest.mark.parametrize("step", [1, 7, 10])
def test_what_is_held_step_by_step_is_what_the_peaks_say(step: int) -> None:
    anticipator = empty(2)
    begun(anticipator, 0, lease("a", prompt=100, median=20), generated=1)
    begun(anticipator, 0, lease("b", prompt=30, median=90), generated=1)
    anticipator.open(0, lease("c", prompt=3_000, median=10))
    begun(anticipator, 1, lease("d", prompt=9, median=500), generated=3)
    held = anticipator.held(step, 30)
    assert held.shape == (2, 30)
    # With one iteration a step, the most of the first n values is the peak within n iterations.
    if step == 1:
        for horizon in range(1, 31):
            assert held[:, :horizon].max(axis=1).tolist() == anticipator.peak(horizon).tolist()
    else:
        assert held.tolist() == anticipator.held(1, 30 * step)[:, ::step].tolist()


def test_a_look_far_ahead_makes_nothing_larger_that_is_kept_ready() -> None:
    anticipator = empty()
    begun(anticipator, 0, lease("a", prompt=100, median=50), generated=10)
    assert anticipator.held(100, 200)[0].tolist() == [110, *[0] * 199]
    assert anticipator._reach == REACH


def test_where_nothing_runs_nothing_is_held() -> None:
    assert empty(3).held(10, 4).tolist() == [[0] * 4] * 3
