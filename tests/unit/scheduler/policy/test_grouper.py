"""Magnus' formulas on cases computed by hand, and what each switch of the family changes."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.scheduler.policy.grouper import GROUPERS
from forebay.scheduler.policy.grouper.base import NEW_BATCH, Batches, Grouper, JoinView, PickView, Room, reads_of
from forebay.scheduler.policy.grouper.magnus import Abp, Glp, Magnus, Vs, Vsq, fixed_size, joined, wasted_reads

S = 1_000_000
ROOM = Room(kv_tokens_max=4_096, context_tokens_max=1_024, request_count_max=64)
Lengths = list[tuple[int, int]]


def batches(*groups: Lengths, oldest_us: list[int] | None = None, closed: list[bool] | None = None) -> Batches:
    """Batches of requests given by (prompt, predicted answer)."""
    reads = [[reads_of(*one) for one in group] for group in groups]
    times = oldest_us or [0] * len(groups)
    return Batches(
        np.array([len(group) for group in groups]),
        np.array([max(prompt for prompt, _ in group) for group in groups]),
        np.array([max(answer for _, answer in group) for group in groups]),
        np.array([min(row) for row in reads]),
        np.array([sum(row) for row in reads]),
        np.array(times),
        np.array(times),
        np.array(closed or [False] * len(groups)),
    )


def by_definition(group: Lengths) -> list[int]:
    """WMA of each request as the paper writes it: padding read while it decodes, everything read while it waits."""
    prompt_max, answer_max = max(prompt for prompt, _ in group), max(answer for _, answer in group)
    return [
        answer * (prompt_max - prompt) + sum(step + prompt_max for step in range(answer, answer_max))
        for prompt, answer in group
    ]


def join(grouper: Grouper, prompt: int, answer: int, there: Batches, room: Room = ROOM) -> int:
    return grouper.join(JoinView(prompt, answer, there, room))


def test_wasted_reads_are_those_of_a_case_by_hand() -> None:
    # Request (2, 1) in a batch with L = 4, G = 3: 1 * (4 - 2) of padding, then (1 + 4) + (2 + 4) while it waits.
    group = [(4, 3), (2, 1)]
    assert by_definition(group) == [0, 13]
    assert wasted_reads(batches(group), "max").tolist() == [13]
    assert wasted_reads(batches(group, [(4, 3)]), "sum").tolist() == [13, 0]


@given(st.lists(st.tuples(st.integers(1, 300), st.integers(1, 300)), min_size=1, max_size=8))
def test_five_numbers_a_batch_tell_its_wasted_reads(group: Lengths) -> None:
    waste = by_definition(group)
    assert wasted_reads(batches(group), "max").tolist() == [max(waste)]
    assert wasted_reads(batches(group), "sum").tolist() == [sum(waste)]
    after = joined(JoinView(7, 9, batches(group), ROOM))
    assert wasted_reads(after, "max").tolist() == [max(by_definition([*group, (7, 9)]))]
    assert wasted_reads(after, "sum").tolist() == [sum(by_definition([*group, (7, 9)]))]


def test_equal_lengths_waste_nothing() -> None:
    there = batches([(30, 20)] * 5, [(7, 9)] * 2)
    assert wasted_reads(there, "max").tolist() == wasted_reads(there, "sum").tolist() == [0, 0]


def test_a_request_joins_the_batch_in_which_least_is_wasted() -> None:
    there = batches([(100, 100)], [(10, 10)], [(50, 50)])
    assert [join(Magnus(), length, length, there) for length in (12, 48, 95)] == [1, 2, 0]


def test_no_batch_takes_a_request_beyond_the_bound_of_its_waste() -> None:
    there = batches([(100, 100)])
    waste = max(by_definition([(100, 100), (10, 10)]))
    assert join(Magnus(wma_max=waste), 10, 10, there) == NEW_BATCH
    assert join(Magnus(wma_max=waste + 1), 10, 10, there) == 0


def test_no_batch_takes_a_request_beyond_its_memory_its_seats_or_when_closed() -> None:
    there = batches([(100, 100)] * 3)
    assert join(Magnus(), 100, 100, there, replace(ROOM, kv_tokens_max=800)) == 0
    assert join(Magnus(), 100, 100, there, replace(ROOM, kv_tokens_max=799)) == NEW_BATCH
    assert join(Magnus(memory_share=0.5), 100, 100, there, replace(ROOM, kv_tokens_max=1_599)) == NEW_BATCH
    assert join(Magnus(), 100, 100, there, replace(ROOM, request_count_max=3)) == NEW_BATCH
    assert join(Magnus(), 100, 100, there._replace(closed=np.array([True]))) == NEW_BATCH


@given(
    st.lists(st.tuples(st.integers(1, 900), st.integers(1, 900)), min_size=1, max_size=30),
    st.sampled_from(["max", "sum"]),
    st.sampled_from([1_000.0, 50_000.0]),
)
def test_predicted_memory_is_never_exceeded_but_by_one_request_alone(
    requests: Lengths, aggregate: str, wma_max: float
) -> None:
    grouper, groups = Magnus(aggregate=aggregate, wma_max=wma_max), list[Lengths]()
    for prompt, answer in requests:
        index = join(grouper, prompt, answer, batches(*groups))
        if index == NEW_BATCH:
            groups.append([])
        groups[index].append((prompt, answer))
    for group in groups:
        memory = len(group) * (max(prompt for prompt, _ in group) + max(answer for _, answer in group))
        assert len(group) == 1 or memory <= ROOM.kv_tokens_max
        assert len(group) == 1 or wasted_reads(batches(group), aggregate)[0] < wma_max


def test_fixed_batches_hold_as_many_as_fit_at_their_longest() -> None:
    assert fixed_size(ROOM) == 4
    assert fixed_size(replace(ROOM, kv_tokens_max=14_336, context_tokens_max=2_048)) == 7
    assert fixed_size(replace(ROOM, request_count_max=3)) == 3
    assert fixed_size(replace(ROOM, kv_tokens_max=100)) == 1
    assert fixed_size(replace(ROOM, context_tokens_max=0)) == 8


@pytest.mark.parametrize("grouper", [Vs(), Vsq()])
def test_vanilla_fills_the_oldest_batch_whatever_the_lengths(grouper: Grouper) -> None:
    there = batches([(10, 10)] * 4, [(10, 10)] * 3, [(900, 900)])
    assert join(grouper, 900, 900, there) == 1
    assert join(grouper, 10, 10, batches([(10, 10)] * 4)) == NEW_BATCH


def test_glp_fills_the_batch_whose_answers_are_alike() -> None:
    there = batches([(10, 300)], [(10, 100)] * 3, [(10, 90)] * 4)
    assert join(Glp(), 900, 120, there) == 1
    assert join(Glp(), 10, 40, there) == NEW_BATCH
    assert join(Glp(length_ratio_max=10.0), 10, 40, there) == 1


@given(st.lists(st.tuples(st.integers(1, 200), st.just(50)), min_size=1, max_size=25))
def test_with_a_constant_prediction_glp_is_vs(requests: Lengths) -> None:
    made = [list[Lengths](), list[Lengths]()]
    for grouper, groups in zip((Glp(), Vs()), made, strict=True):
        for prompt, answer in requests:
            index = join(grouper, prompt, answer, batches(*groups))
            if index == NEW_BATCH:
                groups.append([])
            groups[index].append((prompt, answer))
    assert made[0] == made[1]


def test_the_first_request_opens_a_batch() -> None:
    nothing = Batches(*(np.zeros(0, dtype=np.int64),) * 7, closed=np.zeros(0, dtype=np.bool_))
    assert {join(made(), 10, 10, nothing) for made in GROUPERS.values()} == {NEW_BATCH}


def test_magnus_runs_the_highest_response_ratio_and_the_others_the_oldest() -> None:
    there = batches([(10, 100)], [(10, 10)], oldest_us=[0, 5 * S])
    view = PickView(10 * S, there, np.array([20.0, 2.0]))
    assert Magnus().pick(view) == 1
    assert [grouper.pick(view) for grouper in (Abp(), Glp(), Vs(), Vsq())] == [0, 0, 0, 0]
    assert Magnus().pick(view._replace(serving_s=np.array([20.0, 10.0]))) == 0


def test_waiting_counts_from_the_oldest_or_on_average() -> None:
    there = batches([(10, 10)], [(10, 10)], oldest_us=[0, 1 * S])._replace(mean_us=np.array([9 * S, 2 * S]))
    view = PickView(10 * S, there, np.array([1.0, 1.0]))
    assert (Magnus().pick(view), Magnus(wait="mean").pick(view)) == (0, 1)


@pytest.mark.parametrize(
    "wrong",
    [{"wma_max": -1.0}, {"length_ratio_max": 0.9}, {"aggregate": "mean"}, {"wait": "first"}, {"memory_share": 0.0}],
)
def test_parameters_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Magnus(**wrong)  # type: ignore[arg-type]
